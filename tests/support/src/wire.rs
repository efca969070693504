//! What a scripted peer heard, read with nothing of the server's own parser: a test that reads with the code under test
//! would not see it misread.

/// One SIP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// As it came.
    pub raw: Vec<u8>,
}

/// Compact forms (RFC 3261 §7.3.3) of headers that tests ask for.
const COMPACT: [(&str, &str); 10] = [
    ("via", "v"),
    ("from", "f"),
    ("to", "t"),
    ("call-id", "i"),
    ("contact", "m"),
    ("content-type", "c"),
    ("content-length", "l"),
    ("content-encoding", "e"),
    ("subject", "s"),
    ("supported", "k"),
];

impl Heard {
    /// The first line.
    pub fn start_line(&self) -> &str {
        self.head().split("\r\n").next().unwrap_or_default()
    }

    /// Of a response.
    pub fn status(&self) -> Option<u16> {
        self.start_line().strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Of a request.
    pub fn method(&self) -> Option<&str> {
        let (method, rest) = self.start_line().split_once(' ')?;
        rest.ends_with(" SIP/2.0").then_some(method)
    }

    /// The Request-URI of a request.
    pub fn uri(&self) -> &str {
        self.start_line().split(' ').nth(1).unwrap_or_default()
    }

    /// Values of a header, in order, a line each; folded lines joined by a space.
    pub fn headers(&self, name: &str) -> Vec<String> {
        let wanted = name.to_ascii_lowercase();
        let compact = COMPACT.iter().find(|(long, _)| *long == wanted).map(|(_, short)| *short);
        let unfolded = self.head().replace("\r\n ", " ").replace("\r\n\t", " ");
        let fields = unfolded.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        let is_wanted = |key: &str| {
            let key = key.trim().to_ascii_lowercase();
            key == wanted || Some(key.as_str()) == compact
        };
        fields.filter(|(key, _)| is_wanted(key)).map(|(_, value)| value.trim().to_owned()).collect()
    }

    /// The first value of a header; empty without one.
    pub fn header(&self, name: &str) -> String {
        self.headers(name).into_iter().next().unwrap_or_default()
    }

    /// A parameter of a header value or URI: `tag` of From, `branch` of Via.
    pub fn parameter(&self, header: &str, name: &str) -> Option<String> {
        let value = self.header(header);
        let after = value.rsplit_once('>').map_or(value.as_str(), |(_, after)| after);
        let pairs = after.split(';').skip(1).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut found = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned())
    }

    /// Behind the empty line.
    pub fn body(&self) -> &[u8] {
        find(&self.raw, b"\r\n\r\n").map_or(&[], |at| &self.raw[at + 4..])
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body()).into_owned()
    }

    fn head(&self) -> &str {
        let end = find(&self.raw, b"\r\n\r\n").unwrap_or(self.raw.len());
        std::str::from_utf8(&self.raw[..end]).unwrap_or_default()
    }
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.raw))
    }
}

/// How many octets at the start of a stream are one message, or white space between messages: nothing while it is not
/// whole.
pub fn framed(stream: &[u8]) -> Option<(usize, Option<Heard>)> {
    let blank = stream.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if blank > 0 {
        return Some((blank, None));
    }
    let head = find(stream, b"\r\n\r\n")? + 4;
    let about = Heard { raw: stream[..head].to_vec() };
    let length: usize = about.header("content-length").parse().unwrap_or(0);
    let raw = stream.get(..head + length)?.to_vec();
    Some((head + length, Some(Heard { raw })))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a;branch=z9\r\nVia: SIP/2.0/UDP b;\r\n branch=z8\r\n\
        From: <sip:a@x;tag=no>;tag=yes\r\nl: 2\r\n\r\nhi";

    #[test]
    fn headers_are_read_in_long_and_short_form_and_over_folds() {
        let heard = Heard { raw: OK.to_vec() };
        assert_eq!((heard.status(), heard.method()), (Some(200), None));
        assert_eq!(heard.headers("Via"), ["SIP/2.0/UDP a;branch=z9", "SIP/2.0/UDP b; branch=z8"]);
        assert_eq!(heard.parameter("from", "tag").as_deref(), Some("yes"));
        assert_eq!(heard.parameter("via", "branch").as_deref(), Some("z9"));
        assert_eq!(heard.text(), "hi");
    }

    #[test]
    fn a_stream_is_cut_where_messages_end() {
        let stream = [b"\r\n\r\n".as_slice(), OK, OK].concat();
        assert_eq!(framed(&stream), Some((4, None)));
        assert_eq!(framed(&stream[4..]), Some((OK.len(), Some(Heard { raw: OK.to_vec() }))));
        assert_eq!(framed(&OK[..OK.len() - 1]), None);
    }
}
