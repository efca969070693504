//! What one group commit does: judge each batch against what is there, earlier batches of the group included, and stage
//! the rows of those that may pass. The same for every engine that keeps rows; the engine writes them and answers.

use hashbrown::HashMap;

use base::Partition;

use crate::ask::{Answers, Ask, Reply};
use crate::engine::{Batch, Change, Epoch, Expect, Op, Receipt, Rev, is_due};
use crate::error::StoreError;
use crate::families::Family;
use crate::keys::{self, ARRIVAL_WIDTH};
use crate::read::Table;
use crate::record::Head;

/// Rows that can be changed: what is staged is written together or not at all.
pub(crate) trait Disk: Table {
    /// Stages a row.
    fn stage_put(&mut self, family: Family, row: &[u8], value: &[u8]);
    /// Stages the removal of a row.
    fn stage_delete(&mut self, family: Family, row: &[u8]);
    /// Forgets what is staged.
    fn discard(&mut self);
    /// Writes what is staged; with `sync` it is on the disk when this returns.
    fn write(&mut self, sync: bool) -> Result<(), StoreError>;
}

/// A batch that waits, and the way to answer who asked for it.
pub(crate) struct Commit {
    partition: Partition,
    fence: Epoch,
    batch: Batch,
    reply: Reply<Receipt>,
}

impl Commit {
    /// A commit that waits, and its question. A batch that can never pass is answered at once.
    pub(crate) fn open(partition: Partition, fence: Epoch, batch: Batch) -> Result<(Self, Ask<Receipt>), StoreError> {
        if let Some(fault) = batch.fault {
            return Err(fault);
        }
        let (ask, reply) = Ask::open();
        Ok((Self { partition, fence, batch, reply }, ask))
    }

    /// Octets of its keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.batch.bytes
    }

    /// Answers it without doing anything.
    pub(crate) fn refuse(self, why: StoreError, answers: &mut Answers) {
        self.reply.send(Err(why), answers);
    }
}

/// What a store must not forget: its last revision and its last arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ledger {
    pub rev: u64,
    /// Microseconds since 1970.
    pub arrival: u64,
}

/// The verdicts on a group, held back until its rows are written.
#[derive(Default)]
pub(crate) struct Verdicts {
    verdicts: Vec<(Reply<Receipt>, Result<Receipt, StoreError>)>,
    /// Records staged, without those that the engine keeps for itself.
    pub records: usize,
    /// Batches that did not pass.
    pub refused: usize,
}

impl Verdicts {
    /// How many batches were judged.
    pub(crate) fn count(&self) -> usize {
        self.verdicts.len()
    }

    /// Whether there is anything to write.
    pub(crate) fn changes_nothing(&self) -> bool {
        self.records == 0
    }

    /// Tells everybody: what was judged, or that the writing failed.
    pub(crate) fn tell(self, written: Result<(), StoreError>, answers: &mut Answers) {
        for (reply, verdict) in self.verdicts {
            reply.send(written.clone().and(verdict), answers);
        }
    }
}

/// What the batches of this group did so far, by family: `None` is removed.
type Overlay = [HashMap<Vec<u8>, Option<Head>>; Family::ALL.len()];

impl Ledger {
    /// Reads the high water mark of a store; a new store has none.
    pub(crate) fn open(table: &impl Table) -> Result<Self, StoreError> {
        let Some(value) = table.value(Family::Meta, &keys::meta_mark())? else { return Ok(Self::default()) };
        let mark = value.get(crate::record::HEAD_WIDTH..).and_then(|mark| mark.first_chunk::<16>());
        let mark = mark.ok_or(StoreError::Damaged { kind: "high water mark", what: "it is cut short" })?;
        let (rev, arrival) = mark.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        Ok(Self { rev: number(rev), arrival: number(arrival) })
    }

    /// Judges a group and stages what passes. On an error nothing is staged, and everybody gets that error.
    pub(crate) fn judge(
        &mut self,
        disk: &mut impl Disk,
        commits: impl IntoIterator<Item = Commit>,
        epoch: Epoch,
        now_unix_ms: u64,
    ) -> (Verdicts, Result<(), StoreError>) {
        let mut verdicts = Verdicts::default();
        let mut overlay = Overlay::default();
        let mut failed = Ok(());
        let mut scratch = Vec::new();
        for Commit { partition, fence, batch, reply } in commits {
            let verdict = if failed.is_err() {
                failed.clone().map(|()| Receipt { rev: Rev(0), arrival: 0 })
            } else if fence != epoch {
                Err(StoreError::Fenced { held: epoch.0, given: fence.0 })
            } else {
                let verdict = self.judge_one(
                    disk,
                    partition,
                    batch.ops,
                    now_unix_ms,
                    &mut overlay,
                    &mut verdicts.records,
                    &mut scratch,
                );
                match verdict {
                    Err(why) if !matches!(why, StoreError::Conflict { .. }) => {
                        failed = Err(why.clone());
                        Err(why)
                    }
                    verdict => verdict,
                }
            };
            verdicts.refused += usize::from(verdict.is_err());
            verdicts.verdicts.push((reply, verdict));
        }
        if failed.is_err() {
            disk.discard();
        } else if !verdicts.changes_nothing() {
            scratch.clear();
            Head { rev: Rev(self.rev), expires_unix_s: 0 }.write(&mut scratch);
            scratch.extend_from_slice(&self.rev.to_be_bytes());
            scratch.extend_from_slice(&self.arrival.to_be_bytes());
            disk.stage_put(Family::Meta, &keys::meta_mark(), &scratch);
        }
        (verdicts, failed)
    }

