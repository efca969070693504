//! How the crowd's requests read, and how a message and an answer are known again.
//!
//! Requests are spliced from texts made once: at 100,000 a second a general writer would cost the generator as much as
//! the socket does. Each message has a number in its body, each request its [`Ticket`] in the branch; both carry the
//! name of the run, so that what an earlier run left behind is not taken for ours.

use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;

use crate::flight::Ticket;
use crate::users::User;
use crate::wire::{Link, Transport};

/// The branch: cookie (RFC 3261 §8.1.1.7), mark, run, slot, generation.
const MARK: &[u8] = b"z9hG4bKpl";
/// What stands before run and number in a body.
const LETTER: &[u8] = b"letter ";
const FILLER: &[u8] = b"Dear friend, the weather here is fine, the sea is calm and the bread is good. ";
const AGENT: &[u8] = b"pl";
const HEX: [u8; 16] = *b"0123456789abcdef";

/// The texts of one run.
pub struct Wording {
    run: [u8; 8],
    domain: Box<str>,
    links: Vec<LinkTexts>,
    body: Vec<u8>,
    /// The value of User-Agent, as long as the size asked for needs it.
    agent: Vec<u8>,
    transport: Transport,
}

#[derive(Default, Clone)]
struct LinkTexts {
    /// `Via: … branch=z9hG4bKpl<run>`.
    via: Vec<u8>,
    /// `@127.0.0.1:5062>`, or with `;transport=tcp`.
    contact: Vec<u8>,
}

impl Wording {
    /// For MESSAGEs with `body_bytes` of text, at least as much as their number needs.
    pub fn new(domain: &str, transport: Transport, body_bytes: usize) -> Self {
        let noise = std::hash::RandomState::new().build_hasher().finish();
        let mut run = [0; 8];
        put_hex(&mut run, noise);
        let mut body = LETTER.to_vec();
        body.extend_from_slice(&run);
        // The number, in the end, takes the place of these.
        body.extend_from_slice(b"-000000000000\r\n");
        let head = body.len();
        body.extend(FILLER.iter().cycle().take(body_bytes.saturating_sub(head)));
        Self { run, domain: domain.into(), links: Vec::new(), body, agent: AGENT.to_vec(), transport }
    }

