//! What one read makes leave: a lane's worth for each connection, written once each when all is cut.
//!
//! Heads, end-lines, responses and bodies below 1 KiB are freshly written and lie behind each other; larger bodies stay
//! slices of what was read. Nothing is allocated in steady state: lanes and their buffers are used again.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use msrp::{Flag, Tid};
use smallvec::SmallVec;

use crate::outbox::{Outbox, Sent, Waiting};

/// Bodies below this are copied behind their head: no dearer than a slice of their own.
const COPY_BELOW: usize = 1_024;
/// Slices that one system call takes.
const SLICES: usize = 256;
/// Buffers of which somebody has a share that are kept for when he has it no more: a new one would have to be zeroed.
const LENT: usize = 16;

/// The octets of one read: borrowed while they are cut, shared when a socket does not take them.
pub struct Read {
    buffer: Vec<u8>,
    filled: usize,
    shared: Option<Bytes>,
    lent: Vec<Bytes>,
}

impl Read {
    /// A buffer of this size.
    pub fn new(bytes: usize) -> Self {
        Self { buffer: vec![0; bytes], filled: 0, shared: None, lent: Vec::new() }
    }

    /// Where the next read goes; what was read before is forgotten. A buffer that somebody still has a share of is left to
    /// him, and another taken.
    pub fn room(&mut self) -> &mut [u8] {
        if let Some(shared) = self.shared.take() {
            let bytes = shared.len();
            self.lent.push(shared);
            let back = self.lent.iter().rposition(Bytes::is_unique).map(|at| self.lent.swap_remove(at));
            self.buffer = back.and_then(|back| back.try_into_mut().ok()).map_or_else(|| vec![0; bytes], Vec::from);
            if self.lent.len() > LENT {
                self.lent.swap_remove(0);
            }
        }
        &mut self.buffer
    }

    /// So much was read.
    pub fn fill(&mut self, bytes: usize) {
        self.filled = bytes;
    }

    /// What was read.
    pub fn bytes(&self) -> &[u8] {
        let all = self.shared.as_deref().unwrap_or(&self.buffer);
        &all[..self.filled]
    }

    /// A share of what was read; the buffer is frozen once, nothing is copied.
    pub(super) fn share(&mut self, range: Range<usize>) -> Bytes {
        let buffer = &mut self.buffer;
        self.shared.get_or_insert_with(|| Bytes::from(std::mem::take(buffer))).slice(range)
    }
}

enum Piece {
    New(Range<usize>),
    Read(Range<usize>),
}

/// What leaves by one connection.
pub(super) struct Lane {
    out: Arc<Outbox>,
    pub(super) new: Vec<u8>,
    pieces: Vec<Piece>,
    due: Vec<(Tid, Waiting)>,
    /// The chunk that stays open behind what is written, and whom to tell if it is refused.
    open: Option<(Tid, Option<Waiting>)>,
    marked: usize,
}

impl Lane {
    fn mark(&mut self) {
        if self.marked < self.new.len() {
            let range = self.marked..self.new.len();
            self.marked = self.new.len();
            match self.pieces.last_mut() {
                Some(Piece::New(last)) if last.end == range.start => last.end = range.end,
                _ => self.pieces.push(Piece::New(range)),
            }
        }
    }

    /// A body, or a part of one.
    pub(super) fn body(&mut self, read: &[u8], range: Range<usize>) {
        if range.len() < COPY_BELOW {
            self.new.extend_from_slice(&read[range]);
        } else {
            self.mark();
            self.pieces.push(Piece::Read(range));
        }
    }

    /// What is written so far ends within this chunk.
    pub(super) fn stays_open(&mut self, tid: Tid, due: Option<Waiting>) {
        self.open = Some((tid, due));
    }

    /// The response to this SEND is due.
    pub(super) fn expect(&mut self, tid: Tid, waiting: Waiting) {
        self.due.push((tid, waiting));
    }
}

