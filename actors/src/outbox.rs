//! The way out to one connection: bounded, any thread may write, nobody waits, and it says when it is full.
//!
//! In steady state the queue is empty and what is sent goes straight into the socket (`fast-path.md` §3). What the socket
//! does not take is copied into the queue and leaves by the drain task of `net`, which alone waits for the socket. Who
//! filled it up may wait for [`Outbox::drained`] before it reads more.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use arrayvec::ArrayVec;
use base::Aor;
use base::limits::OUTBOX_BYTES_MAX;
use bytes::{Buf, Bytes};
use hashbrown::HashMap;
use msrp::{Flag, Tid};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::Notify;

use crate::asker::Asker;
use crate::hop::{ConnId, Hop};
use crate::transactions::Slot;

/// Askers that a connection remembers before it looks which of them are over.
const AWAITED_LOOK: usize = 64;

/// What `net` lends an outbox: a socket that takes what it can and never waits.
pub trait Writer: Send {
    /// How much was taken; `WouldBlock` when nothing can be.
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// What became of something sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The socket has it.
    Whole,
    /// It waits in the queue, wholly or in part; the drain task was woken.
    Queued,
    /// The queue is full: nothing of it was taken.
    Full,
    /// The connection is gone.
    Closed,
}

/// The way out to one connection.
pub struct Outbox {
    id: ConnId,
    /// Where it leads to, if we opened it.
    leads_to: Option<SocketAddr>,
    lane: Mutex<Lane>,
    /// Apart from the lane, because who looks into it asks the transactions, and they must never wait for a socket.
    awaited: Mutex<Awaited>,
    /// Users with a binding that lasts no longer than this connection; nothing once it is gone.
    users: Mutex<Option<Vec<Aor>>>,
    wake: Notify,
    drained: Notify,
    closed: AtomicBool,
    /// The one that has taken over what waited here.
    successor: OnceLock<Arc<Outbox>>,
}

#[derive(Default)]
struct Lane {
    writer: Option<Box<dyn Writer>>,
    queue: VecDeque<Bytes>,
    bytes: usize,
    msrp: Option<Box<Msrp>>,
    /// Closed as soon as nothing waits any more.
    closing: bool,
}

/// What a lane of an MSRP connection keeps in step, beside its queue.
#[derive(Default)]
pub struct Msrp {
    /// The chunk that has begun to leave and has no end-line yet.
    open: Option<Tid>,
    /// SENDs that were forwarded and whose responses are due.
    pub due: msrp::Awaited<Waiting>,
    /// Legs that this connection carries.
    pub legs: usize,
}

impl Msrp {
    /// Whether this is the chunk that has begun to leave and has no end-line yet.
    pub fn is_open(&self, tid: &Tid) -> bool {
        self.open.as_ref() == Some(tid)
    }

    /// A chunk begins to leave and stays open; `due`: whom to tell if it is refused.
    pub fn begin(&mut self, tid: Tid, due: Option<Waiting>) {
        self.open = Some(tid);
        if let Some(due) = due {
            // Full: nobody is told if this one is refused; the session has thousands under way.
            let _ = self.due.begin(tid, due);
        }
    }

    /// Ends the chunk that is open, if there is one: whoever else must write does it first, with `+` (RFC 4975 §7.1.1).
    /// From now on its response is due, whoever ended it.
    pub fn end(&mut self, out: &mut Vec<u8>, flag: Flag) {
        if let Some(tid) = self.open.take() {
            msrp::end_line(out, &tid, flag, true);
            self.due.sent(Instant::now());
        }
    }
}

/// A SEND that was forwarded, and whom to tell if it is refused.
#[derive(Clone)]
pub struct Waiting {
    /// The connection that it came by.
    pub back: Arc<Outbox>,
    /// The sender's path, whole.
    pub to_path: Bytes,
    /// Our URI towards the sender.
    pub from_path: Bytes,
    /// Its Message-ID.
    pub message_id: ArrayVec<u8, 32>,
    /// Its Byte-Range.
    pub range: msrp::ByteRange,
    /// What its Failure-Report asks for.
    pub wish: msrp::FailureReport,
}

/// A lane whose lock is held: what is written here is written together, and decided with the lane in sight.
pub struct Held<'a> {
    lane: MutexGuard<'a, Lane>,
    outbox: &'a Outbox,
}

