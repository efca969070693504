//! Reading rows, the same for every engine that keeps them in order: heads come off, and what is over is not seen.

use bytes::Bytes;

use base::Partition;

use crate::engine::{Rev, Row, Tally};
use crate::error::StoreError;
use crate::families::Family;
use crate::keys::{self, Key};
use crate::record::{HEAD_WIDTH, Head};

/// Rows in the order of their keys, heads and all.
pub(crate) trait Table {
    /// The value on disk.
    fn value(&self, family: Family, row: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Only its head.
    fn head(&self, family: Family, row: &[u8]) -> Result<Option<Head>, StoreError>;

    /// Shows the rows from `from` on and before `until`, until `visit` says `false`.
    fn visit(&self, family: Family, from: &[u8], until: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StoreError>;
}

/// Gets the key and the value on disk, and says whether it wants more.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError>;

/// One record that is not over.
pub(crate) fn get(
    table: &impl Table,
    row: &[u8],
    family: Family,
    now_unix_s: u64,
) -> Result<Option<(Rev, Bytes)>, StoreError> {
    let Some(value) = table.value(family, row)? else { return Ok(None) };
    let head = Head::read(&value)?;
    Ok(if head.is_over(now_unix_s) { None } else { Some((head.rev, value.slice(HEAD_WIDTH..))) })
}

/// Where a scan is to look.
pub(crate) struct Range {
    pub family: Family,
    from: Vec<u8>,
    until: Option<Vec<u8>>,
}

impl Range {
    pub(crate) fn new(partition: Partition, family: Family, prefix: Key, from: Key) -> Self {
        let prefix = prefix.on_disk(partition);
        let from = from.on_disk(partition).max(prefix.clone());
        Self { family, from, until: keys::after_prefix(prefix) }
    }
}

/// At most `limit` records of a range that are not over.
pub(crate) fn scan(table: &impl Table, range: &Range, limit: usize, now_unix_s: u64) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    if limit == 0 {
        return Ok(rows);
    }
    table.visit(range.family, &range.from, range.until.as_deref(), &mut |key, value| {
        let head = Head::read(value)?;
        if !head.is_over(now_unix_s) {
            rows.push(Row {
                key: Key::from_disk(key),
                rev: head.rev,
                value: Bytes::copy_from_slice(&value[HEAD_WIDTH..]),
            });
        }
        Ok(rows.len() < limit)
    })?;
    Ok(rows)
}

/// Counts a range.
pub(crate) fn tally(table: &impl Table, range: &Range, now_unix_s: u64) -> Result<Tally, StoreError> {
    let mut tally = Tally::default();
    table.visit(range.family, &range.from, range.until.as_deref(), &mut |_, value| {
        if !Head::read(value)?.is_over(now_unix_s) {
            tally.count += 1;
            tally.bytes += (value.len() - HEAD_WIDTH) as u64;
        }
        Ok(true)
    })?;
    Ok(tally)
}

/// Records of a family whose time is over, the longest dead first.
pub(crate) fn due(
    table: &impl Table,
    partition: Partition,
    family: Family,
    limit: usize,
    now_unix_s: u64,
) -> Result<Vec<Row>, StoreError> {
    let mut found = Vec::new();
    let from = partition.0.to_be_bytes().to_vec();
    let until = [from.as_slice(), &now_unix_s.saturating_add(1).to_be_bytes()].concat();
    if limit == 0 {
        return Ok(Vec::new());
    }
    table.visit(Family::Due, &from, Some(&until), &mut |key, _| {
        if let Some((_, of, row)) = keys::read_due(key)
            && of == family
        {
            found.push(row);
        }
        Ok(found.len() < limit)
    })?;
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        if let Some(value) = table.value(family, &row)? {
            rows.push(Row {
                key: Key::from_disk(&row),
                rev: Head::read(&value)?.rev,
                value: value.slice(HEAD_WIDTH..),
            });
        }
    }
    Ok(rows)
}
