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

use crate::asker::Asker;
use crate::hop::Hop;
use crate::message::{Offer, SessionInput, SessionKey};
use crate::metrics::{Count, Counts, Metrics};
use crate::outbox::{Flows, Outbox, Sent};
use crate::registry::Registry;
use crate::transactions::{Answer, Owed, Transactions};

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
    /// Sends all of them by as few system calls as there are; how many were lost. Of those `unsent` is told which can
    /// never get there: the system refuses the address, not the moment.
    fn send(&self, arena: &[u8], datagrams: &[Datagram], unsent: &mut Vec<usize>) -> u64;
}

/// A message in the arena that leaves by a connection.
struct Piece {
    outbox: Arc<Outbox>,
    range: Range<usize>,
    /// Who waits for its answer, and must learn when it could not be sent.
    waiting: Option<Waiting>,
}

type Waiting = (Arc<Transactions>, Asker);

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

    /// The same for a request, whose asker learns when its connection does not take it.
    pub(crate) fn send_request(
        &mut self,
        transactions: &Arc<Transactions>,
        hop: Hop,
        start: usize,
        asker: Asker,
    ) -> bool {
        let waiting = hop.is_reliable().then(|| (transactions.clone(), asker));
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
    /// Who hears what could not be delivered.
    pub transactions: Arc<Transactions>,
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
    #[expect(clippy::vec_box, reason = "an answer is the box: it is not moved out and in")]
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
            let (turn, mut unsent) = (&mut local.turn, Vec::new());
            if !turn.datagrams.is_empty() {
                // Taken out, so that a fault of the sockets is not met by every flush that follows.
                let datagrams = std::mem::take(&mut turn.datagrams);
                let lost = out.sink.send(&turn.arena, &datagrams, &mut unsent);
                turn.counts.add_many(Count::DatagramsLost, lost);
                turn.datagrams = datagrams;
            }
            turn.write_streams();
            // What a full or lost connection did not take, or no socket could send: their askers wait for nothing.
            let unsent = unsent.iter().filter_map(|at| {
                let asker = Asker::of_request(&turn.arena[turn.datagrams[*at].range.clone()])?;
                Some((out.transactions.clone(), asker))
            });
            turn.lost.extend(unsent);
            turn.clear();
            for (transactions, asker) in std::mem::take(&mut turn.lost) {
                transactions.unreachable(turn, asker);
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::rc::Rc;
    use std::time::Duration;

    use base::limits::OUTBOX_BYTES_MAX;
    use base::{IdMaker, Now};
    use parking_lot::Mutex;

    use super::*;
    use crate::outbox::Writer;
    use crate::testing::{Ask, Wire, aor, at, status};
    use crate::transactions::{Parties, Served};

    struct Full;

    impl Writer for Full {
        fn try_write_vectored(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Takes all, and tells how many pieces each write had.
    #[derive(Clone, Default)]
    struct Taking(Arc<Mutex<Vec<usize>>>);

    impl Writer for Taking {
        fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.0.lock().push(slices.len());
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }
    }

    fn shard(sink: Box<dyn DatagramSink>) -> Arc<Metrics> {
        let metrics = Arc::<Metrics>::default();
        let registry = Arc::new(Registry::new(1));
        attach(ShardOut { registry, transactions: transactions(), sink, metrics: metrics.clone() });
        metrics
    }

    fn transactions() -> Arc<Transactions> {
        Transactions::new(&IdMaker::new([3; 16]), Arc::default(), Duration::from_secs(10), Now::read)
    }

    fn answer(table: &Arc<Transactions>, key: u64) -> Answer {
        let Served::New(slot) = table.serve(key, Hop::udp(0, at(5090))) else { panic!("new") };
        let request = sip::Message::parse(Ask::message("alice", "bob", "x").text("t").into_bytes().into()).unwrap();
        Answer::new(slot, Hop::udp(0, at(5090)), request, Now::read(), table.clone())
    }

    #[test]
    fn an_answer_that_is_dropped_while_the_turn_is_filled_leaves_as_503_with_the_same_flush() {
        let wire = Wire::default();
        let metrics = shard(Box::new(wire.clone()));
        let table = transactions();
        fill(|_| drop(answer(&table, 1)));
        // And one that comes with an offer that no nursery takes.
        let offered = answer(&table, 3);
        fill(|turn| turn.offer(aor("bob"), Offer::Missing { answer: offered }));
        flush();
        let left = wire.take(5090);
        assert_eq!(left.iter().map(|text| status(text)).collect::<Vec<_>>(), [503, 503]);
        assert_eq!(metrics.get(Count::Overloaded), 2);
        flush();
        assert!(wire.take(5090).is_empty());
    }

    #[test]
    fn an_answer_may_outlive_its_thread() {
        let table = transactions();
        std::thread::spawn({
            let table = table.clone();
            move || drop(answer(&table, 1))
        })
        .join()
        .unwrap();
        assert_eq!(table.len(), 1, "nobody can send it any more, and nothing goes round");
    }

    #[actix::test]
    async fn what_actors_fill_in_leaves_once_after_all_that_is_ready() {
        let wire = Wire::default();
        shard(Box::new(wire.clone()));
        let flows = Flows::default();
        for n in 0..3 {
            fill_later(|turn| {
                turn.arena.push(b'0' + n);
                let start = turn.arena.len() - 1;
                assert!(turn.send(&flows, Hop::udp(0, at(5091)), start));
            });
        }
        assert!(wire.take(5091).is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(wire.take(5091), ["0", "1", "2"]);
    }

    #[test]
    fn a_turn_holds_a_bounded_number_of_datagrams_and_says_what_it_lost() {
        let (mut turn, flows, metrics) = (Turn::default(), Flows::default(), Metrics::default());
        for _ in 0..DATAGRAMS_QUEUED_MAX + 5 {
            let start = turn.arena.len();
            turn.arena.extend_from_slice(b"hello");
            assert!(turn.send(&flows, Hop::udp(0, at(5091)), start));
        }
        metrics.add(&mut turn.counts);
        assert_eq!((turn.datagrams().len(), turn.arena.len()), (DATAGRAMS_QUEUED_MAX, 5 * DATAGRAMS_QUEUED_MAX));
        assert_eq!(metrics.get(Count::DatagramsLost), 5);
    }

    #[test]
    fn messages_for_one_connection_leave_by_one_write() {
        shard(Box::new(Wire::default()));
        let (flows, one, two) = (Flows::default(), Taking::default(), Taking::default());
        let hop = |writer: &Taking| Hop::stream(flows.open(Some(Box::new(writer.clone()))).id(), at(5092));
        let (first, second) = (hop(&one), hop(&two));
        fill(|turn| {
            for n in 0..100 {
                let start = turn.arena.len();
                turn.arena.extend_from_slice(b"hello");
                turn.send(&flows, if n == 70 { second } else { first }, start);
            }
        });
        flush();
        assert_eq!((&*one.0.lock(), &*two.0.lock()), (&vec![64, 35], &vec![1]));
    }

    #[test]
    fn a_request_that_its_connection_does_not_take_ends_at_once() {
        let metrics = shard(Box::new(Wire::default()));
        let table = transactions();
        let outbox = table.flows().open(Some(Box::new(Full)));
        let full = vec![b'x'; OUTBOX_BYTES_MAX];
        assert_eq!(outbox.send(&[IoSlice::new(&full)]), Sent::Queued);
        let heard = Rc::new(Cell::new(0));
        let Served::New(slot) = table.serve(1, Hop::udp(0, at(5090))) else { panic!("new") };
        let (alice, bob) = (aor("alice"), aor("bob"));
        fill(|turn| {
            let parties = Parties { sender: &alice, receiver: &bob };
            table.relay(turn, slot, Hop::stream(outbox.id(), at(5092)), parties, Now::read(), |out, branch| {
                heard.set(branch.len());
                let via = format!("SIP/2.0/TCP here;branch={}\r\nVia: ", String::from_utf8_lossy(branch));
                let text = Ask::message("alice", "bob", "x").text("t").replacen("Via: ", &format!("Via: {via}"), 1);
                out.extend_from_slice(text.as_bytes());
            });
        });
        flush();
        // Its actor is nobody here: so the answer has become 503, and nothing waits for a silent receiver.
        assert_eq!(heard.get(), 26);
        assert_eq!((metrics.get(Count::StreamLost), metrics.get(Count::Overloaded)), (1, 1));
        assert!(matches!(table.repeat(1), Some(Served::Answered(delta)) if delta.status() == 503));
    }

    #[test]
    fn a_fault_of_the_sockets_is_not_met_again_by_the_next_flush() {
        struct Falling(Rc<Cell<u32>>);
        impl DatagramSink for Falling {
            fn send(&self, _: &[u8], datagrams: &[Datagram], _: &mut Vec<usize>) -> u64 {
                self.0.set(self.0.get() + datagrams.len() as u32);
                assert!(self.0.get() > 1, "the first one falls");
                0
            }
        }
        let tried = Rc::new(Cell::new(0));
        shard(Box::new(Falling(tried.clone())));
        let send = || {
            fill(|turn| {
                let start = turn.arena.len();
                turn.arena.push(b'x');
                turn.send(&Flows::default(), Hop::udp(0, at(5091)), start);
            });
            std::panic::catch_unwind(flush).is_ok()
        };
        assert!(!send() && send());
        assert_eq!(tried.get(), 2);
    }
}
