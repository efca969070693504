//! STUN on a SIP socket (RFC 5626 §8): the Binding request by which a client keeps its NAT open and learns whether its flow
//! still stands, and the answer to it. Nothing else of RFC 5389 is spoken here.
//!
//! ```text
//! head        type u16 ‖ length u16 ‖ magic cookie u32 ‖ transaction id, 12 octets
//! attribute   type u16 ‖ length u16 ‖ value, padded to four octets
//! ```

use std::net::{IpAddr, SocketAddr};

/// RFC 5389 §6.
const MAGIC: [u8; 4] = 0x2112_A442u32.to_be_bytes();
const HEAD: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
/// RFC 5389 §15.5.
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// Attributes of RFC 5389 §18.2 below 0x8000: they are known, and mean nothing to who asks nobody for credentials.
const KNOWN: [u16; 8] = [0x0001, 0x0006, 0x0008, ERROR_CODE, UNKNOWN_ATTRIBUTES, 0x0014, 0x0015, XOR_MAPPED_ADDRESS];
/// Unknown attributes that one error answer names; a sane request has none.
const NAMED: usize = 8;

/// Whether a datagram is STUN and no SIP: its first two bits are zero, and the magic cookie stands where it should
/// (RFC 5389 §6). A SIP message begins with a letter, a keepalive of line ends or NULs is shorter or has no cookie.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xC0 == 0) && datagram.get(4..8) == Some(&MAGIC)
}

/// What a datagram of STUN is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stun<'a> {
    /// A Binding request, to be answered.
    Request(Request<'a>),
    /// An indication or an answer: nobody owes it anything.
    Other,
}

/// A Binding request that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    id: &'a [u8],
    has_fingerprint: bool,
    /// Attributes that must be understood and are not.
    unknown: [u16; NAMED],
    unknown_count: usize,
}

/// Reads a datagram that [`is_stun`]. Nothing for what is malformed, has a wrong fingerprint or asks for another method:
/// it is dropped (RFC 5389 §7.3).
pub fn read(datagram: &[u8]) -> Option<Stun<'_>> {
    let number = |at: usize| Some(u16::from_be_bytes(*datagram.get(at..at + 2)?.first_chunk()?));
    let (kind, length) = (number(0)?, usize::from(number(2)?));
    if length % 4 != 0 || datagram.len() != HEAD + length {
        return None;
    }
    // RFC 5389 §6: the class stands in bits 4 and 8, the method in the others.
    if kind & 0x3EEF != 0x0001 {
        return None;
    }
    let mut request = Request { id: &datagram[8..HEAD], has_fingerprint: false, unknown: [0; NAMED], unknown_count: 0 };
    let mut at = HEAD;
    while at < datagram.len() {
        let (attribute, size) = (number(at)?, usize::from(number(at + 2)?));
        let value = datagram.get(at + 4..at + 4 + size)?;
        match attribute {
            FINGERPRINT => {
                let is_last = at + 8 == datagram.len();
                if !is_last || value != fingerprint(&datagram[..at]).to_be_bytes() {
                    return None;
                }
                request.has_fingerprint = true;
            }
            // RFC 5389 §15: from 0x8000 on they may be passed over.
            0x8000.. => {}
            _ if KNOWN.contains(&attribute) => {}
            _ => {
                if let Some(place) = request.unknown.get_mut(request.unknown_count) {
                    *place = attribute;
                    request.unknown_count += 1;
                }
            }
        }
        at += 4 + size.next_multiple_of(4);
    }
    Some(if kind == BINDING_REQUEST { Stun::Request(request) } else { Stun::Other })
}

/// Appends the answer: where the request came from (RFC 5389 §15.2), or, when it has attributes that must be understood
/// and are not, 420 with their names (§7.3.1). With a fingerprint when the request had one.
pub fn answer(out: &mut Vec<u8>, request: &Request<'_>, source: SocketAddr) {
    let start = out.len();
    let kind = if request.unknown_count == 0 { BINDING_SUCCESS } else { BINDING_ERROR };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(request.id);
    if request.unknown_count == 0 {
        write_address(out, request.id, source);
    } else {
        write_unknown(out, &request.unknown[..request.unknown_count]);
    }
    // The length counts the fingerprint before it is reckoned (§15.5).
    let length = out.len() - start - HEAD + if request.has_fingerprint { 8 } else { 0 };
    out[start + 2..start + 4].copy_from_slice(&(length as u16).to_be_bytes());
    if request.has_fingerprint {
        let sum = fingerprint(&out[start..]);
        write_head(out, FINGERPRINT, 4);
        out.extend_from_slice(&sum.to_be_bytes());
    }
}

/// XOR-MAPPED-ADDRESS: the port by the first half of the cookie, the address by cookie and transaction id.
fn write_address(out: &mut Vec<u8>, id: &[u8], source: SocketAddr) {
    let port = source.port() ^ u16::from_be_bytes([MAGIC[0], MAGIC[1]]);
    let mask = MAGIC.iter().chain(id);
    match source.ip().to_canonical() {
        IpAddr::V4(ip) => {
            write_head(out, XOR_MAPPED_ADDRESS, 8);
            out.extend_from_slice(&[0, 1]);
            out.extend_from_slice(&port.to_be_bytes());
            out.extend(ip.octets().iter().zip(mask).map(|(octet, mask)| octet ^ mask));
        }
        IpAddr::V6(ip) => {
            write_head(out, XOR_MAPPED_ADDRESS, 20);
            out.extend_from_slice(&[0, 2]);
            out.extend_from_slice(&port.to_be_bytes());
            out.extend(ip.octets().iter().zip(mask).map(|(octet, mask)| octet ^ mask));
        }
    }
}

