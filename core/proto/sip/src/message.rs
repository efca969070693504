//! A message that has been read: where its lines and names stand ([`Layout`]), and the eyes that everybody looks
//! through ([`View`]). Values are read when they are asked for.

use arrayvec::ArrayVec;
use base::limits::{DATAGRAM_BYTES_MAX, SIP_FIELDS_MAX, SIP_MESSAGE_BYTES_MAX};
use base::mime::MediaType;
use base::scan::{decimal, find_outside_quotes, list};
use bytes::Bytes;

use crate::address::{CSeq, Contacts, NameAddr, is_call_id};
use crate::error::{Fault, HeaderError, ParseError};
use crate::headers::Name;
use crate::method::Method;
use crate::via::Via;

// Places are kept in 16 bits: half the memory, and no message is longer.
const _: () = assert!(SIP_MESSAGE_BYTES_MAX <= u16::MAX as usize && DATAGRAM_BYTES_MAX <= u16::MAX as usize);

/// A place in a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first octet.
    pub start: u16,
    /// Behind its last.
    pub end: u16,
}

impl Span {
    /// Both fit: no message is longer than 65,535 bytes.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u16, end: end as u16 }
    }

    /// The octets there. Panics when `bytes` is not what was read.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..usize::from(self.end)]
    }
}

/// One header field: a name and all lines up to the next name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Which one.
    pub name: Name,
    /// From the name to and with the last CRLF.
    pub line: Span,
    /// The name as written.
    pub key: Span,
    /// The value without white space around it; folds stay inside.
    pub value: Span,
}

/// Where everything stands in one message. Made once, filled again and again: parsing allocates nothing.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(crate) fields: ArrayVec<Field, SIP_FIELDS_MAX>,
    /// The names that occur, a bit each: what is not there is not looked for.
    pub(crate) names: u128,
    pub(crate) is_request: bool,
    pub(crate) method: Method,
    pub(crate) status: u16,
    /// Whether the request line has its three parts with one space between and no more.
    pub(crate) start_is_good: bool,
    /// Whether the version is SIP/2.0.
    pub(crate) version_is_good: bool,
    /// The first line without its CRLF.
    pub(crate) start: Span,
    /// The method, or the reason phrase.
    pub(crate) word: Span,
    pub(crate) uri: Span,
    pub(crate) version: Span,
    /// From behind the empty line.
    pub(crate) body: Span,
    /// What Content-Length says.
    pub(crate) content_length: Option<usize>,
}

impl Default for Layout {
    fn default() -> Self {
        let nowhere = Span::default();
        Self {
            fields: ArrayVec::new(),
            names: 0,
            is_request: false,
            method: Method::Other,
            status: 0,
            start_is_good: false,
            version_is_good: false,
            start: nowhere,
            word: nowhere,
            uri: nowhere,
            version: nowhere,
            body: nowhere,
            content_length: None,
        }
    }
}

impl Layout {
    /// Empty, and ready for a message whose first octet is `start`.
    pub(crate) fn reset(&mut self, start: usize) {
        let here = Span::new(start, start);
        self.fields.clear();
        self.names = 0;
        self.is_request = false;
        self.method = Method::Other;
        self.status = 0;
        (self.start_is_good, self.version_is_good) = (false, false);
        (self.start, self.word, self.uri, self.version, self.body) = (here, here, here, here, here);
        self.content_length = None;
    }

    /// The message that was read from `bytes`: the same ones, or a copy of them.
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> View<'a> {
        View { bytes, layout: self }
    }
}

/// A message, borrowed. Small and free to copy.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) layout: &'a Layout,
}