impl Held<'_> {
    /// What MSRP keeps in step here.
    pub fn msrp(&mut self) -> &mut Msrp {
        self.lane.msrp.get_or_insert_default()
    }

    /// Writes what the socket takes now; `left` is told of every slice that is not wholly taken, and of the place in it
    /// from which on it is left: that is to be queued, in this order, before the lane is let go. There is no bound: who
    /// writes a turn's worth waits for [`Outbox::drained`] before it reads more.
    pub fn try_write(&mut self, slices: &[IoSlice<'_>], mut left: impl FnMut(usize, usize)) -> Sent {
        if self.outbox.is_closed() {
            return Sent::Closed;
        }
        let Ok(mut taken) = self.lane.try_now(slices) else {
            self.outbox.close();
            return Sent::Closed;
        };
        let mut sent = Sent::Whole;
        for (number, slice) in slices.iter().enumerate() {
            let skipped = taken.min(slice.len());
            taken -= skipped;
            if skipped < slice.len() {
                sent = Sent::Queued;
                left(number, skipped);
            }
        }
        sent
    }

    /// Queues what the socket did not take.
    pub fn queue(&mut self, bytes: Bytes) {
        self.lane.bytes += bytes.len();
        self.lane.queue.push_back(bytes);
        self.outbox.wake.notify_one();
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        !self.lane.queue.is_empty()
    }

    /// Takes what waits in another outbox, whose socket this one is: it goes first.
    pub fn take_over(&mut self, other: &Outbox, own: &Arc<Outbox>) {
        let mut before = other.lane.lock();
        // Whoever comes to the other one from now on is led here.
        let _ = other.successor.set(own.clone());
        let (queue, bytes) = (std::mem::take(&mut before.queue), std::mem::take(&mut before.bytes));
        self.lane.bytes += bytes;
        self.lane.queue.extend(queue);
        if let Some(mut msrp) = before.msrp.take() {
            let own = self.msrp();
            let open = msrp.open.take();
            for (tid, waiting) in msrp.due.hand_over() {
                if open == Some(tid) && own.open.is_none() {
                    own.begin(tid, Some(waiting));
                } else {
                    let _ = own.due.expect(tid, waiting, Instant::now());
                }
            }
            own.open = own.open.take().or(open);
        }
        drop(before);
        other.close();
        self.outbox.wake.notify_one();
    }
}

impl Lane {
    /// What the socket takes now, if nothing waits before it.
    fn try_now(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.writer.as_mut() {
            Some(writer) if self.queue.is_empty() => match writer.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                outcome => outcome,
            },
            _ => Ok(0),
        }
    }
}

/// Requests whose answers are due from a connection.
struct Awaited {
    askers: Vec<(Asker, Weak<()>)>,
    /// At this length those that are over are thrown out; twice what was left the last time, so that each costs little.
    look_at: usize,
}

impl Outbox {
    /// Over a socket; without one (`None`) all is queued until [`Outbox::connect`], while a connection is being opened.
    pub fn new(id: ConnId, writer: Option<Box<dyn Writer>>) -> Arc<Self> {
        Self::made(id, writer, None)
    }