    fn judge_one(
        &mut self,
        disk: &mut impl Disk,
        partition: Partition,
        ops: Vec<Op>,
        now_unix_ms: u64,
        overlay: &mut Overlay,
        records: &mut usize,
        scratch: &mut Vec<u8>,
    ) -> Result<Receipt, StoreError> {
        let arrival = self.arrival_for(&ops, now_unix_ms);
        let mut rows: Vec<Staged> = ops.into_iter().map(|op| Staged::new(op, partition, arrival)).collect();
        for Staged { family, row, expect, before, .. } in &mut rows {
            if *expect != Expect::Any {
                let found = standing(disk, overlay, *family, row)?;
                *before = Some(found);
                let seen = |head: &Head| *expect == Expect::Present || !head.is_over(now_unix_ms / 1_000);
                expected(*expect, found.filter(seen))?;
            }
        }
        if rows.is_empty() {
            return Ok(Receipt { rev: Rev(self.rev), arrival: 0 });
        }
        self.rev += 1;
        let rev = Rev(self.rev);
        *records += rows.len();
        for Staged { family, row, change, before, .. } in rows {
            if is_due(family) {
                let before = before.map_or_else(|| standing(disk, overlay, family, &row), Ok)?;
                if let Some(before) = before.filter(|head| head.expires_unix_s != 0) {
                    disk.stage_delete(Family::Due, &keys::due_on_disk(family, &row, before.expires_unix_s));
                }
            }
            let head = match change {
                Change::Put { value, expires_unix_s } => {
                    let head = Head { rev, expires_unix_s };
                    scratch.clear();
                    head.write(scratch);
                    scratch.extend_from_slice(&value);
                    disk.stage_put(family, &row, scratch);
                    if is_due(family) && expires_unix_s != 0 {
                        disk.stage_put(Family::Due, &keys::due_on_disk(family, &row, expires_unix_s), &[]);
                    }
                    Some(head)
                }
                Change::Delete { .. } => {
                    disk.stage_delete(family, &row);
                    None
                }
            };
            overlay[family.index()].insert(row, head);
        }
        Ok(Receipt { rev, arrival: arrival.unwrap_or(0) })
    }

    /// D2: the larger of the clock and the last arrival plus one. A store has one count for all its partitions.
    fn arrival_for(&mut self, ops: &[Op], now_unix_ms: u64) -> Option<u64> {
        ops.iter().any(|op| op.stamp_at.is_some()).then(|| {
            self.arrival = now_unix_ms.saturating_mul(1_000).max(self.arrival + 1);
            self.arrival
        })
    }
}

/// An operation with its key as it stands on disk.
struct Staged {
    family: Family,
    row: Vec<u8>,
    expect: Expect,
    change: Change,
    /// What stands there, where that is known: nothing under a key with a new arrival. Of what was put once its time is.
    before: Option<Option<Head>>,
}

impl Staged {
    fn new(op: Op, partition: Partition, arrival: Option<u64>) -> Self {
        let Op { family, mut key, stamp_at, expect, change } = op;
        let stamped = stamp_at.zip(arrival);
        if let Some((at, arrival)) = stamped {
            debug_assert!(at + ARRIVAL_WIDTH <= key.bytes().len());
            key.stamp(at, arrival);
        }
        let before = match &change {
            Change::Delete { was_until_s: Some(expires_unix_s) } => {
                Some(Some(Head { rev: Rev(0), expires_unix_s: *expires_unix_s }))
            }
            _ => stamped.map(|_| None),
        };
        Self { family, row: key.on_disk(partition), expect, change, before }
    }
}

/// The head that stands when the earlier batches of the group are done.
fn standing(disk: &impl Disk, overlay: &Overlay, family: Family, row: &[u8]) -> Result<Option<Head>, StoreError> {
    match overlay[family.index()].get(row) {
        Some(head) => Ok(*head),
        None => disk.head(family, row),
    }
}

fn expected(expect: Expect, found: Option<Head>) -> Result<(), StoreError> {
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Present => found.is_some(),
        Expect::Rev(rev) => found.is_some_and(|head| head.rev == rev),
    };
    if holds { Ok(()) } else { Err(StoreError::Conflict { found: found.map(|head| head.rev) }) }
}
