//! Media types with their parameters (RFC 2045 §5.1), compared without case.

/// A Content-Type: `text/plain;charset="utf-8"`, borrowed from where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaType<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: &'a str,
}

impl<'a> MediaType<'a> {
    /// Nothing when this is no media type.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let (full, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subtype) = full.split_once('/')?;
        let (kind, subtype) = (kind.trim(), subtype.trim());
        let token = |word: &str| !word.is_empty() && word.bytes().all(crate::scan::is_token);
        (token(kind) && token(subtype)).then_some(Self { kind, subtype, parameters })
    }

    /// Whether this is `kind/subtype`, whatever its parameters.
    pub fn is(&self, full: &str) -> bool {
        full.split_once('/').is_some_and(|(kind, subtype)| {
            self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
        })
    }

    /// The value of a parameter, without its quotes; escapes in a quoted string stay as they are.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.parameters;
        while !rest.is_empty() {
            let end = crate::scan::find_outside_quotes(rest.as_bytes(), b';').unwrap_or(rest.len());
            let (one, after) = rest.split_at(end);
            if let Some((key, value)) = one.split_once('=')
                && key.trim().eq_ignore_ascii_case(name)
            {
                let value = value.trim();
                return Some(value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value));
            }
            rest = after.strip_prefix(';').unwrap_or("");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_parameters_are_read_without_case() {
        let mime = MediaType::parse(b" Multipart/Mixed ; boundary=\"a;b\";Charset=UTF-8").unwrap();
        assert!(mime.is("multipart/mixed") && !mime.is("multipart/related"));
        assert_eq!(mime.parameter("BOUNDARY"), Some("a;b"));
        assert_eq!(mime.parameter("charset"), Some("UTF-8"));
        assert_eq!(mime.parameter("q"), None);
    }

    #[test]
    fn what_is_no_type_is_none() {
        for text in ["", "text", "/plain", "text/", "te xt/plain", "text/pl@in"] {
            assert_eq!(MediaType::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