fn write_unknown(out: &mut Vec<u8>, unknown: &[u16]) {
    const PHRASE: &[u8; 17] = b"Unknown Attribute";
    write_head(out, ERROR_CODE, 4 + PHRASE.len() as u16);
    out.extend_from_slice(&[0, 0, 4, 20]);
    out.extend_from_slice(PHRASE);
    pad(out, PHRASE.len());
    write_head(out, UNKNOWN_ATTRIBUTES, 2 * unknown.len() as u16);
    unknown.iter().for_each(|attribute| out.extend_from_slice(&attribute.to_be_bytes()));
    pad(out, 2 * unknown.len());
}

fn write_head(out: &mut Vec<u8>, attribute: u16, length: u16) {
    out.extend_from_slice(&attribute.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
}

fn pad(out: &mut Vec<u8>, length: usize) {
    out.extend(std::iter::repeat_n(0, length.next_multiple_of(4) - length));
}

/// RFC 5389 §15.5: the CRC-32 of all that stands before the attribute.
fn fingerprint(before: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let sum = before.iter().fold(!0u32, |sum, octet| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ octet)]);
    !sum ^ FINGERPRINT_XOR
}

const fn table() -> [u32; 256] {
    let (mut table, mut at) = ([0; 256], 0);
    while at < 256 {
        let (mut sum, mut bit) = (at as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { 0xEDB8_8320 ^ sum >> 1 } else { sum >> 1 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 §2.1: a request with SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME, MESSAGE-INTEGRITY and FINGERPRINT.
    const SAMPLE: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff\
        80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
        80280004e57a3bcf";

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    fn bare(kind: u16, rest: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(rest.len() as u16).to_be_bytes(), &MAGIC, &[7; 12], rest].concat()
    }

    fn answered(request: &[u8], source: &str) -> Option<Vec<u8>> {
        assert!(is_stun(request));
        match read(request)? {
            Stun::Request(request) => {
                let mut out = b"before".to_vec();
                answer(&mut out, &request, source.parse().unwrap());
                Some(out[6..].to_vec())
            }
            Stun::Other => None,
        }
    }

    #[test]
    fn a_binding_request_is_told_where_it_came_from() {
        let pong = answered(&bare(1, &[]), "192.0.2.1:32853").unwrap();
        // RFC 5769 §2.2 has the same address and port.
        assert_eq!(pong, bare(0x0101, &octets("00200008 0001a147 e112a643")));
        let six = answered(&bare(1, &[]), "[2001:db8:1234:5678:11:2233:4455:6677]:32853").unwrap();
        assert_eq!(six[20..28], octets("00200014 0002a147"));
        let unmasked: Vec<u8> = six[28..].iter().zip(MAGIC.iter().chain(&[7; 12])).map(|(a, b)| a ^ b).collect();
        assert_eq!(unmasked, octets("20010db8123456780011223344556677"));
        assert_eq!(
            answered(&bare(1, &[]), "[::ffff:192.0.2.1]:32853").unwrap(),
            pong,
            "a mapped address is the address"
        );
    }

    #[test]
    fn a_fingerprint_is_verified_and_given_back() {
        // RFC 5769 §2.1: PRIORITY (0x0024) is ICE's, and so unknown here: 420 (RFC 5389 §7.3.1).
        let pong = answered(&octets(SAMPLE), "192.0.2.1:32853").unwrap();
        assert_eq!(pong[..2], BINDING_ERROR.to_be_bytes());
        assert_eq!(pong[20..28], octets("0009001500000414"));
        assert_eq!(pong[48..56], octets("000a000200240000"));
        let (before, last) = pong.split_at(pong.len() - 8);
        assert_eq!(last, [&octets("80280004")[..], &fingerprint(before).to_be_bytes()].concat());
        assert_eq!(usize::from(pong[3]), pong.len() - HEAD);

        let mut forged = octets(SAMPLE);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(read(&forged), None);
        // Behind it nothing may stand.
        let head = bare(1, &[0; 12])[..20].to_vec();
        let sum = fingerprint(&head).to_be_bytes();
        let rest = [&octets("80280004")[..], &sum, &octets("80220000")].concat();
        assert_eq!(read(&[&head[..], &rest].concat()), None);
    }

    #[test]
    fn what_is_malformed_or_another_method_is_dropped_and_an_indication_is_owed_nothing() {
        for (what, datagram) in [
            ("cut short", bare(1, &[])[..19].to_vec()),
            ("a length that is no multiple of four", bare(1, &[0, 0, 0])),
            ("longer than it says", [bare(1, &[]), vec![0; 4]].concat()),
            ("an attribute that goes beyond the end", bare(1, &octets("80220010"))),
            ("half an attribute", bare(1, &octets("8022000400000000"))[..24].to_vec()),
            ("Allocate, of TURN", bare(3, &[])),
        ] {
            assert_eq!(read(&datagram), None, "{what}");
        }
        assert_eq!(read(&bare(0x0011, &[])), Some(Stun::Other), "an indication");
        assert_eq!(read(&bare(0x0101, &[])), Some(Stun::Other), "an answer");
    }

    #[test]
    fn neither_sip_nor_a_keepalive_is_taken_for_it() {
        for datagram in [&b"REGISTER sip:example.com SIP/2.0\r\n"[..], b"\r\n\r\n", b"\0\0\0\0", b"", b"\0", &[0; 28]] {
            assert!(!is_stun(datagram), "{datagram:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(rest in proptest::collection::vec(proptest::num::u8::ANY, 0..64), kind in 0u16..2) {
            let mut datagram = bare(kind, &rest);
            let _ = read(&datagram);
            datagram.truncate(rest.len());
            let _ = read(&datagram);
        }
    }
}
