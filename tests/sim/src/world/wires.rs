//! What passes between the phones and the house: datagrams and octets of connections, late, broken, lost and in pieces as
//! the weather has it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actors::hop::Hop;
use actors::metrics::Count;
use actors::outbox::Outbox;
use actors::{router, turn};
use sip::Layout;

use super::{Event, World};
use crate::clock;
use crate::conn::Conn;

impl World {
    // ---- what phones send

    /// What a phone has written leaves it.
    pub fn post(&mut self, number: usize) {
        let now = clock::world_ms();
        for bytes in std::mem::take(&mut self.phones[number].out) {
            if !self.phones[number].online {
                continue;
            }
            if self.phones[number].is_tcp {
                self.post_stream(number, &bytes, now);
                continue;
            }
            let from = self.phones[number].addr;
            self.tap.iter_mut().for_each(|tap| tap.push(bytes.clone()));
            for after in self.weather.arrivals(&mut self.dice) {
                self.at(now + after, Event::ToHouse(from, bytes.clone()));
            }
        }
    }

    pub(super) fn post_stream(&mut self, number: usize, bytes: &[u8], now: u64) {
        if self.phones[number].conn.is_none() {
            self.open_conn(number, None);
        }
        let Some(at) = self.phones[number].conn else {
            return self.phones[number].cut_off(&mut self.reference, now);
        };
        let cut = self.cuts.iter().find(|(phone, _)| *phone == number).map(|(_, after)| *after);
        let pieces: Vec<Vec<u8>> = match cut {
            Some(after) => bytes.chunks(after).map(<[u8]>::to_vec).collect(),
            None => self.weather.pieces(&mut self.dice, bytes).into_iter().map(<[u8]>::to_vec).collect(),
        };
        for piece in pieces {
            let breaks = self.dice.chance(self.weather.broken);
            let after = self.dice.within(self.weather.way_ms.clone());
            let arrives = (now + after).max(self.conns[at].last_in_ms);
            self.conns[at].last_in_ms = arrives;
            self.at(arrives, Event::StreamIn(at, if breaks { Vec::new() } else { piece }));
        }
    }

    /// Opens a connection between a phone and the house.
    pub(super) fn open_conn(&mut self, number: usize, dialled: Option<Arc<Outbox>>) {
        let Some(life) = &self.life else { return };
        let peer = self.phones[number].addr;
        self.conns.push(Conn::new(&life.house, &life.bus, number, peer, dialled));
        self.phones[number].conn = Some(self.conns.len() - 1);
    }

    pub(super) fn reach_house(&mut self, from: SocketAddr, bytes: &[u8]) {
        if self.life.as_ref().is_some_and(|life| life.bus.step()) {
            self.reference.entered(bytes, None, clock::world_ms(), clock::unix_ms());
            self.throw(from, bytes);
        }
    }

    /// A datagram at the house's door, of which the reference knows nothing.
    pub fn throw(&mut self, from: SocketAddr, bytes: &[u8]) {
        let Some(life) = &self.life else { return };
        let (house, layout, now) = (&life.house, &mut self.layout, life.house.now());
        turn::fill(|turn| {
            let decide = || router::datagram(house, turn, layout, bytes, Hop::udp(0, from), now);
            if catch_unwind(AssertUnwindSafe(decide)).is_err() {
                turn.counts.add(Count::Panics);
            }
        });
        let flushed = catch_unwind(AssertUnwindSafe(turn::flush));
        if flushed.is_err() {
            self.unsound = true;
        }
    }

    pub(super) fn reach_phone(&mut self, number: usize, bytes: &[u8]) {
        if !self.phones[number].online {
            return;
        }
        let mut layout = Box::<Layout>::default();
        if sip::parse_datagram(bytes, &mut layout).is_ok() {
            self.phones[number].hear(layout.view(bytes), &mut self.reference, clock::world_ms());
            self.post(number);
        }
    }

