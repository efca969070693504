//! Byte-Range (RFC 4975 §7.1.1): which octets of the message a chunk carries. Counted from 1.

use std::io::Write;

use base::scan::decimal;

use crate::error::ParseError;

/// `start-end/total`; `*` is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Place of the first octet in the message, counted from 1.
    pub start: u64,
    /// Place of the last octet; nothing while it is not known or may still change.
    pub end: Option<u64>,
    /// Octets of the whole message.
    pub total: Option<u64>,
}

impl Default for ByteRange {
    /// What holds without the header: it begins at 1, the rest is not known.
    fn default() -> Self {
        Self { start: 1, end: None, total: None }
    }
}

impl ByteRange {
    /// Of a chunk with `octets` of body that begins at `start` (from 1) of a message of `total`. Of nothing: `1-0/0`.
    pub fn of(start: u64, octets: u64, total: u64) -> Self {
        Self { start, end: Some((start - 1).saturating_add(octets)), total: Some(total) }
    }

    /// Reads a value. A range that contradicts itself is an error: start 0, end beyond the total, a start beyond what
    /// is there, numbers that do not fit in 64 bits.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        Self::read(text).filter(Self::can_be).ok_or(ParseError::ByteRange)
    }

    fn read(text: &[u8]) -> Option<Self> {
        let hyphen = memchr::memchr(b'-', text)?;
        let slash = memchr::memchr(b'/', text)?;
        let number = |text: &[u8]| if text == b"*" { Some(None) } else { decimal(text).map(Some) };
        Some(Self {
            start: decimal(&text[..hyphen])?,
            end: number(text.get(hyphen + 1..slash)?)?,
            total: number(&text[slash + 1..])?,
        })
    }

    /// An empty piece ends one before it begins: `1-0/0`, and behind the last octet `9-8/8`.
    fn can_be(&self) -> bool {
        let Some(before) = self.start.checked_sub(1) else { return false };
        self.end.is_none_or(|end| end >= before)
            && self.total.is_none_or(|total| before <= total && self.end.is_none_or(|end| end <= total))
    }

    /// Appends the value.
    pub fn write(&self, out: &mut Vec<u8>) {
        number(out, Some(self.start));
        out.push(b'-');
        number(out, self.end);
        out.push(b'/');
        number(out, self.total);
    }
}

fn number(out: &mut Vec<u8>, value: Option<u64>) {
    match value {
        Some(value) => write!(out, "{value}").unwrap_or_default(), // writing to memory does not fail
        None => out.push(b'*'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_and_written_alike() {
        for text in ["1-8/8", "1-*/8", "5-8/*", "1-*/*", "1-0/0", "9-8/8", "9-*/8", "1-18446744073709551615/*"] {
            let mut written = Vec::new();
            ByteRange::parse(text.as_bytes()).unwrap().write(&mut written);
            assert_eq!(written, text.as_bytes());
        }
    }

    #[test]
    fn a_range_that_cannot_be_is_refused() {
        // RFC 4975 §7.1.1: the first octet has position one; Start above total, overflow.
        for text in [
            "",
            "-",
            "1",
            "1-8",
            "0-8/8",
            "10-*/8",
            "10-12/8",
            "1-9/8",
            "5-3/8",
            "-1-8/8",
            "1-8/8/8",
            "*-8/8",
            "1 -8/8",
            "1-18446744073709551616/*",
            "18446744073709551616-*/*",
            "1-*/18446744073709551616",
            "1/8-8",
            "a-b/c",
        ] {
            assert_eq!(ByteRange::parse(text.as_bytes()), Err(ParseError::ByteRange), "{text:?}");
        }
    }

    #[test]
    fn the_range_of_nothing_begins_at_one() {
        // RFC 4975 §7.1.1: "1-0/0".
        assert_eq!(ByteRange::parse(b"1-0/0").unwrap(), ByteRange::of(1, 0, 0));
        assert_eq!(ByteRange::of(5, 4, 8), ByteRange::parse(b"5-8/8").unwrap());
    }
}
