//! Passing messages on: what must change is spliced in, all other octets stay as they came (RFC 3261 §16.6, §16.7).

use std::net::{IpAddr, SocketAddr};

use crate::headers::Name;
use crate::message::{View, top_value_end};
use crate::params::skip_space;
use crate::uri::numeric;
use crate::via::Via;

/// How a request is passed on.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'a> {
    /// The new Request-URI.
    pub uri: &'a [u8],
    /// The whole value of our own Via, which goes on top.
    pub via: &'a [u8],
    /// What Max-Forwards says from here on; written if it was not there (RFC 3261 §16.6 step 3).
    pub max_forwards: u8,
    /// Fields that stay behind, with all their values ([`Name::Other`] names none).
    pub strip: &'a [Name],
    /// Where the request came from: fills `received` and `rport` into the caller's Via (RFC 3261 §18.2.1, RFC 3581 §4).
    pub received: Option<SocketAddr>,
    /// Whole header lines, CRLF included, put before Content-Length or at the end of the head.
    pub add: &'a [u8],
    /// Whole header lines, CRLF included, put above all that came: Record-Route (RFC 3261 §16.6 step 4).
    pub record: &'a [u8],
}

/// Appends the request as it goes on. `request` must have been parsed without a fault. A Content-Length is added when
/// there was none: the next hop may be a stream (RFC 3261 §18.3).
pub fn forward_request(out: &mut Vec<u8>, request: View<'_>, how: &Forward<'_>) {
    out.reserve(request.bytes().len() + how.uri.len() + how.via.len() + how.add.len() + 128);
    out.extend_from_slice(request.method_text());
    out.push(b' ');
    out.extend_from_slice(how.uri);
    out.extend_from_slice(b" SIP/2.0\r\nVia: ");
    out.extend_from_slice(how.via);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(how.record);
    if request.first(Name::MaxForwards).is_none() {
        line(out, Name::MaxForwards, how.max_forwards.into());
    }
    let mut splice = Splice { out, bytes: request.bytes, at: usize::from(request.layout.start.end) + 2 };
    let (mut source, mut add) = (how.received, how.add);
    for field in request.fields() {
        if field.name != Name::Other && how.strip.contains(&field.name) {
            splice.cut(field.line.start, field.line.end);
            continue;
        }
        match field.name {
            Name::MaxForwards => {
                splice.cut(field.value.start, field.value.end);
                decimal(splice.out, how.max_forwards.into());
            }
            Name::Via => {
                if let Some(source) = source.take() {
                    splice.cut(field.value.start, field.value.end);
                    write_received(splice.out, field.value.of(request.bytes), source);
                }
            }
            Name::ContentLength if !add.is_empty() => {
                splice.cut(field.line.start, field.line.start);
                splice.out.extend_from_slice(std::mem::take(&mut add));
            }
            _ => {}
        }
    }
    splice.finish(request, add);
}

/// Appends the response without its topmost Via value, the one that we had put there (RFC 3261 §16.7 step 3); other
/// values on its line stay.
pub fn forward_response(out: &mut Vec<u8>, response: View<'_>) {
    out.reserve(response.bytes().len() + 32);
    let mut splice = Splice { out, bytes: response.bytes, at: usize::from(response.layout.start.start) };
    if let Some(field) = response.fields().iter().find(|field| field.name == Name::Via) {
        let value = field.value.of(response.bytes);
        let rest = skip_space(value, top_value_end(value) + 1);
        if rest < value.len() {
            splice.cut(field.value.start, field.value.start + rest as u16);
        } else {
            splice.cut(field.line.start, field.line.end);
        }
    }
    splice.finish(response, &[]);
}

/// A copy in the making: everything up to `at` has been dealt with.
struct Splice<'a> {
    out: &'a mut Vec<u8>,
    bytes: &'a [u8],
    at: usize,
}

impl Splice<'_> {
    /// Copies what stands before `start` and leaves out what stands before `end`.
    fn cut(&mut self, start: u16, end: u16) {
        self.out.extend_from_slice(&self.bytes[self.at..usize::from(start)]);
        self.at = usize::from(end);
    }

    /// The rest of the head, what is to be added to it, and the body.
    fn finish(self, view: View<'_>, add: &[u8]) {
        let body = usize::from(view.layout.body.start);
        if add.is_empty() && view.layout.content_length.is_some() {
            self.out.extend_from_slice(&self.bytes[self.at..usize::from(view.layout.body.end)]);
            return;
        }
        self.out.extend_from_slice(&self.bytes[self.at..body - 2]);
        self.out.extend_from_slice(add);
        if view.layout.content_length.is_none() {
            line(self.out, Name::ContentLength, view.body().len() as u64);
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(view.body());
    }
}

/// Appends a Via field's value with `received` and `rport` of its first Via filled in.
///
/// RFC 3261 §18.2.1: `received` when the host of sent-by is a name or another address. RFC 3581 §4: with `rport`
/// always, and `rport` becomes the source port. What a client filled in itself is replaced: it is not its to say.
pub(crate) fn write_received(out: &mut Vec<u8>, value: &[u8], source: SocketAddr) {
    let Some(via) = Via::parse(&value[..top_value_end(value)]) else {
        out.extend_from_slice(value);
        return;
    };
    let address = source.ip().to_canonical();
    let honest = numeric(via.host).is_some_and(|host| host.to_canonical() == address);
    if honest && via.rport().is_none() && via.received().is_none() {
        out.extend_from_slice(value);
        return;
    }
    let (end, mut at, mut told) = (via.text.len(), 0, false);
    let params = end - via.params.as_bytes().len();
    for place in via.params.places() {
        let name = &via.params.as_bytes()[place.name.clone()];
        let is_received = name.eq_ignore_ascii_case(b"received");
        if !is_received && !name.eq_ignore_ascii_case(b"rport") {
            continue;
        }
        out.extend_from_slice(&value[at..params + place.name.end]);
        out.push(b'=');
        if is_received {
            text(out, address);
            told = true;
        } else {
            decimal(out, source.port().into());
        }
        at = params + place.value.map_or(place.name.end, |value| value.end);
    }
    out.extend_from_slice(&value[at..end]);
    if !told {
        out.extend_from_slice(b";received=");
        text(out, address);
    }
    out.extend_from_slice(&value[end..]);
}

/// `Name: number` and CRLF.
pub(crate) fn line(out: &mut Vec<u8>, name: Name, number: u64) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    decimal(out, number);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal digits.
pub(crate) fn decimal(out: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        decimal(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// An address without brackets (RFC 5118 §4.5).
fn text(out: &mut Vec<u8>, address: IpAddr) {
    use std::io::Write;
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                decimal(out, octet.into());
            }
        }
        IpAddr::V6(address) => write!(out, "{address}").expect("a Vec takes all"),
    }
}
