//! GRUUs (RFC 5627): URIs that lead to one device of a user, from wherever they are asked for.
//!
//! ```text
//! public      sip:alice@example.com;gr=urn:uuid:…          the address of record and the device, for all to see
//! temporary   sip:tgruu.TOKEN@example.com;gr               neither, for anybody but us
//!             TOKEN = base64url(seal ‖ salt ‖ device ‖ call ‖ address, padded), enciphered under a key of the house
//! ```
//! Neither needs a table: a public one says what it means, a temporary one is opened with the key, and both hold after a
//! restart. A temporary one ends with the last contact of its device, and when the device registers by another Call-ID
//! (§5.1, §5.3): the device's contacts say whether it still counts.

use std::fmt::Write as _;

use base::Aor;
use sha2::{Digest, Sha256};
use sip::{Scheme, Uri};

use crate::refusal::Refusal;
use crate::registrar::Binding;

/// What the user part of a temporary one begins with (RFC 5627 Appendix A.2).
const PREFIX: &[u8] = b"tgruu.";
const SEAL: usize = 16;
const MARK: usize = 8;
/// Addresses are padded to a multiple of this, so that their length tells little.
const PAD: usize = 32;
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

type Mark = [u8; MARK];

/// One device of a user, as a GRUU names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    instance: Mark,
    /// Of a temporary one: the Call-ID by which the device was registered then.
    call: Option<Mark>,
}

impl Device {
    /// Whether this binding is one of the device's.
    pub fn has(&self, binding: &Binding) -> bool {
        binding.instance().is_some_and(|instance| mark(instance) == self.instance)
    }

    /// What this GRUU says to the bindings of its user (RFC 5627 §6.1). Their places; 480 where the device is away, 404
    /// where a temporary one counts no more (§5.1, §5.3).
    pub fn pick(&self, bindings: &[&Binding]) -> Result<Vec<usize>, u16> {
        let own: Vec<usize> = (0..bindings.len()).filter(|at| self.has(bindings[*at])).collect();
        let newest = own.iter().max_by_key(|at| (bindings[**at].expires_unix_s, **at));
        match (newest, self.call) {
            (Some(newest), Some(call)) if mark(&bindings[*newest].call_id) != call => Err(404),
            (Some(_), _) => Ok(own),
            (None, Some(_)) => Err(404),
            (None, None) => Err(480),
        }
    }
}

/// Makes GRUUs and knows them again.
#[derive(Clone)]
pub struct Gruus {
    seal: [u8; 32],
    cipher: [u8; 32],
}

impl Gruus {
    /// With a key that nobody else has, the same after every start.
    pub fn new(key: &[u8; 32]) -> Self {
        let derived = |what: &[u8]| Sha256::new().chain_update(key).chain_update(what).finalize().into();
        Self { seal: derived(b"seal"), cipher: derived(b"cipher") }
    }

    /// The public one of a device (§5.4); nothing for a number, which takes no parameters of SIP.
    pub fn public(&self, aor: &Aor, instance: &str) -> Option<String> {
        if aor.is_tel() {
            return None;
        }
        let mut uri = format!("{};gr=", aor.as_str());
        for octet in instance.bytes() {
            // RFC 3261 §25.1 `paramchar`.
            if octet.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(&octet) {
                uri.push(char::from(octet));
            } else {
                let _ = write!(uri, "%{octet:02X}");
            }
        }
        Some(uri)
    }

    /// A new temporary one of the device of a binding; `salt` is never used twice (§5.1).
    pub fn temporary(&self, aor: &Aor, binding: &Binding, salt: u64) -> Option<String> {
        let instance = binding.instance()?;
        if aor.is_tel() {
            return None;
        }
        let mut plain = Vec::with_capacity(3 * MARK + aor.as_str().len() + PAD);
        for piece in [&salt.to_be_bytes()[..], &mark(instance), &mark(&binding.call_id), aor.as_str().as_bytes()] {
            plain.extend_from_slice(piece);
        }
        // An address holds no NUL.
        plain.resize(plain.len().next_multiple_of(PAD), 0);
        let seal = self.seal_of(&plain);
        self.encipher(&seal, &mut plain);
        let token = base64(&[&seal[..], &plain].concat());
        Some(format!("sip:{}{token}@{};gr", String::from_utf8_lossy(PREFIX), aor.domain()))
    }