    /// The domain of the users.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Learns the address of a link.
    pub fn add_link(&mut self, link: Link, local: SocketAddr) {
        let at = link as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, LinkTexts::default());
        }
        let transport = self.transport.in_via();
        let mut via = format!("Via: SIP/2.0/{transport} {local};rport;branch=").into_bytes();
        via.extend_from_slice(MARK);
        via.extend_from_slice(&self.run);
        let stream = if self.transport == Transport::Tcp { ";transport=tcp" } else { "" };
        let contact = format!("@{local}{stream}>;+g.oma.sip-im").into_bytes();
        self.links[at] = LinkTexts { via, contact };
    }

    /// The name of the run.
    pub fn run(&self) -> [u8; 8] {
        self.run
    }

    /// Appends the Via line of a request, with its ticket and CRLF.
    pub fn via(&self, out: &mut Vec<u8>, link: Link, ticket: Ticket) {
        out.extend_from_slice(&self.links[link as usize].via);
        let Ticket { slot, generation } = ticket;
        out.extend_from_slice(&hex(u64::from(slot) << 32 | u64::from(generation)));
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the Contact line of a user who is reached by a link.
    pub fn contact(&self, out: &mut Vec<u8>, user: &User, link: Link) {
        out.extend_from_slice(b"Contact: <sip:");
        out.extend_from_slice(user.aor.user().as_bytes());
        out.extend_from_slice(&self.links[link as usize].contact);
        out.extend_from_slice(b"\r\n");
    }

    /// Makes MESSAGEs between users of such length `bytes` long, where they are shorter.
    pub fn pad_to(&mut self, bytes: usize, from: &User, to: &User, link: Link) {
        let mut sample = Vec::new();
        self.agent = AGENT.to_vec();
        self.message(&mut sample, from, to, link, &Numbers::default(), &[]);
        let missing = bytes.saturating_sub(sample.len());
        self.agent.extend(FILLER.iter().cycle().take(missing).map(|byte| no_space(*byte)));
    }

    /// A MESSAGE (RFC 3428 §4). `credentials` is a whole header line, or nothing.
    pub fn message(
        &self,
        out: &mut Vec<u8>,
        from: &User,
        to: &User,
        link: Link,
        numbers: &Numbers,
        credentials: &[u8],
    ) {
        out.extend_from_slice(b"MESSAGE ");
        out.extend_from_slice(to.aor.as_str().as_bytes());
        self.head(out, from, to, link, numbers);
        let number = hex(numbers.number);
        out.extend_from_slice(&number[4..]);
        out.push(b'-');
        out.extend_from_slice(&self.run);
        out.extend_from_slice(b"@load\r\nCSeq: ");
        decimal(out, numbers.cseq as usize);
        out.extend_from_slice(b" MESSAGE\r\n");
        out.extend_from_slice(credentials);
        out.extend_from_slice(b"User-Agent: ");
        out.extend_from_slice(&self.agent);
        out.extend_from_slice(b"\r\nContent-Type: text/plain\r\nContent-Length: ");
        decimal(out, self.body.len());
        out.extend_from_slice(b"\r\n\r\n");
        let start = out.len();
        out.extend_from_slice(&self.body);
        let at = start + LETTER.len() + 9;
        out[at..at + 12].copy_from_slice(&number[4..]);
    }

    /// A REGISTER of one contact (RFC 3261 §10.2); with `expires` 0 it takes back all contacts of the user (§10.2.2).
    pub fn register(&self, out: &mut Vec<u8>, user: &User, expires: u32, numbers: &Numbers, credentials: &[u8]) {
        out.extend_from_slice(b"REGISTER sip:");
        out.extend_from_slice(self.domain.as_bytes());
        self.head(out, user, user, user.link, numbers);
        out.extend_from_slice(b"reg-");
        out.extend_from_slice(user.aor.user().as_bytes());
        out.push(b'-');
        out.extend_from_slice(&self.run);
        out.extend_from_slice(b"@load\r\nCSeq: ");
        decimal(out, numbers.cseq as usize);
        out.extend_from_slice(b" REGISTER\r\nContact: ");
        if expires == 0 {
            out.push(b'*');
        } else {
            out.extend_from_slice(b"<sip:");
            out.extend_from_slice(user.aor.user().as_bytes());
            out.extend_from_slice(&self.links[user.link as usize].contact);
        }
        out.extend_from_slice(b"\r\nExpires: ");
        decimal(out, expires as usize);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(credentials);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// From behind the Request-URI to `Call-ID: `.
    fn head(&self, out: &mut Vec<u8>, from: &User, to: &User, link: Link, numbers: &Numbers) {
        out.extend_from_slice(b" SIP/2.0\r\n");
        self.via(out, link, numbers.ticket);
        out.extend_from_slice(b"Max-Forwards: 70\r\nFrom: <");
        out.extend_from_slice(from.aor.as_str().as_bytes());
        out.extend_from_slice(b">;tag=");
        out.extend_from_slice(&hex(numbers.number)[8..]);
        out.extend_from_slice(b"\r\nTo: <");
        out.extend_from_slice(to.aor.as_str().as_bytes());
        out.extend_from_slice(b">\r\nCall-ID: ");
    }

    /// The request that an answer's Via belongs to, wherever in it the branch stands; nothing where it is none of this
    /// run.
    pub fn ticket(&self, via: &[u8]) -> Option<Ticket> {
        let branch = &via[memchr::memmem::find(via, MARK)?..];
        let digits = branch.strip_prefix(MARK)?.strip_prefix(&self.run)?.get(..16)?;
        let both = number_of(digits)?;
        Some(Ticket { slot: u32::try_from(both >> 32).ok()?, generation: u32::try_from(both & 0xffff_ffff).ok()? })
    }

    /// The number of a message, wherever in the body a server may have put our text.
    pub fn letter(&self, body: &[u8]) -> Option<u64> {
        let starts_here = |body: &[u8]| {
            let rest = body.strip_prefix(LETTER)?.strip_prefix(&self.run)?.strip_prefix(b"-")?;
            number_of(rest.get(..12)?)
        };
        starts_here(body).or_else(|| memchr::memmem::find_iter(body, LETTER).find_map(|at| starts_here(&body[at..])))
    }
}

/// What differs between two requests of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    /// For the branch.
    pub ticket: Ticket,
    /// For CSeq.
    pub cseq: u32,
    /// Which message; of a REGISTER the number of its user.
    pub number: u64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { ticket: Ticket { slot: 0, generation: 0 }, cseq: 1, number: 0 }
    }
}

