//! Calls: INVITE, ACK and BYE of sessions, and the descriptions in them.
//!
//! Both ends are ours and connect to the server by themselves (`setup:active`, RFC 6135 §4.2.2). The callee answers 200
//! at once and keeps nothing: the call stands in an attribute of the media line, which a server passes on.

use sip::{Name, Reply, View};

use crate::flight::Ticket;
use crate::users::User;
use crate::wire::Link;
use crate::wording::{Wording, number_of};

/// The attribute of the media line that names run and call.
const ATTRIBUTE: &str = "x-parlour-load";

/// One call.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The caller, by number.
    pub from: u32,
    /// The callee, by number.
    pub to: u32,
    /// Tells it from an earlier one in the same place.
    serial: u64,
    /// The server's MSRP path that the caller has been told; empty before the 200.
    pub caller_to: String,
    /// The one that the callee has been told.
    pub callee_to: String,
    /// Where requests within the dialog go (RFC 3261 §12.2.1.1), and how the callee is named there.
    target: String,
    routes: String,
    callee: String,
    ack: Vec<u8>,
}

/// All calls.
#[derive(Debug, Default)]
pub struct Calls {
    places: Vec<Option<Box<Call>>>,
    free: Vec<u32>,
    serials: u64,
    /// BYEs that callees received.
    pub byes: u64,
}

/// The two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who called.
    Caller,
    /// Who was called.
    Callee,
}

