//! One turn of a shard: what is to leave, gathered while deciding, sent at once when all is decided.
//!
//! Each shard thread has one turn, reused for ever. The data plane fills it from a batch of datagrams, actors fill it from
//! their handlers; whoever fills it from outside a batch asks for a flush, which runs once after everything that is ready.
//! Locks of tables are let go before the first system call.

use std::cell::RefCell;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use base::Aor;
use base::limits::DATAGRAMS_QUEUED_MAX;

use crate::hop::Hop;
use crate::message::{Offer, SessionInput, SessionKey};
use crate::metrics::{Count, Counts, Metrics};
use crate::outbox::{Flows, Outbox, Sent};
use crate::registry::Registry;
use crate::transactions::{Answer, Owed, Slot, Transactions};

/// A datagram in the arena.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The listener whose socket sends it.
    pub listener: u8,
    /// To whom.
    pub peer: SocketAddr,
    /// Its octets in the arena.
    pub range: Range<usize>,
}

/// What `net` lends a shard: its sockets, one a UDP listener.
pub trait DatagramSink {
    /// Sends all of them by as few system calls as there are; how many were lost.
    fn send(&self, arena: &[u8], datagrams: &[Datagram]) -> u64;
}

/// A message in the arena that leaves by a connection.
struct Piece {
    outbox: Arc<Outbox>,
    range: Range<usize>,
    /// Who waits for its answer, and must learn when it could not be sent.
    waiting: Option<Waiting>,
}

type Waiting = (Arc<Transactions>, Slot);

/// A turn's outputs.
#[derive(Default)]
pub struct Turn {
    /// The octets of everything that leaves.
    pub arena: Vec<u8>,
    datagrams: Vec<Datagram>,
    streams: Vec<Piece>,
    lost: Vec<Waiting>,
    offers: Vec<(Aor, Offer)>,
    sessions: Vec<(SessionKey, SessionInput)>,
    /// What was counted.
    pub counts: Counts,
}

impl Turn {
    /// Sends what stands in the arena from `start` on. `false`: the connection is gone.
    pub fn send(&mut self, flows: &Flows, hop: Hop, start: usize) -> bool {
        self.send_for(flows, hop, start, None)
    }

    /// The same for a request, whose transaction learns when its connection does not take it.
    pub(crate) fn send_request(
        &mut self,
        transactions: &Arc<Transactions>,
        hop: Hop,
        start: usize,
        slot: Slot,
    ) -> bool {
        let waiting = hop.is_reliable().then(|| (transactions.clone(), slot));
        self.send_for(transactions.flows(), hop, start, waiting)
    }

    fn send_for(&mut self, flows: &Flows, hop: Hop, start: usize, waiting: Option<Waiting>) -> bool {
        let range = start..self.arena.len();
        match hop.conn() {
            None if self.datagrams.len() >= DATAGRAMS_QUEUED_MAX => {
                self.counts.add(Count::DatagramsLost);
                self.arena.truncate(start);
            }
            None => self.datagrams.push(Datagram { listener: hop.listener(), peer: hop.peer(), range }),
            Some(conn) => match flows.get(conn) {
                Some(outbox) => self.streams.push(Piece { outbox, range, waiting }),
                None => return self.lose(start),
            },
        }
        true
    }

    /// What stands in the arena from `start` on has no way out. `false`, as it was not sent.
    pub(crate) fn lose(&mut self, start: usize) -> bool {
        self.counts.add(Count::StreamLost);
        self.arena.truncate(start);
        false
    }

    /// Offers something to a user's actor.
    pub fn offer(&mut self, to: Aor, offer: Offer) {
        self.offers.push((to, offer));
    }

    /// Tells a session's actor something.
    pub fn session(&mut self, to: SessionKey, input: SessionInput) {
        self.sessions.push((to, input));
    }

    /// Takes out what sessions are told, for worlds without actors.
    pub fn take_sessions(&mut self) -> Vec<(SessionKey, SessionInput)> {
        std::mem::take(&mut self.sessions)
    }