/// What one turn makes leave.
#[derive(Default)]
pub struct Turn {
    lanes: Vec<Lane>,
    used: usize,
    /// Connections whose sockets did not take all: their reader waits for them before it reads more.
    pub blocked: SmallVec<[Arc<Outbox>; 2]>,
    /// SENDs that could not be handed on because their connection is gone.
    pub lost: Vec<Waiting>,
}

impl Turn {
    /// The lane of a connection.
    pub(super) fn lane(&mut self, out: &Arc<Outbox>) -> &mut Lane {
        let used = &self.lanes[..self.used];
        let at = used.iter().rposition(|lane| Arc::ptr_eq(&lane.out, out)).unwrap_or_else(|| {
            match self.lanes.get_mut(self.used) {
                Some(lane) => lane.out = out.clone(),
                None => self.lanes.push(Lane {
                    out: out.clone(),
                    new: Vec::with_capacity(2_048),
                    pieces: Vec::new(),
                    due: Vec::new(),
                    open: None,
                    marked: 0,
                }),
            }
            self.used += 1;
            self.used - 1
        });
        &mut self.lanes[at]
    }

    /// Writes every lane, each by one system call where the socket takes it.
    pub(super) fn flush(&mut self, read: &mut Read) {
        for at in 0..self.used {
            self.flush_lane(at, read);
        }
        self.used = 0;
    }

    fn flush_lane(&mut self, at: usize, read: &mut Read) {
        let lane = &mut self.lanes[at];
        lane.mark();
        let mut held = lane.out.hold();
        let mut ended = Vec::new();
        if !lane.pieces.is_empty() {
            held.msrp().end(&mut ended, Flag::More);
        }
        let mut sent = Sent::Whole;
        let ended = (!ended.is_empty()).then_some(&ended[..]);
        let mut rest = &lane.pieces[..];
        let mut first = ended;
        while !rest.is_empty() || first.is_some() {
            let count = rest.len().min(SLICES - 1);
            let (now, later) = rest.split_at(count);
            rest = later;
            let mut left: SmallVec<[(usize, usize); 4]> = SmallVec::new();
            let prefix = first.take();
            {
                let bytes = read.bytes();
                let mut slices: SmallVec<[IoSlice<'_>; 16]> =
                    prefix.iter().map(|octets| IoSlice::new(octets)).collect();
                slices.extend(now.iter().map(|piece| match piece {
                    Piece::New(range) => IoSlice::new(&lane.new[range.clone()]),
                    Piece::Read(range) => IoSlice::new(&bytes[range.clone()]),
                }));
                sent = held.try_write(&slices, |number, from| left.push((number, from)));
            }
            let skip = usize::from(prefix.is_some());
            for (number, from) in left {
                let kept = match (number.checked_sub(skip), prefix) {
                    (None, prefix) => Bytes::copy_from_slice(&prefix.unwrap_or_default()[from..]),
                    (Some(number), _) => match &now[number] {
                        Piece::New(range) => Bytes::copy_from_slice(&lane.new[range.start + from..range.end]),
                        Piece::Read(range) => read.share(range.start + from..range.end),
                    },
                };
                held.queue(kept);
            }
        }
        match sent {
            Sent::Closed => {
                let open = lane.open.take().and_then(|(_, due)| due);
                self.lost.extend(lane.due.drain(..).map(|(_, waiting)| waiting).chain(open));
            }
            Sent::Whole | Sent::Queued | Sent::Full => {
                let msrp = held.msrp();
                let now = std::time::Instant::now();
                for (tid, waiting) in lane.due.drain(..) {
                    // Full: nobody is told if this one is refused; the session has thousands under way.
                    let _ = msrp.due.expect(tid, waiting, now);
                }
                if let Some((tid, due)) = lane.open.take() {
                    msrp.begin(tid, due);
                }
            }
        }
        let is_blocked = held.is_waiting();
        drop(held);
        if is_blocked {
            self.blocked.push(lane.out.clone());
        }
        (lane.open, lane.marked) = (None, 0);
        lane.new.clear();
        lane.pieces.clear();
    }
}
