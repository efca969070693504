//! message/cpim (RFC 3862): an envelope around any content, whose headers nobody on the way may touch.
//!
//! A [`Cpim`] borrows from the octets it was read from, which stay the truth: what is forwarded is those octets, never
//! what was understood of them. Header names are case-sensitive, and a header is known by the URI of its namespace and
//! its name, never by the prefix that the sender happened to choose (RFC 3862 §3.4).

use std::borrow::Cow;

use base::limits::CPIM_HEADERS_MAX;
use base::mime::MediaType;
use base::scan;

use crate::error::ParseError;

/// Namespace of the headers of RFC 3862 §4, and the default until a message says otherwise.
pub const CPIM: &str = "urn:ietf:params:cpim-headers:";
/// Namespace of the headers of RFC 5438 §6.
pub const IMDN: &str = "urn:ietf:params:imdn";
/// One header as it stood, and the namespace in which it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// URI of its namespace; nothing where its prefix was never declared.
    pub namespace: Option<&'a str>,
    /// What stood before the dot: means nothing by itself.
    pub prefix: &'a str,
    /// The name behind the prefix, in the sender's letters.
    pub name: &'a str,
    /// `;lang=fr` and the like, as written (RFC 3862 §3.3).
    pub parameters: &'a str,
    /// Everything behind the one space, escapes and further spaces in it; see [`unescape`].
    pub value: &'a str,
}

impl<'a> Header<'a> {
    /// Whether this is that header of that namespace.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace == Some(namespace)
    }

    /// The language tag (RFC 3862 §3.3).
    pub fn language(&self) -> Option<&'a str> {
        self.parameters.split(';').find_map(|one| one.strip_prefix("lang="))
    }
}

/// Who: `Depressed Donkey <im:eeyore@100akerwood.com>` (RFC 3862 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// Words or a quoted string, as written; empty where there is no name.
    pub display: &'a str,
    /// What stands in the brackets.
    pub uri: &'a str,
}

impl<'a> Address<'a> {
    /// From a header's value.
    pub fn parse(value: &'a str) -> Option<Self> {
        let (before, rest) = split_bracket(value)?;
        let uri = rest.strip_suffix('>')?;
        (!uri.is_empty() && !uri.contains(['<', '>', ' '])).then_some(Self { display: before.trim(), uri })
    }

    /// The name without quotes and escapes.
    pub fn name(&self) -> Cow<'a, str> {
        let bare = self.display.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        unescape(bare.unwrap_or(self.display))
    }
}

/// A message/cpim that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpim<'a> {
    headers: Vec<Header<'a>>,
    content_head: &'a [u8],
    content: &'a [u8],
}