    fn made(id: ConnId, writer: Option<Box<dyn Writer>>, leads_to: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            id,
            leads_to,
            lane: Mutex::new(Lane { writer, ..Lane::default() }),
            awaited: Mutex::new(Awaited { askers: Vec::new(), look_at: AWAITED_LOOK }),
            users: Mutex::new(Some(Vec::new())),
            wake: Notify::new(),
            drained: Notify::new(),
            closed: AtomicBool::new(false),
            successor: OnceLock::new(),
        })
    }

    /// Which connection this is.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Gives it its socket, and sends what has waited for it.
    pub fn connect(&self, writer: Box<dyn Writer>) {
        self.lane.lock().writer = Some(writer);
        self.wake.notify_one();
    }

    /// Sends whole messages: all slices or none.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> Sent {
        let mut lane = self.lane.lock();
        if self.is_closed() {
            return Sent::Closed;
        }
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        let Ok(mut taken) = lane.try_now(slices) else {
            drop(lane);
            self.close();
            return Sent::Closed;
        };
        if taken >= whole {
            return Sent::Whole;
        }
        // A message that has begun to leave must go on; a new one may be refused.
        if taken == 0 && lane.bytes + whole > OUTBOX_BYTES_MAX {
            return Sent::Full;
        }
        for slice in slices {
            let skipped = taken.min(slice.len());
            taken -= skipped;
            if skipped < slice.len() {
                lane.bytes += slice.len() - skipped;
                lane.queue.push_back(Bytes::copy_from_slice(&slice[skipped..]));
            }
        }
        drop(lane);
        self.wake.notify_one();
        Sent::Queued
    }

    /// Holds the lane, or that of its successor. Never over an await, and never two at once but by [`Held::take_over`].
    pub fn hold(&self) -> Held<'_> {
        let lane = self.lane.lock();
        match self.successor.get() {
            None => Held { lane, outbox: self },
            Some(successor) => {
                drop(lane);
                successor.hold()
            }
        }
    }

    /// Closes it as soon as all that waits has left.
    pub fn close_when_drained(&self) {
        let mut lane = self.lane.lock();
        lane.closing = true;
        let is_empty = lane.queue.is_empty();
        drop(lane);
        if is_empty {
            self.close();
        }
    }

    /// Writes what waits, as far as the socket takes it. `true`: nothing waits any more. The drain task's work.
    pub fn flush(&self) -> io::Result<bool> {
        let mut lane = self.lane.lock();
        let lane = &mut *lane;
        let Some(writer) = lane.writer.as_mut() else { return Ok(true) };
        while !lane.queue.is_empty() {
            let slices: Vec<IoSlice<'_>> = lane.queue.iter().take(64).map(|each| IoSlice::new(each)).collect();
            let mut taken = match writer.try_write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            lane.bytes -= taken;
            while taken > 0 {
                let Some(front) = lane.queue.front_mut() else { break };
                if front.len() <= taken {
                    taken -= front.len();
                    lane.queue.pop_front();
                } else {
                    front.advance(taken);
                    taken = 0;
                }
            }
        }
        self.drained.notify_waiters();
        if lane.closing {
            self.close();
        }
        Ok(true)
    }

    /// Waits until something is queued, or the connection is closed.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until nothing is queued: the way for whoever filled the queue to let the socket catch up.
    pub async fn drained(&self) {
        loop {
            // The future is made before the queue is looked at, so that no wake is missed.
            let notified = self.drained.notified();
            if self.is_closed() || self.lane.lock().queue.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Octets that wait.
    pub fn waiting(&self) -> usize {
        self.lane.lock().bytes
    }

    /// A request whose answer is due from this connection: when it is lost, its asker learns it at once. Those that are
    /// over are forgotten now and then: of page mode's transactions those that `is_over`, with no lock of the lane held
    /// while it is asked; of a session's those whose `tie` nobody holds any more.
    pub fn awaits(&self, asker: Asker, tie: Weak<()>, is_over: impl Fn(Slot) -> bool) {
        let mut awaited = self.awaited.lock();
        if awaited.askers.len() >= awaited.look_at {
            awaited.askers.retain(|(asker, tie)| match asker {
                Asker::Page(slot) => !is_over(*slot),
                Asker::Session(..) => tie.strong_count() > 0,
            });
            awaited.look_at = (awaited.askers.len() * 2).max(AWAITED_LOOK);
        }
        awaited.askers.push((asker, tie));
    }

    /// A user has a binding that ends with this connection, and will be told. `false`: it is gone already.
    pub fn binds(&self, user: &Aor) -> bool {
        self.users.lock().as_mut().map(|users| users.push(user.clone())).is_some()
    }

    /// Who is to be told that the connection is gone; from now on nobody more.
    pub fn bound(&self) -> Vec<Aor> {
        self.users.lock().take().unwrap_or_default()
    }

    /// Nothing is sent any more, and both tasks of the connection end.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
        self.drained.notify_waiters();
    }

    /// Whether [`Outbox::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What was awaited of a lost connection; drops the socket and what waited for it.
    pub fn abandon(&self) -> Vec<Asker> {
        self.close();
        drop(std::mem::take(&mut *self.lane.lock()));
        std::mem::take(&mut self.awaited.lock().askers).into_iter().map(|(asker, _)| asker).collect()
    }
}

/// Opens a connection to an address and lends it to the outbox, later; `false`: it cannot be asked for now.
pub type Dialer = Box<dyn Fn(SocketAddr, Arc<Outbox>) -> bool + Send + Sync>;

/// Every connection by its id, and those that we opened by the address that they lead to.
#[derive(Default)]
pub struct Flows {
    stripes: [RwLock<HashMap<ConnId, Arc<Outbox>>>; 16],
    opened: Mutex<HashMap<SocketAddr, Arc<Outbox>>>,
    dialer: OnceLock<Dialer>,
    next: AtomicU32,
}

impl Flows {
    /// A new connection's id and outbox.
    pub fn open(&self, writer: Option<Box<dyn Writer>>) -> Arc<Outbox> {
        let outbox = Outbox::new(self.next_id(), writer);
        self.stripe(outbox.id).write().insert(outbox.id, outbox.clone());
        outbox
    }