/// A User-Agent is tokens (RFC 3261 §20.41): no spaces or commas in ours.
fn no_space(byte: u8) -> u8 {
    if byte.is_ascii_lowercase() { byte } else { b'-' }
}

pub(crate) fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    put_hex(&mut digits, number);
    digits
}

/// The last digits of a number.
fn put_hex(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = HEX[(number & 15) as usize];
        number >>= 4;
    }
}

pub(crate) fn number_of(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number: u64, digit| Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

fn decimal(out: &mut Vec<u8>, number: usize) {
    let (mut digits, mut at, mut rest) = ([0; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Aor;
    use sip::{Layout, Method};

    fn user(name: &str) -> User {
        User { aor: Aor::new(name, "test.invalid").unwrap(), password: None, link: 0, registers: 0, login: None }
    }

    fn wording() -> Wording {
        let mut wording = Wording::new("test.invalid", Transport::Udp, 270);
        wording.add_link(0, "127.0.0.1:5070".parse().unwrap());
        wording
    }

    #[test]
    fn a_message_is_one_that_our_parser_finds_no_fault_in_and_has_the_size_asked_for() {
        let (mut wording, from, to) = (wording(), user("u1"), user("u999"));
        wording.pad_to(600, &from, &to, 0);
        let numbers = Numbers { ticket: Ticket { slot: 77, generation: 0xdead_beef }, cseq: 42, number: 123_456_789 };
        let (mut out, mut layout) = (Vec::new(), Layout::default());
        wording.message(&mut out, &from, &to, 0, &numbers, b"");
        assert!((599..=601).contains(&out.len()), "{} octets", out.len());
        sip::parse_datagram(&out, &mut layout).unwrap();
        let view = layout.view(&out);
        view.check_request().unwrap();
        assert_eq!((view.method(), view.body().len()), (Method::Message, 270));
        assert_eq!(view.request_uri(), b"sip:u999@test.invalid");
        assert_eq!(view.cseq().unwrap().number, 42);
        assert_eq!(wording.ticket(view.first(sip::Name::Via).unwrap()), Some(numbers.ticket));
        assert_eq!(wording.letter(view.body()), Some(123_456_789));
    }

    #[test]
    fn a_register_is_one_that_our_parser_finds_no_fault_in() {
        let (mut out, mut layout) = (Vec::new(), Layout::default());
        wording().register(&mut out, &user("u5"), 3_600, &Numbers::default(), b"Authorization: Digest x=\"y\"\r\n");
        sip::parse_datagram(&out, &mut layout).unwrap();
        let view = layout.view(&out);
        view.check_request().unwrap();
        assert_eq!((view.method(), view.expires()), (Method::Register, Some(3_600)));
        assert_eq!(view.first(sip::Name::Authorization), Some(b"Digest x=\"y\"".as_slice()));
        assert_eq!(view.first(sip::Name::Contact), Some(b"<sip:u5@127.0.0.1:5070>;+g.oma.sip-im".as_slice()));
    }

    #[test]
    fn what_another_run_wrote_is_not_ours() {
        let (ours, theirs) = (wording(), wording());
        let mut out = Vec::new();
        theirs.message(&mut out, &user("a"), &user("b"), 0, &Numbers::default(), b"");
        assert_eq!(theirs.letter(&out), Some(0));
        assert_eq!(ours.letter(&out), None);
        assert_eq!(ours.ticket(b"z9hG4bKpl"), None);
        assert_eq!(ours.ticket(b"z9hG4bK77"), None);
        assert_eq!(ours.letter(b"letter "), None);
    }

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 7, 10, 4_294_967_295_usize] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
        assert_eq!(number_of(&hex(0x1234_5678_9abc_def0)), Some(0x1234_5678_9abc_def0));
        assert_eq!(number_of(b"12g4"), None);
    }
}