    pub(super) fn stream_in(&mut self, at: usize, octets: &[u8]) {
        if self.conns[at].ended {
            return;
        }
        let Some(life) = self.life.as_ref().filter(|life| life.bus.step()) else { return };
        if octets.is_empty() {
            return self.end_conn(at);
        }
        for message in self.conns[at].watch_in(octets) {
            self.reference.entered(&message, Some(at), clock::world_ms(), clock::unix_ms());
        }
        if !self.conns[at].hear(&life.house, &mut self.layout, octets) {
            self.end_conn(at);
        }
    }

    pub(super) fn stream_out(&mut self, at: usize, octets: &[u8]) {
        let number = self.conns[at].phone;
        if octets.is_empty() {
            if self.phones[number].conn == Some(at) {
                self.phones[number].cut_off(&mut self.reference, clock::world_ms());
                self.post(number);
                // A phone that loses its connection comes back soon (RFC 5626 §4.5).
                let after = self.dice.within(500..3_000);
                self.at_do(clock::world_ms() + after, move |world| world.register(number, 3_600));
            }
            return;
        }
        for message in self.conns[at].watch_out(octets) {
            self.reach_phone(number, &message);
        }
    }

    pub(super) fn end_conn(&mut self, at: usize) {
        let now = clock::world_ms();
        self.reference.broke(at, now);
        if let Some(life) = &self.life {
            self.conns[at].end(&life.house);
        }
        let after = self.conns[at].last_out_ms.max(now + 5);
        self.at(after, Event::StreamOut(at, Vec::new()));
    }

    // ---- what the house sends

    /// Looks at what the house has done since the last time.
    pub(super) fn collect(&mut self) {
        let Some(out) = self.life.as_ref().map(|life| life.out.clone()) else { return };
        for sent in out.datagrams.take() {
            let number = self.phones.iter().position(|phone| phone.addr == sent.peer);
            self.reference.left(&sent.bytes, number, false, sent.at_ms, sent.unix_ms);
            let Some(number) = number else {
                self.strangers.push(sent.bytes);
                continue;
            };
            for after in self.weather.arrivals(&mut self.dice) {
                self.at(sent.at_ms + after, Event::ToPhone(number, sent.bytes.clone()));
            }
        }
        for (peer, outbox) in out.dials.take() {
            let number = self.phones.iter().position(|phone| phone.addr == peer && phone.is_tcp && phone.online);
            match number {
                Some(number) => self.open_conn(number, Some(outbox)),
                None => self.refuse_dial(&outbox),
            }
        }
        for at in 0..self.conns.len() {
            if !self.conns[at].ended {
                self.collect_stream(at);
            }
        }
    }

    pub(super) fn collect_stream(&mut self, at: usize) {
        if self.conns[at].pipe.is_idle() {
            return;
        }
        let now = clock::world_ms();
        let slow = self.dice.chance(self.weather.slow);
        let room = if slow { self.dice.below(900) } else { usize::MAX };
        let octets = self.conns[at].pipe.take(room);
        let phone = self.conns[at].phone;
        for message in self.conns[at].watch_written(&octets) {
            self.reference.left(&message, Some(phone), true, now, clock::unix_ms());
        }
        let pieces: Vec<Vec<u8>> =
            self.weather.pieces(&mut self.dice, &octets).into_iter().map(<[u8]>::to_vec).collect();
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let after = self.dice.within(self.weather.way_ms.clone());
            let arrives = (now + after).max(self.conns[at].last_out_ms);
            self.conns[at].last_out_ms = arrives;
            self.at(arrives, Event::StreamOut(at, piece));
        }
        if slow || self.conns[at].outbox.waiting() > 0 {
            let after = 1 + self.dice.within(self.weather.way_ms.clone());
            self.at(now + after, Event::Room(at));
        }
        if self.conns[at].outbox.is_closed() {
            self.end_conn(at);
        }
    }

    pub(super) fn refuse_dial(&mut self, outbox: &Arc<Outbox>) {
        let Some(life) = &self.life else { return };
        life.house.flows.remove(outbox.id());
        let awaited = outbox.abandon();
        turn::fill(|turn| awaited.into_iter().for_each(|asker| life.house.transactions.unreachable(turn, asker)));
        turn::flush();
    }
}