impl<'a> Cpim<'a> {
    /// Reads the whole body of a message/cpim. Costs one pass over its heads; its content is not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (headers, rest) = read_headers(bytes)?;
        let (content_head, content) = split_content(rest)?;
        for name in ["From", "DateTime"] {
            if headers.iter().filter(|header| header.is(CPIM, name)).count() > 1 {
                return Err(ParseError::Twice(name));
            }
        }
        Ok(Self { headers, content_head, content })
    }

    /// Every header in the order in which they stand.
    pub fn headers(&self) -> &[Header<'a>] {
        &self.headers
    }

    /// Values of that header of that namespace, in order.
    pub fn all(&self, namespace: &str, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |header| header.is(namespace, name)).map(|header| header.value)
    }

    /// The first value of a header of RFC 3862, escapes in it.
    pub fn core(&self, name: &str) -> Option<&'a str> {
        self.all(CPIM, name).next()
    }

    /// The first value of a header of RFC 5438, whatever prefix the sender uses for it.
    pub fn imdn(&self, name: &str) -> Option<&'a str> {
        self.all(IMDN, name).next()
    }

    /// Who sent it, if it says so in a form that can be read.
    pub fn from(&self) -> Option<Address<'a>> {
        Address::parse(self.core("From")?)
    }

    /// For whom it is; those that cannot be read are left out.
    pub fn to(&self) -> impl Iterator<Item = Address<'a>> {
        self.all(CPIM, "To").filter_map(Address::parse)
    }

    /// Milliseconds since 1970 of its DateTime.
    pub fn date_unix_ms(&self) -> Option<u64> {
        crate::date::parse_rfc3339(self.core("DateTime")?)
    }

    /// What the sender says must be understood, as namespace and name (RFC 3862 §4.7). A header name there is resolved
    /// with the namespaces declared before it.
    pub fn required(&self) -> impl Iterator<Item = (Option<&'a str>, &'a str)> {
        self.headers.iter().enumerate().filter(|(_, header)| header.is(CPIM, "Require")).flat_map(
            move |(at, header)| {
                header.value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(move |full| {
                    let (prefix, name) = full.split_once('.').unwrap_or(("", full));
                    (resolve(&self.headers[..at], prefix), name)
                })
            },
        )
    }

    /// The first thing that must be understood and that nobody here knows.
    pub fn unknown_requirement(&self, known: &[(&str, &str)]) -> Option<&'a str> {
        let is_known =
            |namespace: Option<&str>, name: &str| known.iter().any(|one| Some(one.0) == namespace && one.1 == name);
        self.required().find(|(namespace, name)| !is_known(*namespace, name)).map(|(_, name)| name)
    }

    /// The MIME head of the content, each line with its end.
    pub fn content_head(&self) -> &'a [u8] {
        self.content_head
    }

    /// A MIME header of the content, its name in any case (RFC 2045 §1), trimmed, folds in it.
    pub fn content_header(&self, name: &str) -> Option<&'a [u8]> {
        mime_value(self.content_head, name.as_bytes())
    }

    /// The content's type.
    pub fn content_type(&self) -> Option<MediaType<'a>> {
        MediaType::parse(self.content_header("Content-Type")?)
    }

    /// The content's octets.
    pub fn content(&self) -> &'a [u8] {
        self.content
    }
}

/// The message headers, and what comes behind them.
fn read_headers(bytes: &[u8]) -> Result<(Vec<Header<'_>>, &[u8]), ParseError> {
    let mut headers: Vec<Header<'_>> = Vec::with_capacity(8);
    let mut rest = bytes;
    loop {
        let end = memchr::memmem::find(rest, b"\r\n").ok_or(ParseError::NoContent)?;
        let line = &rest[..end];
        if line.is_empty() {
            return Ok((headers, &rest[2..]));
        }
        // The examples of RFC 5438 §7.1.1.3 leave out the empty line before the MIME head of the content, and clients
        // copy them. No header of a message begins so.
        if line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-")) {
            return Ok((headers, rest));
        }
        if headers.len() == CPIM_HEADERS_MAX {
            return Err(ParseError::TooManyHeaders { max: CPIM_HEADERS_MAX });
        }
        let header = read_header(&headers, line)?;
        check_value(&header)?;
        headers.push(header);
        rest = &rest[end + 2..];
    }
}

fn read_header<'a>(before: &[Header<'a>], line: &'a [u8]) -> Result<Header<'a>, ParseError> {
    let line = std::str::from_utf8(line).map_err(|_| ParseError::NotUtf8)?;
    if line.bytes().any(|byte| byte < 0x20 || byte == 0x7F) {
        return Err(ParseError::Control);
    }
    let (full, rest) = line.split_once(':').ok_or(ParseError::Name)?;
    let (prefix, name) = full.split_once('.').unwrap_or(("", full));
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(is_name_char);
    if !is_name(name) || (full.len() != name.len() && !is_name(prefix)) {
        return Err(ParseError::Name);
    }
    // RFC 3862 §3.6: ":" *( ";" Parameter ) SP Header-value; a parameter may be a quoted string.
    let space = match rest.as_bytes().first() {
        Some(b' ') => 0,
        Some(b';') => scan::find_outside_quotes(rest.as_bytes(), b' ').ok_or(ParseError::NoSpace)?,
        _ => return Err(ParseError::NoSpace),
    };
    let namespace = resolve(before, prefix);
    Ok(Header { namespace, prefix, name, parameters: &rest[..space], value: &rest[space + 1..] })
}

/// RFC 3862 §3.4: the namespace that a prefix has after these headers; the last declaration counts.
fn resolve<'a>(before: &[Header<'a>], prefix: &str) -> Option<&'a str> {
    let declared = before.iter().rev().filter(|header| is_declaration(header)).find_map(|header| {
        let (named, uri) = declaration(header.value)?;
        (named == prefix).then_some(uri)
    });
    declared.or(prefix.is_empty().then_some(CPIM))
}

