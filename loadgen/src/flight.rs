//! Requests under way: found again by their branch, repeated by timer E, given up by timer F (RFC 3261 §17.1.2).
//!
//! A slot and its generation stand in the branch, so that an answer is matched without hashing. Timers are one queue
//! for each number of repeats made: all waits of one queue are equal, so its head is always the next.

use std::collections::VecDeque;

use crate::wire::Link;

/// Milliseconds as the crowd's clock counts.
const MS: u64 = 1_000_000;
/// RFC 3261 §17.1.2.2: timer E is T1, doubles up to T2; with T1 = 0.5 s and T2 = 4 s the last repeat comes at 31.5 s,
/// and timer F ends the transaction at 64 T1 = 32 s.
const WAITS_MS: [u64; 11] = [500, 1_000, 2_000, 4_000, 4_000, 4_000, 4_000, 4_000, 4_000, 4_000, 500];

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// A user's binding; `expires` 0 takes it back.
    Register {
        /// Whose, by number.
        user: u32,
        /// Seconds.
        expires: u32,
    },
    /// A page message.
    Message {
        /// The sender, by number.
        from: u32,
        /// The receiver, by number.
        to: u32,
        /// Which message: the number in its body.
        number: u64,
    },
    /// An INVITE to a session.
    Invite {
        /// The caller, by number.
        from: u32,
        /// Which call.
        call: u32,
    },
    /// The end of a session, by its caller.
    Bye {
        /// The caller, by number.
        from: u32,
        /// Which call.
        call: u32,
    },
}

impl Errand {
    /// The user who asks.
    pub fn user(self) -> u32 {
        match self {
            Self::Register { user, .. } => user,
            Self::Message { from, .. } | Self::Invite { from, .. } | Self::Bye { from, .. } => from,
        }
    }
}

/// One request under way.
pub struct Flight {
    /// What it is for.
    pub errand: Errand,
    /// When it should have begun.
    pub due_ns: u64,
    /// The number in its CSeq.
    pub cseq: u32,
    /// Challenges answered for it.
    pub answered: u8,
    /// The link by which it left.
    pub link: Link,
    /// Somebody is at it: it is not repeated (RFC 3261 §17.1.1.2, a provisional answer to INVITE).
    pub is_heard: bool,
}

/// A request by slot and generation: what its branch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Which slot.
    pub slot: u32,
    /// Which use of it.
    pub generation: u32,
}

struct Slot {
    generation: u32,
    flight: Option<Flight>,
    /// What was sent, for repeats; its memory serves the next use of the slot.
    text: Vec<u8>,
}

/// All requests under way.
pub struct Flights {
    slots: Vec<Slot>,
    free: Vec<u32>,
    waits: [VecDeque<(u64, Ticket)>; WAITS_MS.len()],
    /// Over a stream nothing is repeated.
    reliable: bool,
}

/// What a timer asks for.
pub enum Timed<'a> {
    /// Send this once more, by this link.
    Repeat(&'a [u8], Link),
    /// It is over without an answer.
    Over(Flight),
}