impl<'a> View<'a> {
    /// From the start line to the end of the body, and not an octet more; after a parse error all that came.
    pub fn bytes(self) -> &'a [u8] {
        &self.bytes[usize::from(self.layout.start.start)..usize::from(self.layout.body.end)]
    }

    /// A request; if not, a response.
    pub fn is_request(self) -> bool {
        self.layout.is_request
    }

    /// The method; of a response nothing but [`Method::Other`]: ask its [`View::cseq`].
    pub fn method(self) -> Method {
        self.layout.method
    }

    /// The method as written; empty in a response.
    pub fn method_text(self) -> &'a [u8] {
        if self.layout.is_request { self.layout.word.of(self.bytes) } else { &[] }
    }

    /// The Request-URI; empty in a response.
    pub fn request_uri(self) -> &'a [u8] {
        self.layout.uri.of(self.bytes)
    }

    /// Whether the Request-URI is a SIPS URI: then every hop must be secured, the last one too (RFC 3261 §26.2.2,
    /// RFC 5630 §5.3).
    pub fn is_sips(self) -> bool {
        self.request_uri().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
    }

    /// 100 to 699; 0 in a request.
    pub fn status(self) -> u16 {
        self.layout.status
    }

    /// The reason phrase; empty in a request.
    pub fn reason(self) -> &'a [u8] {
        if self.layout.is_request { &[] } else { self.layout.word.of(self.bytes) }
    }

    /// All fields in the order in which they stand; their spans are places in what was parsed.
    pub fn fields(self) -> &'a [Field] {
        &self.layout.fields
    }

    /// The octets at a span of one of [`View::fields`].
    pub fn at(self, span: Span) -> &'a [u8] {
        span.of(self.bytes)
    }

    fn field(self, name: Name) -> Option<&'a Field> {
        if self.layout.names & name.bit() == 0 {
            return None;
        }
        self.fields().iter().find(|field| field.name == name)
    }

    /// The value of the first field of this name, whole.
    pub fn first(self, name: Name) -> Option<&'a [u8]> {
        self.field(name).map(|field| field.value.of(self.bytes))
    }

    /// How many fields have this name.
    pub fn count(self, name: Name) -> usize {
        if self.layout.names & name.bit() == 0 {
            return 0;
        }
        self.fields().iter().filter(|field| field.name == name).count()
    }

    /// Every value of this name: of a list each one between the commas, of other headers each field's (RFC 3261
    /// §7.3.1; Authorization and its three siblings are no lists).
    pub fn values(self, name: Name) -> impl Iterator<Item = &'a [u8]> {
        let is_list = name.is_list();
        let fields = if self.layout.names & name.bit() == 0 { &[] } else { self.fields() };
        fields.iter().filter(move |field| field.name == name).flat_map(move |field| {
            let value = field.value.of(self.bytes);
            let (pieces, whole) = if is_list { (value, None) } else { (&[][..], Some(value)) };
            // The grammar of Via has no angle brackets (RFC 3261 §25.1): there they hide no comma.
            list(pieces, name != Name::Via).chain(whole)
        })
    }

    /// The value of the first field with this text for a name, any case; for names that [`Name`] does not know.
    pub fn other(self, name: &str) -> Option<&'a [u8]> {
        let named = |field: &&Field| field.key.of(self.bytes).eq_ignore_ascii_case(name.as_bytes());
        self.fields().iter().find(named).map(|field| field.value.of(self.bytes))
    }

    /// The value of a field that may stand once.
    fn single(self, name: Name) -> Result<&'a [u8], HeaderError> {
        let value = self.first(name).ok_or(HeaderError::Missing(name))?;
        if self.count(name) > 1 { Err(HeaderError::Repeated(name)) } else { Ok(value) }
    }

    /// The first Via value: where the message came from last.
    pub fn top_via(self) -> Result<Via<'a>, HeaderError> {
        let value = self.first(Name::Via).ok_or(HeaderError::Missing(Name::Via))?;
        Via::parse(&value[..top_value_end(value)]).ok_or(HeaderError::Malformed(Name::Via))
    }

    /// Who sent it (RFC 3261 §20.20).
    pub fn from(self) -> Result<NameAddr<'a>, HeaderError> {
        NameAddr::parse(self.single(Name::From)?).ok_or(HeaderError::Malformed(Name::From))
    }

    /// Whom it is meant for (RFC 3261 §20.39); where it goes is the Request-URI's business.
    pub fn to(self) -> Result<NameAddr<'a>, HeaderError> {
        NameAddr::parse(self.single(Name::To)?).ok_or(HeaderError::Malformed(Name::To))
    }

    /// RFC 3261 §20.8; compared octet for octet.
    pub fn call_id(self) -> Result<&'a [u8], HeaderError> {
        let value = self.single(Name::CallId)?;
        if is_call_id(value) { Ok(value) } else { Err(HeaderError::Malformed(Name::CallId)) }
    }

    /// RFC 3261 §20.16.
    pub fn cseq(self) -> Result<CSeq<'a>, HeaderError> {
        CSeq::parse(self.single(Name::CSeq)?).ok_or(HeaderError::Malformed(Name::CSeq))
    }

    /// Hops that are left (RFC 3261 §20.22); nothing when the field is not there, which RFC 3261 §16.3 lets pass.
    pub fn max_forwards(self) -> Result<Option<u8>, HeaderError> {
        match self.single(Name::MaxForwards) {
            Err(HeaderError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
            Ok(value) => match decimal(value).map(u8::try_from) {
                Some(Ok(hops)) => Ok(Some(hops)),
                _ => Err(HeaderError::Malformed(Name::MaxForwards)),
            },
        }
    }

    /// Seconds; a value that is no number or does not fit counts as absent (RFC 4475 §3.1.2.4).
    pub fn expires(self) -> Option<u32> {
        u32::try_from(decimal(self.first(Name::Expires)?)?).ok()
    }

    /// All contacts, or the star. An error when a single one is malformed (RFC 3261 §10.3: all or nothing).
    pub fn contacts(self) -> Result<Contacts<'a>, HeaderError> {
        Contacts::read(self).ok_or(HeaderError::Malformed(Name::Contact))
    }

    /// What the body is; nothing when the field is missing or malformed.
    pub fn content_type(self) -> Option<MediaType<'a>> {
        MediaType::parse(self.first(Name::ContentType)?)
    }

    /// Behind the empty line, as long as Content-Length says.
    pub fn body(self) -> &'a [u8] {
        self.layout.body.of(self.bytes)
    }

    /// Whether this request can be worked with at all: `Ok`, or the status with a reason phrase that names the fault.
    ///
    /// 505 for another version; 414 for a Request-URI above the limit; 400 when Via, From, To, Call-ID or CSeq is
    /// missing, doubled or malformed, Max-Forwards is malformed, the CSeq's number is 2^31 or more or its method
    /// another one, the request line or a sip, sips or tel Request-URI is malformed (RFC 3261 §8.1.1, §16.3;
    /// RFC 4475). Unknown methods and schemes pass: 501, 405 and 416 are said by who knows what is known.
    pub fn check_request(self) -> Result<(), Fault> {
        crate::check::check_request(self)
    }
}

/// Where the first value of a list ends: at its comma or at the end.
pub(crate) fn top_value_end(value: &[u8]) -> usize {
    if memchr::memchr(b',', value).is_none() {
        return value.len();
    }
    find_outside_quotes(value, b',').unwrap_or(value.len())
}

/// A message that outlives the turn in which it was read.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
    layout: Box<Layout>,
}

impl Message {
    /// Copies the octets: a slice would keep the whole receive buffer alive.
    pub fn copy_of(view: View<'_>) -> Self {
        let end = usize::from(view.layout.body.end);
        Self { bytes: Bytes::copy_from_slice(&view.bytes[..end]), layout: Box::new(view.layout.clone()) }
    }

    /// Reads octets that are owned already, as a datagram is read.
    pub fn parse(bytes: Bytes) -> Result<Self, ParseError> {
        let mut layout = Box::<Layout>::default();
        crate::parser::parse_datagram(&bytes, &mut layout)?;
        Ok(Self { bytes, layout })
    }

    /// To read it.
    pub fn view(&self) -> View<'_> {
        self.layout.view(&self.bytes)
    }

    /// All octets.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