    /// Introduces who opens connections; once.
    pub fn introduce(&self, dialer: Dialer) {
        let _ = self.dialer.set(dialer);
    }

    /// The connection that we opened to `peer`, or a new one: its hop is good for sending at once, what is sent waits for
    /// it. Nothing when nobody opens connections, or too many wait to be opened.
    pub fn dial(&self, peer: SocketAddr) -> Option<Hop> {
        let mut opened = self.opened.lock();
        if let Some(outbox) = opened.get(&peer).filter(|outbox| !outbox.is_closed()) {
            return Some(Hop::stream(outbox.id, peer));
        }
        let dialer = self.dialer.get()?;
        let outbox = Outbox::made(self.next_id(), None, Some(peer));
        self.stripe(outbox.id).write().insert(outbox.id, outbox.clone());
        if !dialer(peer, outbox.clone()) {
            self.stripe(outbox.id).write().remove(&outbox.id);
            return None;
        }
        let hop = Hop::stream(outbox.id, peer);
        opened.insert(peer, outbox);
        Some(hop)
    }

    /// The way out to a connection, while it stands.
    pub fn get(&self, id: ConnId) -> Option<Arc<Outbox>> {
        self.stripe(id).read().get(&id).filter(|outbox| !outbox.is_closed()).cloned()
    }

