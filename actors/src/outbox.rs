//! The way out to one connection: bounded, any thread may write, nobody waits, and it says when it is full.
//!
//! In steady state the queue is empty and what is sent goes straight into the socket (`fast-path.md` §3). What the socket
//! does not take is copied into the queue and leaves by the drain task of `net`, which alone waits for the socket. Who
//! filled it up may wait for [`Outbox::drained`] before it reads more.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use base::limits::OUTBOX_BYTES_MAX;
use bytes::{Buf, Bytes};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::hop::ConnId;
use crate::transactions::Slot;

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
    lane: Mutex<Lane>,
    wake: Notify,
    drained: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Lane {
    writer: Option<Box<dyn Writer>>,
    queue: VecDeque<Bytes>,
    bytes: usize,
    awaited: VecDeque<Slot>,
}

impl Outbox {
    /// Over a socket; without one (`None`) all is queued until [`Outbox::connect`], while a connection is being opened.
    pub fn new(id: ConnId, writer: Option<Box<dyn Writer>>) -> Arc<Self> {
        let lane = Lane { writer, ..Lane::default() };
        Arc::new(Self {
            id,
            lane: Mutex::new(lane),
            wake: Notify::new(),
            drained: Notify::new(),
            closed: AtomicBool::new(false),
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
        let mut taken = 0;
        if lane.queue.is_empty()
            && let Some(writer) = lane.writer.as_mut()
        {
            match writer.try_write_vectored(slices) {
                Ok(count) => taken = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    drop(lane);
                    self.close();
                    return Sent::Closed;
                }
            }
        }
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

    /// A request whose answer is due from this connection: when it is lost, the transaction learns it at once.
    pub fn awaits(&self, slot: Slot, is_over: impl Fn(Slot) -> bool) {
        let mut lane = self.lane.lock();
        while lane.awaited.front().is_some_and(|front| is_over(*front)) {
            lane.awaited.pop_front();
        }
        lane.awaited.push_back(slot);
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
    pub fn abandon(&self) -> Vec<Slot> {
        self.close();
        let mut lane = self.lane.lock();
        let lane = std::mem::take(&mut *lane);
        lane.awaited.into()
    }
}

/// Every connection by its id, and those that we opened by the address that they lead to.
#[derive(Default)]
pub struct Flows {
    stripes: [RwLock<HashMap<ConnId, Arc<Outbox>>>; 16],
    next: AtomicU32,
}

impl Flows {
    /// A new connection's id and outbox.
    pub fn open(&self, writer: Option<Box<dyn Writer>>) -> Arc<Outbox> {
        let id = ConnId(self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
        let outbox = Outbox::new(id, writer);
        self.stripe(id).write().insert(id, outbox.clone());
        outbox
    }

    /// The way out to a connection, while it stands.
    pub fn get(&self, id: ConnId) -> Option<Arc<Outbox>> {
        self.stripe(id).read().get(&id).filter(|outbox| !outbox.is_closed()).cloned()
    }

    /// Forgets a connection.
    pub fn remove(&self, id: ConnId) {
        self.stripe(id).write().remove(&id);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.read().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn stripe(&self, id: ConnId) -> &RwLock<HashMap<ConnId, Arc<Outbox>>> {
        &self.stripes[id.0 as usize % 16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that takes so many octets, and then no more until it is given room.
    #[derive(Clone, Default)]
    struct Socket(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Writer for Socket {
        fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut inner = self.0.lock();
            let mut taken = 0;
            for slice in slices {
                let count = slice.len().min(inner.1);
                inner.0.extend_from_slice(&slice[..count]);
                inner.1 -= count;
                taken += count;
            }
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }
    }

    fn outbox(room: usize) -> (Arc<Outbox>, Socket) {
        let socket = Socket(Arc::new(Mutex::new((Vec::new(), room))));
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
        socket.0.lock().1 = 3;
        assert!(!outbox.flush().unwrap());
        socket.0.lock().1 = 100;
        assert!(outbox.flush().unwrap());
        assert_eq!(socket.0.lock().0, b"hello world again");
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
        let socket = Socket(Arc::new(Mutex::new((Vec::new(), 100))));
        outbox.connect(Box::new(socket.clone()));
        assert!(outbox.flush().unwrap());
        assert_eq!(socket.0.lock().0, b"early");
    }

    #[test]
    fn a_lost_connection_tells_which_answers_will_not_come() {
        let (outbox, _socket) = outbox(10);
        let slot = |n| Slot { stripe: 0, index: n, generation: 1 };
        outbox.awaits(slot(1), |_| false);
        outbox.awaits(slot(2), |each| each == slot(1));
        assert_eq!(outbox.abandon(), [slot(2)]);
        assert_eq!(send(&outbox, b"x"), Sent::Closed);
    }

    #[test]
    fn flows_are_found_until_they_are_removed() {
        let flows = Flows::default();
        let (one, two) = (flows.open(None), flows.open(None));
        assert_ne!(one.id(), two.id());
        assert!(flows.get(one.id()).is_some());
        one.close();
        assert!(flows.get(one.id()).is_none());
        flows.remove(one.id());
        assert_eq!(flows.len(), 1);
    }
}
