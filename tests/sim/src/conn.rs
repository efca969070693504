//! A connection between a phone and the house: octets both ways, cut anywhere, slow, or broken.
//!
//! The house's side reads as the server's sockets do (frames found by [`sip::parse_stream`], the router, one flush), and
//! writes through a real [`Outbox`] whose socket is [`Pipe`].

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actors::House;
use actors::hop::Hop;
use actors::metrics::Count;
use actors::outbox::{Outbox, Writer};
use actors::{router, turn};
use sip::{Layout, Progress, Step};

use crate::bus::Bus;

/// What the house has written and the network has not taken yet.
#[derive(Clone)]
pub struct Pipe(Arc<Mutex<Tube>>, Bus);

struct Tube {
    octets: Vec<u8>,
    room: usize,
    closed: bool,
}

impl Pipe {
    /// A socket with room for so much.
    pub fn new(bus: Bus, room: usize) -> Self {
        Self(Arc::new(Mutex::new(Tube { octets: Vec::new(), room, closed: false })), bus)
    }

    /// What was written since the last time; the room for more.
    pub fn take(&self, room: usize) -> Vec<u8> {
        let mut tube = self.tube();
        tube.room = room;
        std::mem::take(&mut tube.octets)
    }

    /// There is room again.
    pub fn widen(&self) {
        self.tube().room = usize::MAX;
    }

    /// Whether nothing was written since the last time.
    pub fn is_idle(&self) -> bool {
        self.tube().octets.is_empty()
    }

    /// Takes nothing any more.
    pub fn close(&self) {
        self.tube().closed = true;
    }

    fn tube(&self) -> MutexGuard<'_, Tube> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer for Pipe {
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.tube().closed || !self.1.step() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut tube = self.tube();
        let mut taken = 0;
        for slice in slices {
            let count = slice.len().min(tube.room);
            tube.octets.extend_from_slice(&slice[..count]);
            tube.room -= count;
            taken += count;
        }
        drop(tube);
        self.1.ring();
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}

/// A connection, as the house sees it.
pub struct Conn {
    /// Whose it is.
    pub phone: usize,
    /// The house's way out.
    pub outbox: Arc<Outbox>,
    /// The socket under it.
    pub pipe: Pipe,
    /// No octet of either direction overtakes another: when the last of each arrives, in world time.
    pub last_in_ms: u64,
    /// The same for what the house wrote.
    pub last_out_ms: u64,
    /// Neither side may use it any more.
    pub ended: bool,
    hop: Hop,
    held: Vec<u8>,
    progress: Progress,
    /// What the reference and the phone read of it: what came in, what was written, what came out.
    watched: [Vec<u8>; 3],
}

impl Conn {
    /// Accepted from `peer`, or opened to it over an outbox that waits for its socket.
    pub fn new(house: &House, bus: &Bus, phone: usize, peer: SocketAddr, dialled: Option<Arc<Outbox>>) -> Self {
        let pipe = Pipe::new(bus.clone(), usize::MAX);
        let outbox = match dialled {
            Some(outbox) => {
                outbox.connect(Box::new(pipe.clone()));
                let _ = outbox.flush();
                outbox
            }
            None => house.flows.open(Some(Box::new(pipe.clone()))),
        };
        let hop = Hop::stream(outbox.id(), peer);
        let (held, progress) = (Vec::new(), Progress::default());
        let watched = Default::default();
        Self { phone, outbox, pipe, last_in_ms: 0, last_out_ms: 0, ended: false, hop, held, progress, watched }
    }

    /// Octets have come. `false`: they are no SIP, and the connection is cut off.
    pub fn hear(&mut self, house: &Arc<House>, layout: &mut Layout, octets: &[u8]) -> bool {
        self.held.extend_from_slice(octets);
        let held = std::mem::take(&mut self.held);
        let (mut used, mut good, now) = (0, true, house.now());
        turn::fill(|turn| {
            while good && used < held.len() {
                let rest = &held[used..];
                match sip::parse_stream(rest, &mut self.progress, layout) {
                    Ok(Step::More) => break,
                    Ok(Step::Skip { used: count }) => used += count,
                    Ok(Step::Ping { used: count }) => {
                        used += count;
                        let start = turn.arena.len();
                        turn.arena.extend_from_slice(b"\r\n");
                        turn.send(&house.flows, self.hop, start);
                    }
                    Ok(Step::Message { used: count }) => {
                        let view = layout.view(&rest[..count]);
                        let decide = || router::message(house, turn, view, self.hop, now);
                        if catch_unwind(AssertUnwindSafe(decide)).is_err() {
                            turn.counts.add(Count::Panics);
                        }
                        used += count;
                    }
                    Err(error) => {
                        router::malformed(house, turn, layout.view(rest), &error, self.hop, now);
                        good = false;
                    }
                }
            }
        });
        turn::flush();
        self.held = held[used..].to_vec();
        good
    }

    /// The messages that are whole with these octets: as the house reads them.
    pub fn watch_in(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        messages(&mut self.watched[0], octets)
    }

    /// As the house has written them.
    pub fn watch_written(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        messages(&mut self.watched[1], octets)
    }

    /// As the phone reads them.
    pub fn watch_out(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        messages(&mut self.watched[2], octets)
    }

    /// The connection is gone: what waited for answers over it learns so.
    pub fn end(&mut self, house: &Arc<House>) {
        self.ended = true;
        self.pipe.close();
        house.flows.remove(self.outbox.id());
        let awaited = self.outbox.abandon();
        turn::fill(|turn| awaited.into_iter().for_each(|asker| house.transactions.unreachable(turn, asker)));
        turn::flush();
    }
}

/// Frames are found by the tests' own reader: the house's would not see itself misread.
fn messages(held: &mut Vec<u8>, octets: &[u8]) -> Vec<Vec<u8>> {
    held.extend_from_slice(octets);
    let mut found = Vec::new();
    while let Some((used, heard)) = support::wire::framed(held) {
        held.drain(..used);
        found.extend(heard.map(|heard| heard.raw));
    }
    found
}