    /// Whether nothing is to leave.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty() && self.streams.is_empty() && self.offers.is_empty() && self.sessions.is_empty()
    }

    /// What is to leave as datagrams, for worlds without sockets.
    pub fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    /// Takes the offers out, for worlds without actors.
    pub fn take_offers(&mut self) -> Vec<(Aor, Offer)> {
        std::mem::take(&mut self.offers)
    }

    /// Forgets what has left.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.datagrams.clear();
        self.streams.clear();
        if self.arena.capacity() > 1 << 20 {
            self.arena.shrink_to(1 << 16);
        }
    }

    fn write_streams(&mut self) {
        let Self { arena, streams, counts, lost, .. } = self;
        // All that goes to one connection leaves by one write; what goes to others may overtake it.
        if streams.len() > 2 {
            streams.sort_by_key(|piece| piece.outbox.id());
        }
        let mut rest: &mut [Piece] = streams;
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|each| Arc::ptr_eq(&each.outbox, &first.outbox)).count().min(SLICES);
            let (now, later) = rest.split_at_mut(same);
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, piece) in slices.iter_mut().zip(&*now) {
                *slice = IoSlice::new(&arena[piece.range.clone()]);
            }
            match now[0].outbox.send(&slices[..same]) {
                Sent::Whole | Sent::Queued => {}
                Sent::Full | Sent::Closed => {
                    counts.add_many(Count::StreamLost, same as u64);
                    lost.extend(now.iter_mut().filter_map(|piece| piece.waiting.take()));
                }
            }
            rest = later;
        }
    }
}

/// Messages that one write to a connection takes.
const SLICES: usize = 64;

/// What a shard thread needs to let a turn go.
pub struct ShardOut {
    /// Where offers go.
    pub registry: Arc<Registry>,
    /// This thread's sockets.
    pub sink: Box<dyn DatagramSink>,
    /// The sums.
    pub metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Local {
    turn: Turn,
    out: Option<ShardOut>,
    flush_asked: bool,
}

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::default();
    static DROPPED: RefCell<Vec<Box<Owed>>> = const { RefCell::new(Vec::new()) };
}

/// Makes this thread a shard: its turn can leave from now on.
pub fn attach(out: ShardOut) {
    LOCAL.with_borrow_mut(|local| local.out = Some(out));
}

/// Replaces this thread's sockets, when the doors are opened after the actors.
pub fn attach_sink(sink: Box<dyn DatagramSink>) {
    LOCAL.with_borrow_mut(|local| {
        if let Some(out) = &mut local.out {
            out.sink = sink;
        }
    });
}

/// Fills this thread's turn; the caller flushes. Must not be called from within itself.
pub fn fill<R>(with: impl FnOnce(&mut Turn) -> R) -> R {
    LOCAL.with_borrow_mut(|local| with(&mut local.turn))
}

/// Fills this thread's turn and asks for a flush, which runs once after all that is ready now: for actors.
pub fn fill_later<R>(with: impl FnOnce(&mut Turn) -> R) -> R {
    LOCAL.with_borrow_mut(|local| {
        let result = with(&mut local.turn);
        ask_flush(local);
        result
    })
}

fn ask_flush(local: &mut Local) {
    if !local.flush_asked && local.out.is_some() && tokio::runtime::Handle::try_current().is_ok() {
        local.flush_asked = true;
        actix_rt::spawn(async { flush() });
    }
}

/// An answer that was dropped unsent: it is sent as 503 by the next flush (decisions D20).
pub(crate) fn dropped(owed: Box<Owed>) {
    // While a thread ends, its turn may be gone already: then nobody can be answered any more.
    let _ = DROPPED.try_with(|list| list.borrow_mut().push(owed));
    let _ = LOCAL.try_with(|local| {
        if let Ok(mut local) = local.try_borrow_mut() {
            ask_flush(&mut local);
        }
    });
}

/// Answers of this thread that were dropped unsent, for worlds without shards.
pub fn take_dropped() -> Vec<Answer> {
    DROPPED.take().into_iter().map(Answer::again).collect()
}

/// Lets this thread's turn go: datagrams, streams, offers. What cannot be offered is answered 503.
pub fn flush() {
    for _ in 0..4 {
        let lost = take_dropped();
        LOCAL.with_borrow_mut(|local| {
            for answer in lost {
                answer.lost(&mut local.turn);
            }
        });
        let offers = LOCAL.with_borrow_mut(|local| {
            local.flush_asked = false;
            let out = local.out.as_ref()?;
            let turn = &mut local.turn;
            if !turn.datagrams.is_empty() {
                // Taken out, so that a fault of the sockets is not met by every flush that follows.
                let datagrams = std::mem::take(&mut turn.datagrams);
                let lost = out.sink.send(&turn.arena, &datagrams);
                turn.counts.add_many(Count::DatagramsLost, lost);
                turn.datagrams = datagrams;
            }
            turn.write_streams();
            turn.clear();
            // What a full or lost connection did not take: their senders wait for nothing.
            for (transactions, slot) in std::mem::take(&mut turn.lost) {
                transactions.unreachable(turn, slot);
            }
            out.metrics.add(&mut turn.counts);
            Some((turn.take_offers(), turn.take_sessions(), out.registry.clone()))
        });
        if let Some((offers, sessions, registry)) = offers {
            registry.hand_over(offers);
            registry.hand_over_sessions(sessions);
        }
        if DROPPED.with_borrow(Vec::is_empty) {
            return;
        }
    }
}