impl Calls {
    /// Makes room for a call between two users; its number.
    pub fn open(&mut self, from: u32, to: u32) -> u32 {
        self.serials += 1;
        let call = Some(Box::new(Call { from, to, serial: self.serials, ..Call::default() }));
        match self.free.pop() {
            Some(at) => {
                self.places[at as usize] = call;
                at
            }
            None => {
                self.places.push(call);
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    /// A call that is not over.
    pub fn get(&self, call: u32) -> Option<&Call> {
        self.places.get(call as usize)?.as_deref()
    }

    /// It is over.
    pub fn close(&mut self, call: u32) {
        if self.places.get_mut(call as usize).and_then(Option::take).is_some() {
            self.free.push(call);
        }
    }

    /// Calls that are not over.
    pub fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// A 2xx to the INVITE of a call: keeps what it says; whether it can be worked with.
    pub fn established(&mut self, call: u32, response: View<'_>) -> bool {
        let Some(Some(call)) = self.places.get_mut(call as usize) else { return false };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Ok(answer) = sdp::Answer::read(response.body()) else { return false };
        let target = match response.contacts() {
            Ok(sip::Contacts::List(list)) => list.iter().next().map(|contact| text(contact.uri)),
            _ => None,
        };
        let (Some(target), Some(callee)) = (target, response.first(Name::To)) else { return false };
        call.caller_to = answer.remote_path().to_owned();
        (call.target, call.callee) = (target, text(callee));
        // RFC 3261 §12.1.2: the caller's route set is Record-Route in reverse order.
        let mut routes: Vec<&[u8]> = response.values(Name::RecordRoute).collect();
        routes.reverse();
        call.routes = routes.iter().map(|route| format!("Route: {}\r\n", text(route))).collect();
        true
    }

    /// An offer came to a callee: our answer to it. Nothing where it is none of this run.
    pub fn offered(&mut self, body: &[u8], wording: &Wording, ip: &str) -> Option<Vec<u8>> {
        let offer = sdp::Offer::read(body).ok()?;
        let (at, serial) = number(offer.message().attribute(ATTRIBUTE)?, wording)?;
        let call = self.places.get_mut(at as usize)?.as_mut().filter(|call| call.serial == serial)?;
        call.callee_to = offer.remote_path().to_owned();
        Some(call.description(at, Side::Callee, wording, ip))
    }

    /// The call that a Call-ID of ours names.
    pub fn of_call_id(&self, call_id: &[u8], wording: &Wording) -> Option<u32> {
        let text = std::str::from_utf8(call_id.strip_prefix(b"call-")?).ok()?;
        let (at, serial) = number(text.split('@').next()?, wording)?;
        self.get(at).is_some_and(|call| call.serial == serial).then_some(at)
    }
}

/// What names a call: run, place, serial.
fn name(call: u32, serial: u64, wording: &Wording) -> String {
    format!("{}-{call:08x}-{serial:016x}", String::from_utf8_lossy(&wording.run()))
}

fn number(name: &str, wording: &Wording) -> Option<(u32, u64)> {
    let mut parts = name.as_bytes().strip_prefix(&wording.run())?.strip_prefix(b"-")?.split(|byte| *byte == b'-');
    let at = u32::try_from(number_of(parts.next()?)?).ok()?;
    Some((at, number_of(parts.next()?)?))
}

/// The texts of one request.
pub struct Asking<'a> {
    /// The texts of the run.
    pub wording: &'a Wording,
    /// Who calls.
    pub from: &'a User,
    /// Who is called.
    pub to: &'a User,
    /// By which link.
    pub link: Link,
    /// For the branch.
    pub ticket: Ticket,
    /// For CSeq.
    pub cseq: u32,
    /// A whole header line, or nothing.
    pub credentials: &'a [u8],
}

impl Call {
    /// The URI of one end of call `at`: what stands in its description and in its From-Path.
    pub fn uri(&self, side: Side, ip: &str) -> String {
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let letter = if side == Side::Caller { 'a' } else { 'b' };
        // RFC 6135 §4.2.1: who only connects has no port: the one of discard.
        format!("msrp://{ip}:9/{letter}{:016x};tcp", self.serial)
    }

    fn description(&self, at: u32, side: Side, wording: &Wording, ip: &str) -> Vec<u8> {
        let (family, uri) = (if ip.contains(':') { "IP6" } else { "IP4" }, self.uri(side, ip));
        let named = name(at, self.serial, wording);
        format!(
            "v=0\r\no=- {serial} 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=message 9 TCP/MSRP *\r\na=accept-types:*\r\na=path:{uri}\r\na=setup:active\r\na={ATTRIBUTE}:{named}\r\n",
            serial = self.serial
        )
        .into_bytes()
    }

    /// Where requests within the dialog go: the Contact of the answer.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The INVITE of call `at`.
    pub fn invite(&self, out: &mut Vec<u8>, at: u32, asking: &Asking<'_>, ip: &str) {
        let body = self.description(at, Side::Caller, asking.wording, ip);
        let to = format!("<{}>", asking.to.aor.as_str());
        self.head(out, at, "INVITE", asking.to.aor.as_str(), &to, asking);
        asking.wording.contact(out, asking.from, asking.link);
        out.extend_from_slice(b"Content-Type: application/sdp\r\n");
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        out.extend_from_slice(&body);
    }

    /// The BYE of call `at`.
    pub fn bye(&self, out: &mut Vec<u8>, at: u32, asking: &Asking<'_>) {
        self.head(out, at, "BYE", &self.target, &self.callee, asking);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// The ACK to its 2xx (RFC 3261 §13.2.2.4), a transaction of its own.
    pub fn ack(&self, out: &mut Vec<u8>, at: u32, asking: &Asking<'_>) {
        self.head(out, at, "ACK", &self.target, &self.callee, asking);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// Keeps the ACK, for a 2xx that comes again.
    pub fn with_ack(calls: &mut Calls, call: u32, ack: Vec<u8>) {
        if let Some(Some(call)) = calls.places.get_mut(call as usize) {
            call.ack = ack;
        }
    }

    /// The ACK that was sent.
    pub fn last_ack(&self) -> &[u8] {
        &self.ack
    }

    fn head(&self, out: &mut Vec<u8>, at: u32, method: &str, uri: &str, to: &str, asking: &Asking<'_>) {
        out.extend_from_slice(format!("{method} {uri} SIP/2.0\r\n").as_bytes());
        asking.wording.via(out, asking.link, asking.ticket);
        let named = name(at, self.serial, asking.wording);
        let lines = format!(
            "Max-Forwards: 70\r\nFrom: <{}>;tag=a{:x}\r\nTo: {to}\r\nCall-ID: call-{named}@load\r\nCSeq: {} {method}\r\n{}",
            asking.from.aor.as_str(),
            self.serial,
            asking.cseq,
            self.routes
        );
        out.extend_from_slice(lines.as_bytes());
        out.extend_from_slice(asking.credentials);
    }
}

/// The ACK to an answer that is none of success: of the INVITE's own transaction (RFC 3261 §17.1.1.3).
pub fn ack_refusal(out: &mut Vec<u8>, response: View<'_>) {
    let field = |name| response.first(name).unwrap_or_default();
    let uri = response.to().map(|to| to.uri).unwrap_or_default();
    let cseq = response.cseq().map(|cseq| cseq.number).unwrap_or(1);
    out.extend_from_slice(b"ACK ");
    out.extend_from_slice(uri);
    out.extend_from_slice(b" SIP/2.0\r\nVia: ");
    out.extend_from_slice(field(Name::Via));
    for (label, name) in [("From", Name::From), ("To", Name::To), ("Call-ID", Name::CallId)] {
        out.extend_from_slice(format!("\r\n{label}: ").as_bytes());
        out.extend_from_slice(field(name));
    }
    out.extend_from_slice(format!("\r\nMax-Forwards: 70\r\nCSeq: {cseq} ACK\r\nContent-Length: 0\r\n\r\n").as_bytes());
}

/// The callee's 200 to an INVITE.
pub fn accept(out: &mut Vec<u8>, request: View<'_>, reply: &Reply<'_>, contact: &[u8], body: &[u8]) {
    let lines = [contact, b"Content-Type: application/sdp\r\n"].concat();
    sip::reply(out, request, &Reply { lines: &lines, body, ..*reply });
}