    /// Forgets a connection.
    pub fn remove(&self, id: ConnId) {
        let removed = self.stripe(id).write().remove(&id);
        if let Some(peer) = removed.and_then(|outbox| outbox.leads_to) {
            let mut opened = self.opened.lock();
            if opened.get(&peer).is_some_and(|outbox| outbox.id == id) {
                opened.remove(&peer);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.read().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What waits in all of them together, and in the fullest, octets. For a scrape: no stripe is held while lanes are
    /// looked at.
    pub fn waiting(&self) -> (usize, usize) {
        self.stripes.iter().fold((0, 0), |sums, stripe| {
            let outboxes: Vec<_> = stripe.read().values().cloned().collect();
            outboxes.iter().map(|outbox| outbox.waiting()).fold(sums, |(all, most), now| (all + now, most.max(now)))
        })
    }

    /// Never 0: that is the connection of bindings that came by one before the last start.
    fn next_id(&self) -> ConnId {
        loop {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            if id != 0 {
                return ConnId(id);
            }
        }
    }

    fn stripe(&self, id: ConnId) -> &RwLock<HashMap<ConnId, Arc<Outbox>>> {
        &self.stripes[id.0 as usize % 16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Socket;

    fn outbox(room: usize) -> (Arc<Outbox>, Socket) {
        let socket = Socket::new(room);
        (Outbox::new(ConnId(1), Some(Box::new(socket.clone()))), socket)
    }

    fn send(outbox: &Outbox, text: &[u8]) -> Sent {
        outbox.send(&[IoSlice::new(&text[..1]), IoSlice::new(&text[1..])])
    }

    #[test]
    fn what_the_socket_takes_leaves_at_once_and_the_rest_follows_in_order() {
        let (outbox, socket) = outbox(8);
        assert_eq!(send(&outbox, b"hello "), Sent::Whole);
        assert_eq!(send(&outbox, b"world "), Sent::Queued);
        assert_eq!(send(&outbox, b"again"), Sent::Queued);
        assert_eq!(outbox.waiting(), 9);
        socket.give_room(3);
        assert!(!outbox.flush().unwrap());
        socket.give_room(100);
        assert!(outbox.flush().unwrap());
        assert_eq!(socket.take(), b"hello world again");
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn a_full_queue_refuses_whole_messages_and_a_closed_one_all() {
        let (outbox, _socket) = outbox(0);
        assert_eq!(send(&outbox, &vec![b'x'; OUTBOX_BYTES_MAX]), Sent::Queued);
        assert_eq!(send(&outbox, b"more"), Sent::Full);
        assert_eq!(outbox.waiting(), OUTBOX_BYTES_MAX);
        outbox.close();
        assert_eq!(send(&outbox, b"more"), Sent::Closed);
    }

    #[test]
    fn what_is_sent_before_the_connection_stands_goes_out_when_it_does() {
        let outbox = Outbox::new(ConnId(1), None);
        assert_eq!(send(&outbox, b"early"), Sent::Queued);
        assert!(outbox.flush().unwrap());
        let socket = Socket::new(100);
        outbox.connect(Box::new(socket.clone()));
        assert!(outbox.flush().unwrap());
        assert_eq!(socket.take(), b"early");
    }

    #[test]
    fn flows_tell_what_waits_in_all_and_in_the_fullest() {
        let flows = Flows::default();
        for octets in [3, 10, 4] {
            send(&flows.open(None), &vec![b'x'; octets]);
        }
        assert_eq!(flows.waiting(), (17, 10));
    }

    #[test]
    fn a_lost_connection_tells_which_answers_will_not_come() {
        let (outbox, _socket) = outbox(10);
        let page = Asker::Page(Slot { stripe: 0, index: 1, generation: 1 });
        let session = Asker::Session(crate::message::SessionKey { shard: 0, number: 1, secret: 2 }, 7);
        outbox.awaits(page, Weak::new(), |_| false);
        outbox.awaits(session, Weak::new(), |_| false);
        assert_eq!(outbox.abandon(), [page, session]);
        assert_eq!(send(&outbox, b"x"), Sent::Closed);
    }

    #[test]
    fn what_is_answered_is_not_awaited_for_ever_and_each_request_is_asked_about_few_times() {
        let (outbox, _socket) = outbox(10);
        let slot = |n| Slot { stripe: 0, index: n, generation: 1 };
        let session = |n| Asker::Session(crate::message::SessionKey { shard: 0, number: n, secret: 2 }, 7);
        // The first one is never answered, all others are at once.
        let (asked, many) = (std::cell::Cell::new(0), 100_000u32);
        let tie = Arc::new(());
        outbox.awaits(session(0), Arc::downgrade(&tie), |_| true);
        for n in 0..many {
            outbox.awaits(Asker::Page(slot(n)), Weak::new(), |each| {
                asked.set(asked.get() + 1);
                each != slot(0)
            });
            outbox.awaits(session(n + 1), Arc::downgrade(&Arc::new(())), |each| each != slot(0));
            assert!(outbox.awaited.lock().askers.len() <= AWAITED_LOOK);
        }
        assert!(asked.get() < 2 * many);
        let left = outbox.abandon();
        assert!(left.contains(&Asker::Page(slot(0))) && left.contains(&session(0)));
    }

    #[test]
    fn flows_are_found_until_they_are_removed() {
        let flows = Flows::default();
        let (one, two) = (flows.open(None), flows.open(None));
        assert!(one.id() != two.id() && one.id() != ConnId(0));
        assert!(flows.get(one.id()).is_some());
        one.close();
        assert!(flows.get(one.id()).is_none());
        flows.remove(one.id());
        assert_eq!(flows.len(), 1);
    }

    #[test]
    fn a_connection_to_an_address_is_opened_once_and_again_when_it_is_gone() {
        let flows = Flows::default();
        let peer = "127.0.0.1:5070".parse().unwrap();
        assert_eq!((flows.dial(peer), flows.len()), (None, 0), "nobody opens connections");
        let dialed = Arc::new(Mutex::new(Vec::new()));
        let (list, may) = (dialed.clone(), Arc::new(AtomicBool::new(true)));
        let asked = may.clone();
        flows.introduce(Box::new(move |peer, outbox| {
            list.lock().push((peer, outbox.id()));
            asked.load(Ordering::Relaxed)
        }));
        let first = flows.dial(peer).unwrap();
        assert_eq!(flows.dial(peer), Some(first));
        let other = flows.dial("127.0.0.1:5071".parse().unwrap()).unwrap();
        assert_ne!(first, other);
        assert_eq!(dialed.lock().len(), 2);
        flows.remove(first.conn().unwrap());
        let again = flows.dial(peer).unwrap();
        assert_ne!(again, first);
        flows.remove(first.conn().unwrap());
        assert_eq!(flows.dial(peer), Some(again), "the old one's end does not end the new one");
        may.store(false, Ordering::Relaxed);
        flows.remove(again.conn().unwrap());
        assert_eq!((flows.dial(peer), flows.len()), (None, 1), "who was refused leaves nothing behind");
    }

    #[test]
    fn whoever_filled_the_queue_may_wait_until_it_is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (outbox, socket) = outbox(0);
            assert_eq!(send(&outbox, b"hello"), Sent::Queued);
            outbox.woken().await;
            let waiting = tokio::spawn({
                let outbox = outbox.clone();
                async move { outbox.drained().await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            socket.give_room(100);
            assert!(outbox.flush().unwrap());
            waiting.await.unwrap();
            let closed = Outbox::new(ConnId(2), None);
            assert_eq!(send(&closed, b"never"), Sent::Queued);
            closed.close();
            closed.drained().await;
        });
    }
}
