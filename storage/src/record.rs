//! What a record looks like on disk: the engine's head in front of every value, and the compact fields behind it.
//!
//! ```text
//! head    1 (version) ‖ revision u64 BE ‖ expires u64 BE, unix seconds, 0: never
//! fields  version ‖ field ‖ field …      numbers as LEB128, texts and octets behind their length
//! ```
//! A version may gain fields at its end: who reads an older record gets their defaults. A newer version than the program
//! knows is an error and nothing else: it is neither guessed at nor overwritten.

use bytes::Bytes;

use crate::engine::Rev;
use crate::error::StoreError;

const HEAD_VERSION: u8 = 1;
/// Octets of a head.
pub(crate) const HEAD_WIDTH: usize = 17;

/// What the engine knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub rev: Rev,
    /// Unix seconds; 0: never.
    pub expires_unix_s: u64,
}

impl Head {
    /// In front of a value on disk.
    pub(crate) fn write(self, row: &mut Vec<u8>) {
        row.push(HEAD_VERSION);
        row.extend_from_slice(&self.rev.0.to_be_bytes());
        row.extend_from_slice(&self.expires_unix_s.to_be_bytes());
    }

    /// From the front of a value on disk.
    pub(crate) fn read(row: &[u8]) -> Result<Self, StoreError> {
        const KIND: &str = "store";
        let (version, rest) = row.split_first().ok_or(StoreError::Damaged { kind: KIND, what: "it is empty" })?;
        if *version > HEAD_VERSION {
            return Err(StoreError::Newer { kind: KIND, found: *version, known: HEAD_VERSION });
        }
        let cut = StoreError::Damaged { kind: KIND, what: "its head is cut short" };
        let (rev, rest) = rest.split_first_chunk::<8>().ok_or(cut.clone())?;
        let (expires, _) = rest.split_first_chunk::<8>().ok_or(cut)?;
        Ok(Self { rev: Rev(u64::from_be_bytes(*rev)), expires_unix_s: u64::from_be_bytes(*expires) })
    }

    /// Whether its time is over: then nobody may see the record.
    pub(crate) fn is_over(self, now_unix_s: u64) -> bool {
        self.expires_unix_s != 0 && self.expires_unix_s <= now_unix_s
    }
}

/// Writes the fields of one record.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(version: u8) -> Self {
        Self::with_capacity(version, 128)
    }

    pub(crate) fn with_capacity(version: u8, bytes: usize) -> Self {
        let mut whole = Vec::with_capacity(bytes);
        whole.push(version);
        Self(whole)
    }

    /// LEB128: seven bits an octet, the lowest first.
    pub(crate) fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= 0x80 {
            self.0.push((number as u8 & 0x7F) | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Octets of a length that the reader knows.
    pub(crate) fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Nothing, or a number.
    pub(crate) fn maybe_number(&mut self, number: Option<u64>) -> &mut Self {
        match number {
            Some(number) => self.number(1).number(number),
            None => self.number(0),
        }
    }

    /// Nothing, or a text.
    pub(crate) fn maybe_text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.number(1).text(text),
            None => self.number(0),
        }
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// Reads the fields of one record, in the order in which they were written.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    kind: &'static str,
    whole: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads the version: up to `known` it is ours to read.
    pub(crate) fn open(kind: &'static str, known: u8, whole: &'a Bytes) -> Result<(u8, Self), StoreError> {
        let version = *whole.first().ok_or(StoreError::Damaged { kind, what: "it is empty" })?;
        if version > known {
            return Err(StoreError::Newer { kind, found: version, known });
        }
        Ok((version, Self { kind, whole, at: 1 }))
    }

    /// Whether there is another field: an older record ends earlier.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the first field that an existing record gains"))]
    pub(crate) fn has_more(&self) -> bool {
        self.at < self.whole.len()
    }

    pub(crate) fn number(&mut self) -> Result<u64, StoreError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.fixed::<1>()?[0];
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged("a number has no end"))
    }

    /// A number that fits a narrower type.
    pub(crate) fn narrow<N: TryFrom<u64>>(&mut self) -> Result<N, StoreError> {
        N::try_from(self.number()?).map_err(|_| self.damaged("a number is too large for its field"))
    }

    /// Shares the memory of the record.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, StoreError> {
        let length = self.narrow::<usize>()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.whole.len());
        let end = end.ok_or_else(|| self.damaged("a field is cut short"))?;
        let bytes = self.whole.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.damaged("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let rest = self.whole.get(self.at..).unwrap_or_default();
        let (found, _) = rest.split_first_chunk::<N>().ok_or_else(|| self.damaged("a field is cut short"))?;
        self.at += N;
        Ok(*found)
    }

    pub(crate) fn maybe_number(&mut self) -> Result<Option<u64>, StoreError> {
        if self.number()? == 0 { Ok(None) } else { self.number().map(Some) }
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        if self.number()? == 0 { Ok(None) } else { self.text().map(Some) }
    }

    pub(crate) fn damaged(&self, what: &'static str) -> StoreError {
        StoreError::Damaged { kind: self.kind, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as it was in version 1, and with the field that version 1 gained later.
    fn greeting(whole: &Bytes) -> Result<(String, u64), StoreError> {
        let (_, mut fields) = Reader::open("greeting", 1, whole)?;
        let text = fields.text()?;
        let times = if fields.has_more() { fields.number()? } else { 1 };
        Ok((text, times))
    }

    fn written(version: u8, fields: impl for<'a> FnOnce(&'a mut Writer) -> &'a mut Writer) -> Bytes {
        let mut record = Writer::new(version);
        fields(&mut record);
        record.finish()
    }

    #[test]
    fn an_older_record_is_read_with_defaults_and_a_newer_version_is_refused() {
        assert_eq!(greeting(&written(1, |r| r.text("hi"))), Ok(("hi".into(), 1)));
        assert_eq!(greeting(&written(1, |r| r.text("hi").number(3))), Ok(("hi".into(), 3)));
        let newer = greeting(&written(2, |r| r.text("hi"))).unwrap_err();
        assert_eq!(
            newer.to_string(),
            "a greeting record has version 2, this program reads up to 1: use the newer program"
        );
    }

    #[test]
    fn a_record_cut_anywhere_is_an_error_and_never_a_panic() {
        let whole = written(1, |r| r.text("hello").maybe_number(Some(u64::MAX)).maybe_text(Some("x")).fixed(&[1, 2]));
        let read = |cut: &Bytes| -> Result<(), StoreError> {
            let (_, mut fields) = Reader::open("test", 1, cut)?;
            assert_eq!(fields.text()?, "hello");
            assert_eq!(fields.maybe_number()?, Some(u64::MAX));
            assert_eq!(fields.maybe_text()?.as_deref(), Some("x"));
            assert_eq!(fields.fixed::<2>()?, [1, 2]);
            Ok(())
        };
        assert_eq!(read(&whole), Ok(()));
        for cut in 0..whole.len() {
            assert!(matches!(read(&whole.slice(..cut)), Err(StoreError::Damaged { .. })), "cut at {cut}");
        }
    }

    #[test]
    fn the_time_of_a_record_is_over_at_its_second() {
        let mut row = Vec::new();
        Head { rev: Rev(7), expires_unix_s: 100 }.write(&mut row);
        assert_eq!(row.len(), HEAD_WIDTH);
        let head = Head::read(&row).unwrap();
        assert_eq!((head.rev, head.is_over(99), head.is_over(100)), (Rev(7), false, true));
        row[0] = 9;
        assert!(matches!(Head::read(&row), Err(StoreError::Newer { found: 9, .. })));
    }
}