    /// Whose device a URI of one of our domains names; nothing where it is no GRUU. 404 for a temporary one that is none of
    /// ours.
    pub fn read(&self, uri: &Uri<'_>) -> Result<Option<(Aor, Device)>, Refusal> {
        let unknown = || Refusal::new(404, "No Such GRUU");
        let Some(value) = uri.param("gr").filter(|_| matches!(uri.scheme, Scheme::Sip | Scheme::Sips)) else {
            return Ok(None);
        };
        if !value.is_empty() {
            let aor = uri.aor().map_err(|_| unknown())?;
            let instance = String::from_utf8_lossy(&plain_text(value)).into_owned();
            return Ok(Some((aor, Device { instance: mark(&instance), call: None })));
        }
        let Some(token) = uri.user.strip_prefix(PREFIX) else { return Ok(None) };
        self.open(token).map(Some).ok_or_else(unknown)
    }

    fn open(&self, token: &[u8]) -> Option<(Aor, Device)> {
        let mut whole = from_base64(token)?;
        let mut plain = whole.split_off(SEAL.min(whole.len()));
        let seal: [u8; SEAL] = whole.try_into().ok()?;
        self.encipher(&seal, &mut plain);
        // A stranger learns nothing by how long it takes to compare with a hash that it cannot compute.
        let own = self.seal_of(&plain);
        let differs = own.iter().zip(&seal).fold(0, |sum, (one, other)| sum | (one ^ other));
        if differs != 0 {
            return None;
        }
        let (_salt, rest) = plain.split_first_chunk::<MARK>()?;
        let (instance, rest) = rest.split_first_chunk::<MARK>()?;
        let (call, address) = rest.split_first_chunk::<MARK>()?;
        let end = address.iter().position(|octet| *octet == 0).unwrap_or(address.len());
        let aor = Aor::parse(std::str::from_utf8(&address[..end]).ok()?).ok()?;
        Some((aor, Device { instance: *instance, call: Some(*call) }))
    }

    /// A nested hash under the key: only who has it can make one that fits.
    fn seal_of(&self, plain: &[u8]) -> [u8; SEAL] {
        let inner = Sha256::new().chain_update(self.seal).chain_update(plain).finalize();
        let outer = Sha256::new().chain_update(self.seal).chain_update([1]).chain_update(inner).finalize();
        let mut seal = [0; SEAL];
        seal.copy_from_slice(&outer[..SEAL]);
        seal
    }

    /// To and fro. The seal is the nonce: what differs in anything is enciphered by another stream (as in RFC 5297).
    fn encipher(&self, seal: &[u8; SEAL], octets: &mut [u8]) {
        for (number, block) in octets.chunks_mut(32).enumerate() {
            let count = (number as u32).to_be_bytes();
            let stream = Sha256::new().chain_update(self.cipher).chain_update(seal).chain_update(count).finalize();
            block.iter_mut().zip(stream).for_each(|(octet, mask)| *octet ^= mask);
        }
    }
}

impl std::fmt::Debug for Gruus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gruus(secret)")
    }
}

/// What stands for a long text inside a GRUU. URNs are compared without case where it matters here (RFC 4122 §3).
fn mark(text: &str) -> Mark {
    let digest = Sha256::digest(text.to_ascii_lowercase().as_bytes());
    let mut mark = [0; MARK];
    mark.copy_from_slice(&digest[..MARK]);
    mark
}

