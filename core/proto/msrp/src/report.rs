//! Which octets of a message are spoken of (RFC 4975 §7.1.3): what has come, what has been reported, what is missing.
//!
//! A report speaks of octets, never of chunks: whoever is on the way may cut and join them.

use base::limits::MSRP_RANGES_MAX;

use crate::range::ByteRange;

/// The octets lie in more separate pieces than are remembered ([`MSRP_RANGES_MAX`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MSRP_RANGES_MAX} separate ranges")]
pub struct TooScattered;

/// A set of octets of one message, as ranges that neither meet nor overlap, in order. Bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// First octet and last, from 1.
    ranges: Vec<(u64, u64)>,
}

impl Coverage {
    /// Adds `start` to `end`, both counted from 1 and both included. Nothing is added when `end` lies before `start`,
    /// as in `1-0/0`.
    pub fn add(&mut self, start: u64, end: u64) -> Result<(), TooScattered> {
        if start == 0 || end < start {
            return Ok(());
        }
        // All that overlap the new range or touch it become one with it.
        let from = self.ranges.partition_point(|(_, last)| last.saturating_add(1) < start);
        let behind = from + self.ranges[from..].partition_point(|(first, _)| *first <= end.saturating_add(1));
        if from == behind {
            if self.ranges.len() >= MSRP_RANGES_MAX {
                return Err(TooScattered);
            }
            self.ranges.insert(from, (start, end));
            return Ok(());
        }
        let joined = (self.ranges[from].0.min(start), self.ranges[behind - 1].1.max(end));
        self.ranges[from] = joined;
        self.ranges.drain(from + 1..behind);
        Ok(())
    }

    /// Whether a message of `total` octets is all there; one of nothing always is.
    pub fn is_whole(&self, total: u64) -> bool {
        total == 0 || matches!(self.ranges.as_slice(), [(1, end), ..] if *end >= total)
    }

    /// The last octet before the first gap.
    pub fn reaches(&self) -> u64 {
        match self.ranges.first() {
            Some((1, end)) => *end,
            _ => 0,
        }
    }

    /// The ranges, in order: first octet and last.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// What a receiver owes a sender who asked for success reports: joined to as few ranges as there are, each told once.
#[derive(Debug, Clone, Default)]
pub struct SuccessReports {
    due: Coverage,
    total: Option<u64>,
}

impl SuccessReports {
    /// `octets` from `start` on have come. The real length of the chunk, not what its range-end said.
    pub fn received(&mut self, start: u64, octets: u64) -> Result<(), TooScattered> {
        match start.checked_add(octets) {
            Some(behind) => self.due.add(start, behind.saturating_sub(1)),
            None => Ok(()),
        }
    }

    /// The length of the whole message has become known.
    pub fn is_of(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// The ranges that have not been told, for one REPORT each; an empty message has one too, `1-0/0`.
    pub fn take(&mut self) -> Vec<ByteRange> {
        let due = std::mem::take(&mut self.due);
        if due.is_empty() && self.total == Some(0) {
            self.total = None;
            return vec![ByteRange::of(1, 0, 0)];
        }
        due.ranges.iter().map(|(start, end)| ByteRange { start: *start, end: Some(*end), total: self.total }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(ranges: &[(u64, u64)]) -> Coverage {
        let mut coverage = Coverage::default();
        for (start, end) in ranges {
            coverage.add(*start, *end).unwrap();
        }
        coverage
    }

    #[test]
    fn ranges_that_meet_or_overlap_become_one() {
        assert_eq!(coverage(&[(1, 4), (5, 8)]).ranges(), [(1, 8)]);
        assert_eq!(coverage(&[(5, 8), (1, 4)]).ranges(), [(1, 8)]);
        assert_eq!(coverage(&[(1, 6), (4, 8)]).ranges(), [(1, 8)]);
        assert_eq!(coverage(&[(1, 2), (4, 5), (7, 8), (2, 7)]).ranges(), [(1, 8)]);
        assert_eq!(coverage(&[(4, 5), (1, 2)]).ranges(), [(1, 2), (4, 5)]);
        assert_eq!(coverage(&[(1, 9), (3, 4)]).ranges(), [(1, 9)]);
        assert_eq!(coverage(&[(1, 0), (0, 5)]).ranges(), []);
        assert_eq!(coverage(&[(u64::MAX, u64::MAX), (1, u64::MAX - 1)]).ranges(), [(1, u64::MAX)]);
    }

    #[test]
    fn a_message_is_whole_when_no_gap_is_left() {
        assert!(coverage(&[(5, 8), (1, 4)]).is_whole(8));
        assert!(!coverage(&[(5, 8), (1, 3)]).is_whole(8));
        assert!(!coverage(&[(1, 7)]).is_whole(8));
        assert!(coverage(&[]).is_whole(0));
        assert_eq!(coverage(&[(1, 3), (5, 8)]).reaches(), 3);
        assert_eq!(coverage(&[(2, 3)]).reaches(), 0);
    }

    #[test]
    fn scattered_pieces_are_bounded_and_joining_ones_are_not() {
        let mut coverage = Coverage::default();
        for at in 0..MSRP_RANGES_MAX as u64 {
            coverage.add(2 + 2 * at, 2 + 2 * at).unwrap();
        }
        assert_eq!(coverage.add(1_000_000, 1_000_000), Err(TooScattered));
        coverage.add(3, 3).unwrap();
        assert_eq!(coverage.ranges().len(), MSRP_RANGES_MAX - 1);
    }

    #[test]
    fn success_is_told_once_of_every_octet_in_as_few_reports_as_there_are_pieces() {
        // RFC 4975 §7.1.3.
        let mut reports = SuccessReports::default();
        reports.received(1, 4).unwrap();
        reports.received(9, 4).unwrap();
        reports.received(5, 2).unwrap();
        let range = |start, end, total| ByteRange { start, end: Some(end), total };
        assert_eq!(reports.take(), [range(1, 6, None), range(9, 12, None)]);
        assert_eq!(reports.take(), []);
        reports.received(7, 2).unwrap();
        reports.is_of(12);
        assert_eq!(reports.take(), [range(7, 8, Some(12))]);
    }

    #[test]
    fn an_empty_message_is_reported_as_such() {
        // RFC 4975 §7.1.1: 1-0/0.
        let mut reports = SuccessReports::default();
        reports.received(1, 0).unwrap();
        reports.is_of(0);
        assert_eq!(reports.take(), [ByteRange::of(1, 0, 0)]);
        assert_eq!(reports.take(), []);
    }
}