/// `NS` without prefix declares, also where another default namespace is in force: it is part of the format itself.
fn is_declaration(header: &Header<'_>) -> bool {
    header.name == "NS" && (header.prefix.is_empty() || header.namespace == Some(CPIM))
}

/// RFC 3862 §4.6: `[prefix] <URI>`.
fn declaration(value: &str) -> Option<(&str, &str)> {
    let (prefix, rest) = split_bracket(value)?;
    let uri = rest.strip_suffix('>')?;
    (!uri.is_empty()).then_some((prefix.trim_end(), uri))
}

fn check_value(header: &Header<'_>) -> Result<(), ParseError> {
    if is_declaration(header) && declaration(header.value).is_none() {
        return Err(ParseError::Value("NS"));
    }
    for name in ["From", "To", "cc"] {
        if header.is(CPIM, name) && Address::parse(header.value).is_none() {
            return Err(ParseError::Value(name));
        }
    }
    Ok(())
}

/// What stands before the `<` that is outside quotes, and what comes behind it.
fn split_bracket(value: &str) -> Option<(&str, &str)> {
    let at = scan::find_outside_quotes(value.as_bytes(), b'<')?;
    Some((&value[..at], value[at + 1..].trim_end()))
}

/// RFC 3862 §3.6 NAMECHAR.
fn is_name_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-^_`|~".contains(&byte)
}

/// MIME head and body of the content.
fn split_content(bytes: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    let mut at = 0;
    while at < bytes.len() {
        let end = at + memchr::memmem::find(&bytes[at..], b"\r\n").ok_or(ParseError::ContentHead)?;
        let line = &bytes[at..end];
        if line.is_empty() {
            return Ok((&bytes[..at], &bytes[end + 2..]));
        }
        let folded = at > 0 && scan::is_blank(line[0]);
        let named = line
            .iter()
            .position(|b| *b == b':')
            .is_some_and(|colon| colon > 0 && line[..colon].iter().all(|b| scan::is_token(*b)));
        if !folded && !named {
            return Err(ParseError::ContentHead);
        }
        at = end + 2;
    }
    if bytes.is_empty() { Err(ParseError::NoContent) } else { Ok((bytes, &[])) }
}

/// The value of a header in a MIME head, folds in it.
fn mime_value<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut at = 0;
    while let Some(length) = memchr::memmem::find(&head[at..], b"\r\n") {
        let mut end = at + length;
        while head.get(end + 2).is_some_and(|byte| scan::is_blank(*byte)) {
            let more = memchr::memmem::find(&head[end + 2..], b"\r\n")?;
            end += 2 + more;
        }
        let field = &head[at..end];
        if field.get(name.len()) == Some(&b':') && field[..name.len()].eq_ignore_ascii_case(name) {
            return Some(scan::trim(&field[name.len() + 1..]));
        }
        at = end + 2;
    }
    None
}

/// The text behind the escapes of RFC 3862 §2.3: an unknown escape means the character itself, a lone backslash at the
/// end means nothing.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        let plain = if one != '\\' {
            one
        } else {
            match rest.next() {
                Some('b') => '\u{8}',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('u') => match code_unit(rest.as_str()) {
                    Some(unit) => {
                        rest = rest.as_str()[4..].chars();
                        units.push(unit);
                        continue;
                    }
                    None => 'u',
                },
                Some(other) => other,
                None => break,
            }
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Cow::Owned(String::from_utf16_lossy(&units))
}

/// Exactly four hex digits (RFC 3862 §2.3: applied to a UCS-2 character, so that two of them may be one beyond it).
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.get(..4).filter(|four| four.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

/// Writes a message/cpim, header by header, then its content.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a namespace: `NS: imdn <urn:ietf:params:imdn>`; an empty prefix sets the default.
    #[must_use]
    pub fn namespace(self, prefix: &str, uri: &str) -> Self {
        let space = if prefix.is_empty() { "" } else { " " };
        self.raw("NS", &format!("{prefix}{space}<{}>", clean_uri(uri)))
    }

    /// `From`, `To`, `cc` and the like.
    #[must_use]
    pub fn address(self, name: &str, display: &str, uri: &str) -> Self {
        let uri = clean_uri(uri);
        if display.is_empty() {
            return self.raw(name, &format!("<{uri}>"));
        }
        let display = escape(display).replace('"', "\\\"");
        self.raw(name, &format!("\"{display}\" <{uri}>"))
    }

    /// A header with a text, which is escaped where it must be. Blanks at its end are left out (RFC 3862 §2.2).
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.raw(name, &escape(value))
    }

    /// The Subject in a language (RFC 3862 §4.5).
    #[must_use]
    pub fn subject(mut self, language: &str, text: &str) -> Self {
        let tag: String = language.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        self.out.extend_from_slice(b"Subject:;lang=");
        self.out.extend_from_slice(tag.as_bytes());
        self.line(&escape(text));
        self
    }

    /// A header with a value that is written already, as when it is taken from another message. Control characters,
    /// which can stand in none, are left out.
    #[must_use]
    pub fn raw(mut self, name: &str, value: &str) -> Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b':');
        self.line(value);
        self
    }

    fn line(&mut self, value: &str) {
        self.out.push(b' ');
        let mut utf8 = [0; 4];
        for one in value.trim_end().chars().filter(|one| !one.is_ascii_control()) {
            self.out.extend_from_slice(one.encode_utf8(&mut utf8).as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// The content behind its MIME head, and with it the whole body. At least a Content-Type belongs in the head.
    #[must_use]
    pub fn content(mut self, head: &[(&str, &str)], content: &[u8]) -> Vec<u8> {
        self.out.extend_from_slice(b"\r\n");
        for (name, value) in head {
            self.out.extend_from_slice(name.as_bytes());
            self.out.push(b':');
            self.line(value);
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(content);
        self.out
    }
}

/// RFC 3862 §2.3.1: backslash and control characters, nothing else.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            control if control.is_ascii_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out
}

/// What would end the brackets early stands escaped, as a URI escapes (RFC 3986 §2.1).
fn clean_uri(uri: &str) -> String {
    let mut out = String::with_capacity(uri.len());
    for one in uri.chars() {
        if one.is_ascii_control() || [' ', '<', '>', '"'].contains(&one) {
            out.push_str(&format!("%{:02X}", u32::from(one)));
        } else {
            out.push(one);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 3862 §5.1
    const EXAMPLE: &str = "From: MR SANDERS <im:piglet@100akerwood.com>\r\n\
        To: Depressed Donkey <im:eeyore@100akerwood.com>\r\n\
        DateTime: 2000-12-13T13:40:00-08:00\r\n\
        Subject: the weather will be fine today\r\n\
        Subject:;lang=fr beau temps prevu pour aujourd'hui\r\n\
        NS: MyFeatures <mid:MessageFeatures@id.foo.com>\r\n\
        Require: MyFeatures.VitalMessageOption\r\n\
        MyFeatures.VitalMessageOption: Confirmation-requested\r\n\
        MyFeatures.WackyMessageOption: Use-silly-font\r\n\
        \r\n\
        Content-type: text/xml; charset=utf-8\r\n\
        Content-ID: <1234567890@foo.com>\r\n\
        \r\n\
        <body>\r\nHere is the text of my message.\r\n</body>";
    const FEATURES: &str = "mid:MessageFeatures@id.foo.com";

    fn fault(head: &str) -> ParseError {
        Cpim::parse(format!("{head}\r\n\r\nContent-Type: text/plain\r\n\r\nx").as_bytes()).unwrap_err()
    }

    fn only(head: &str) -> String {
        let text = format!("{head}\r\n\r\nContent-Type: text/plain\r\n\r\n");
        let read = Cpim::parse(text.as_bytes()).unwrap();
        read.headers().iter().map(|h| format!("[{}]{}={}|", h.namespace.unwrap_or("?"), h.name, h.value)).collect()
    }

    #[test]
    fn the_example_of_the_standard_is_read_to_the_last_octet() {
        let read = Cpim::parse(EXAMPLE.as_bytes()).unwrap();
        let from = read.from().unwrap();
        assert_eq!((from.name().as_ref(), from.uri), ("MR SANDERS", "im:piglet@100akerwood.com"));
        assert_eq!(read.to().map(|to| to.uri).collect::<Vec<_>>(), ["im:eeyore@100akerwood.com"]);
        assert_eq!(read.date_unix_ms(), Some(976_743_600_000));
        assert_eq!(read.all(CPIM, "Subject").count(), 2);
        assert_eq!(read.headers()[4].language(), Some("fr"));
        assert_eq!(read.all(FEATURES, "WackyMessageOption").next(), Some("Use-silly-font"));
        assert!(read.content_type().unwrap().is("text/xml"));
        assert_eq!(read.content_header("content-id"), Some(&b"<1234567890@foo.com>"[..]));
        assert_eq!(read.content(), b"<body>\r\nHere is the text of my message.\r\n</body>");
    }

    #[test]
    fn what_must_be_understood_is_named_by_its_namespace() {
        // RFC 3862 §4.7
        let read = Cpim::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(read.unknown_requirement(&[]), Some("VitalMessageOption"));
        assert_eq!(read.unknown_requirement(&[("another", "VitalMessageOption")]), Some("VitalMessageOption"));
        assert_eq!(read.unknown_requirement(&[(FEATURES, "VitalMessageOption")]), None);
    }

    #[test]
    fn a_header_is_known_by_the_uri_of_its_namespace_and_not_by_its_prefix() {
        // RFC 3862 §3.4
        let head = "NS: x <urn:ietf:params:imdn>\r\nx.Message-ID: 1\r\nNS: x <urn:other>\r\nx.Message-ID: 2\r\nimdn.Message-ID: 3";
        let text = format!("{head}\r\n\r\nContent-Type: text/plain\r\n\r\n");
        let read = Cpim::parse(text.as_bytes()).unwrap();
        assert_eq!(read.all(IMDN, "Message-ID").collect::<Vec<_>>(), ["1"]);
        assert_eq!(read.all("urn:other", "Message-ID").collect::<Vec<_>>(), ["2"]);
        assert_eq!(read.headers()[4].namespace, None, "a prefix that nobody declared");
    }

    #[test]
    fn a_default_namespace_holds_from_where_it_is_declared() {
        let head = "From: <im:a@b>\r\nNS: <urn:own>\r\nFrom: not an address\r\nNS: c <urn:ietf:params:cpim-headers:>\r\nc.To: <im:c@d>";
        assert_eq!(
            only(head),
            "[urn:ietf:params:cpim-headers:]From=<im:a@b>|[urn:ietf:params:cpim-headers:]NS=<urn:own>|[urn:own]From=not an address|\
             [urn:own]NS=c <urn:ietf:params:cpim-headers:>|[urn:ietf:params:cpim-headers:]To=<im:c@d>|"
        );
    }

    #[test]
    fn names_are_case_sensitive_and_spaces_of_a_value_stay() {
        // RFC 3862 §2.2
        let text = "from: x\r\nown.Thing: kept  as it is\r\nDateTime:  2000-12-13T13:40:00Z\r\n\r\nContent-Type: text/plain\r\n\r\n";
        let read = Cpim::parse(text.as_bytes()).unwrap();
        assert_eq!(read.core("From"), None);
        assert_eq!(read.headers()[1].value, "kept  as it is");
        assert_eq!(read.core("DateTime"), Some(" 2000-12-13T13:40:00Z"));
    }

    #[test]
    fn each_fault_is_named() {
        for (head, why) in [
            ("From:<im:a@b>", ParseError::NoSpace),
            ("Subject:;lang=fr", ParseError::NoSpace),
            ("Subject", ParseError::Name),
            (" folded: x", ParseError::Name),
            ("a.b.c: x", ParseError::Name),
            (".a: x", ParseError::Name),
            ("Sub ject: x", ParseError::Name),
            ("Subject: a\tb", ParseError::Control),
            ("From: im:a@b", ParseError::Value("From")),
            ("NS: imdn", ParseError::Value("NS")),
            ("From: <im:a@b>\r\nFrom: <im:a@b>", ParseError::Twice("From")),
            ("DateTime: x\r\nDateTime: y", ParseError::Twice("DateTime")),
        ] {
            assert_eq!(fault(head), why, "{head}");
        }
        assert_eq!(Cpim::parse(b"Subject: \xFF\r\n\r\n"), Err(ParseError::NotUtf8));
        assert_eq!(Cpim::parse(b"Subject: x\r\n"), Err(ParseError::NoContent));
        assert_eq!(Cpim::parse(b"Subject: x\r\n\r\n"), Err(ParseError::NoContent));
        assert_eq!(Cpim::parse(b"Subject: x\r\n\r\nhello\r\n\r\n"), Err(ParseError::ContentHead));
        assert_eq!(
            fault(&"a: \r\n".repeat(CPIM_HEADERS_MAX + 1)),
            ParseError::TooManyHeaders { max: CPIM_HEADERS_MAX }
        );
    }

    #[test]
    fn a_content_head_may_follow_without_an_empty_line_and_may_be_folded() {
        // RFC 5438 §7.1.1.3 (the example), RFC 2045
        let text = "To: <im:b@c>\r\nContent-type: multipart/mixed;\r\n boundary=\"x\"\r\nContent-length: 3\r\n\r\nabc";
        let read = Cpim::parse(text.as_bytes()).unwrap();
        assert_eq!(read.content_type().unwrap().parameter("boundary"), Some("x"));
        assert_eq!((read.content_header("CONTENT-LENGTH"), read.content()), (Some(&b"3"[..]), &b"abc"[..]));
    }

    #[test]
    fn escapes_become_what_they_stand_for() {
        // RFC 3862 §2.3
        assert_eq!(unescape(r#"a\\b\"c\'d\te\u00e9\q\ud83d\ude00\uZZ"#), "a\\b\"c'd\te\u{e9}q\u{1f600}uZZ");
        assert_eq!(unescape(r"end\"), "end");
        assert_eq!(unescape(r"lone\ud83d!"), "lone\u{fffd}!");
        assert!(matches!(unescape("nothing"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_name_may_be_quoted_and_hold_brackets() {
        let one = Address::parse(r#""a <b> \"c\"" <sip:x@y>"#).unwrap();
        assert_eq!((one.name().as_ref(), one.uri), (r#"a <b> "c""#, "sip:x@y"));
        for none in ["sip:x@y", "<>", "<a b>", "<a", "\"<a>"] {
            assert_eq!(Address::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_writer_lets_nobody_slip_a_header_in() {
        let wire = Writer::new()
            .address("From", "a\"\r\nTo: <x>", "sip:a@b>\r\nTo: <x>")
            .raw("X", "1\r\nTo: <x>")
            .subject("fr\r\nTo", "x\r\nTo: <x>")
            .content(&[("Content-Type", "text/plain\r\nX: y")], b"");
        let read = Cpim::parse(&wire).unwrap();
        assert_eq!((read.headers().len(), read.to().count()), (3, 0));
        assert_eq!(read.content_header("X"), None);
    }

    proptest! {
        #[test]
        fn no_octets_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Cpim::parse(&bytes);
        }

        #[test]
        fn no_damage_to_a_message_makes_the_parser_panic(at in 0..EXAMPLE.len(), byte in any::<u8>(), cut in 0..EXAMPLE.len()) {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            bytes[at] = byte;
            bytes.truncate(cut.max(1));
            if let Ok(read) = Cpim::parse(&bytes) {
                let _ = (read.from(), read.to().count(), read.required().count(), read.content_type(), read.date_unix_ms());
            }
        }

        #[test]
        fn what_is_written_is_read_back(display in "\\PC*", uri in "[a-z]{1,8}:[!-~&&[^<>\"]]{1,20}", text in any::<String>(), body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = text.trim_end();
            let wire = Writer::new()
                .address("To", &display, &uri)
                .namespace("own", "urn:own")
                .text("own.Note", text)
                .content(&[("Content-Type", "application/octet-stream")], &body);
            let read = Cpim::parse(&wire).unwrap();
            let to = read.to().next().unwrap();
            prop_assert_eq!(to.uri, uri);
            prop_assert_eq!(to.name(), display);
            // U+0080 to U+009F pass as they are: RFC 3862 §2.3 speaks of U+0000 to U+001F and U+007F.
            prop_assert_eq!(unescape(read.all("urn:own", "Note").next().unwrap()), text);
            prop_assert_eq!(read.content(), body);
        }
    }
}