/// Escapes undone.
fn plain_text(escaped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(octet) => {
                plain.push(octet);
                rest = &behind[2..];
            }
            None => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

/// RFC 4648 §5, without padding.
fn base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 4 / 3 + 3);
    for three in octets.chunks(3) {
        let sum = three.iter().chain([&0, &0]).take(3).fold(0u32, |sum, octet| sum << 8 | u32::from(*octet));
        for place in 0..=three.len() {
            text.push(char::from(BASE64[(sum >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() * 3 / 4);
    for four in text.chunks(4) {
        let mut sum = 0u32;
        for digit in four {
            sum = sum << 6 | BASE64.iter().position(|known| known == digit)? as u32;
        }
        match four.len() {
            4 => octets.extend_from_slice(&sum.to_be_bytes()[1..]),
            3 => octets.extend_from_slice(&(sum >> 2).to_be_bytes()[2..]),
            2 => octets.push((sum >> 4) as u8),
            _ => return None,
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registrar::{Transport, Way};

    const INSTANCE: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

    fn gruus() -> Gruus {
        Gruus::new(&[7; 32])
    }

    fn alice() -> Aor {
        Aor::parse("sip:alice@example.com").unwrap()
    }

    fn binding(instance: &str, call_id: &str) -> Binding {
        Binding {
            contact: "sip:a@192.0.2.1".into(),
            params: format!(";+sip.instance=\"<{instance}>\""),
            q: 1_000,
            call_id: call_id.into(),
            cseq: 1,
            expires_unix_s: 100,
            way: Way {
                transport: Transport::Udp,
                listener: 0,
                source: ([192, 0, 2, 1], 5060).into(),
                connection: None,
            },
            path: Vec::new(),
        }
    }

    fn read(gruus: &Gruus, uri: &str) -> Result<Option<(Aor, Device)>, u16> {
        gruus.read(&Uri::parse(uri.as_bytes()).unwrap()).map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_public_one_shows_address_and_device_and_leads_to_all_contacts_of_it() {
        // RFC 5627 §3.1.1
        let public = gruus().public(&alice(), INSTANCE).unwrap();
        assert_eq!(public, format!("sip:alice@example.com;gr={INSTANCE}"));
        let (aor, device) = read(&gruus(), &public).unwrap().unwrap();
        let (one, other) = (binding(&INSTANCE.to_uppercase(), "c1"), binding("urn:uuid:2", "c1"));
        assert_eq!(aor, alice());
        assert_eq!(device.pick(&[&other, &one, &binding(INSTANCE, "c9")]), Ok(vec![1, 2]));
        assert_eq!(device.pick(&[&other]), Err(480), "§5.3: it stays valid when the device is away");
        let odd = gruus().public(&alice(), "a;b=ü").unwrap();
        assert_eq!(odd, "sip:alice@example.com;gr=a%3Bb%3D%C3%BC");
        assert!(read(&gruus(), &odd).unwrap().unwrap().1.has(&binding("a;b=ü", "c")));
        assert_eq!(gruus().public(&Aor::tel(b"+4912345").unwrap(), INSTANCE), None);
    }

    #[test]
    fn a_temporary_one_hides_both_holds_after_a_restart_and_ends_with_its_calls_registration() {
        let (one, other) = (binding(INSTANCE, "c1"), binding("urn:uuid:2", "c1"));
        let hidden = gruus().temporary(&alice(), &one, 1).unwrap();
        assert!(hidden.starts_with("sip:tgruu.") && hidden.ends_with("@example.com;gr") && !hidden.contains("alice"));
        let (aor, device) = read(&Gruus::new(&[7; 32]), &hidden).unwrap().unwrap();
        assert_eq!(aor, alice());
        assert_eq!(device.pick(&[&other, &one]), Ok(vec![1]));
        // §5.1: another Call-ID of the same device; §5.3: its last contact is gone.
        assert_eq!(device.pick(&[&other, &binding(INSTANCE, "c2")]), Err(404));
        assert_eq!(device.pick(&[&other]), Err(404));
        assert_eq!(device.pick(&[]), Err(404));
    }

    #[test]
    fn temporary_ones_show_nobody_whose_they_are_and_none_is_forged() {
        // §5.1: two of one device have nothing in common; longer names are no longer.
        let one = binding(INSTANCE, "c1");
        let made = |salt| gruus().temporary(&alice(), &one, salt).unwrap();
        let alike = made(1).bytes().skip(10).zip(made(2).bytes().skip(10)).take(90).filter(|(a, b)| a == b).count();
        assert!(alike < 15, "{alike} of 90 digits are the same");
        let bob = gruus().temporary(&Aor::parse("sip:bob-the-builder@example.com").unwrap(), &one, 1).unwrap();
        assert_eq!(bob.len(), made(1).len());

        let good = made(3);
        for at in 10..good.len() - "@example.com;gr".len() {
            let mut forged = good.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last digit may have bits that mean nothing.
            assert!(forged == good || read(&gruus(), &forged).is_err() || at + 16 > good.len(), "digit {at}");
        }
        assert_eq!(read(&Gruus::new(&[8; 32]), &good), Err(404), "another house's");
        for none in ["sip:tgruu.@example.com;gr", "sip:tgruu.A@example.com;gr", "sip:tgruu.%41@example.com;gr"] {
            assert_eq!(read(&gruus(), none), Err(404), "{none}");
        }
    }

    #[test]
    fn other_uris_are_no_gruus() {
        for uri in ["sip:alice@example.com", "sip:alice@example.com;gr", "tel:+491;gr=x", "sip:tgruu.x@example.com"] {
            assert_eq!(read(&gruus(), uri), Ok(None), "{uri}");
        }
    }
}