impl Flights {
    /// None yet.
    pub fn new(reliable: bool) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), waits: Default::default(), reliable }
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Begins one; `write` makes its text, for repeats kept here.
    pub fn begin(&mut self, flight: Flight, now_ns: u64, write: impl FnOnce(Ticket, &mut Vec<u8>)) -> &[u8] {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, flight: None, text: Vec::new() });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let place = &mut self.slots[slot as usize];
        place.generation = place.generation.wrapping_add(1);
        place.flight = Some(flight);
        let ticket = Ticket { slot, generation: place.generation };
        self.waits[0].push_back((now_ns + WAITS_MS[0] * MS, ticket));
        place.text.clear();
        write(ticket, &mut place.text);
        &place.text
    }

    /// The request of a ticket, if it is still under way.
    pub fn get(&self, ticket: Ticket) -> Option<&Flight> {
        let slot = self.slots.get(ticket.slot as usize)?;
        slot.flight.as_ref().filter(|_| slot.generation == ticket.generation)
    }

    /// A provisional answer came.
    pub fn hush(&mut self, ticket: Ticket) {
        let slot = self.slots.get_mut(ticket.slot as usize).filter(|slot| slot.generation == ticket.generation);
        if let Some(flight) = slot.and_then(|slot| slot.flight.as_mut()) {
            flight.is_heard = true;
        }
    }

    /// Ends a request; nothing where it has ended before.
    pub fn end(&mut self, ticket: Ticket) -> Option<Flight> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        let flight = slot.flight.take_if(|_| slot.generation == ticket.generation)?;
        self.free.push(ticket.slot);
        Some(flight)
    }

    /// When the next timer fires.
    pub fn next_ns(&self) -> Option<u64> {
        self.waits.iter().filter_map(|queue| Some(queue.front()?.0)).min()
    }

    /// Fires every timer whose time has come.
    pub fn fire(&mut self, now_ns: u64, mut tell: impl FnMut(Timed<'_>)) {
        for made in 0..WAITS_MS.len() {
            while let Some((_, ticket)) = self.waits[made].pop_front_if(|(at, _)| *at <= now_ns) {
                if self.get(ticket).is_none() {
                    continue;
                }
                match self.waits.get_mut(made + 1) {
                    Some(next) => {
                        next.push_back((now_ns + WAITS_MS[made + 1] * MS, ticket));
                        let slot = &self.slots[ticket.slot as usize];
                        if let (false, Some(flight)) =
                            (self.reliable, slot.flight.as_ref().filter(|flight| !flight.is_heard))
                        {
                            tell(Timed::Repeat(&slot.text, flight.link));
                        }
                    }
                    None => {
                        if let Some(flight) = self.end(ticket) {
                            tell(Timed::Over(flight));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(number: u64) -> Flight {
        Flight {
            errand: Errand::Message { from: 0, to: 1, number },
            due_ns: 0,
            cseq: 1,
            answered: 0,
            link: 0,
            is_heard: false,
        }
    }

    fn begun(flights: &mut Flights, number: u64, now_ns: u64) -> Ticket {
        let mut given = None;
        flights.begin(flight(number), now_ns, |ticket, text| {
            given = Some(ticket);
            text.extend_from_slice(b"text");
        });
        given.unwrap()
    }

    #[test]
    fn an_unanswered_request_is_repeated_at_the_times_of_timer_e_and_given_up_at_timer_f() {
        // RFC 3261 §17.1.2.2.
        let mut flights = Flights::new(false);
        begun(&mut flights, 1, 0);
        let (mut repeated, mut over) = (Vec::new(), None);
        for ms in (0..40_000).step_by(10) {
            flights.fire(ms * MS, |timed| match timed {
                Timed::Repeat(text, 0) if text == b"text" => repeated.push(ms),
                Timed::Over(_) => over = Some(ms),
                Timed::Repeat(..) => panic!("another text or link"),
            });
        }
        assert_eq!(repeated, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!(over, Some(32_000));
        assert_eq!((flights.under_way(), flights.next_ns()), (0, None));
    }

    #[test]
    fn over_a_stream_nothing_is_repeated_but_given_up_as_late() {
        let mut flights = Flights::new(true);
        begun(&mut flights, 1, 0);
        let mut over = None;
        for ms in (0..40_000).step_by(10) {
            flights.fire(ms * MS, |timed| match timed {
                Timed::Repeat(..) => panic!("repeated"),
                Timed::Over(_) => over = Some(ms),
            });
        }
        assert_eq!(over, Some(32_000));
    }

    #[test]
    fn an_answer_ends_its_request_once_and_no_later_one_in_the_same_slot() {
        let mut flights = Flights::new(false);
        let first = begun(&mut flights, 1, 0);
        assert!(flights.end(first).is_some());
        assert!(flights.end(first).is_none());
        let second = begun(&mut flights, 2, 0);
        assert_eq!(second.slot, first.slot);
        assert!(flights.get(first).is_none() && flights.end(first).is_none());
        assert!(flights.end(Ticket { slot: 99, generation: 1 }).is_none());
        assert_eq!(flights.under_way(), 1);
        flights.fire(600 * MS, |timed| assert!(matches!(timed, Timed::Repeat(..)), "only the second"));
    }
}
