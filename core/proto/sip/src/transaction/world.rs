//! A clock that tests turn by hand, around any of the four machines; and what is true of all of them.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// The four handles.
pub(super) trait Machine {
    type Input: Clone;
    type Output: Debug;
    fn handle(&mut self, input: Self::Input, now: Instant);
    fn poll_output(&mut self) -> Option<Self::Output>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Instant);
    fn is_ended(&self) -> bool;
}

macro_rules! machine {
    ($machine:ty, $input:ty, $output:ty) => {
        impl Machine for $machine {
            type Input = $input;
            type Output = $output;
            fn handle(&mut self, input: $input, now: Instant) {
                self.handle(input, now);
            }
            fn poll_output(&mut self) -> Option<$output> {
                self.poll_output()
            }
            fn poll_timeout(&self) -> Option<Instant> {
                self.poll_timeout()
            }
            fn handle_timeout(&mut self, now: Instant) {
                self.handle_timeout(now);
            }
            fn is_ended(&self) -> bool {
                self.is_ended()
            }
        }
    };
}

machine!(ServerNonInvite, ServerNonInviteInput, ServerNonInviteOutput);
machine!(ServerInvite, ServerInviteInput, ServerInviteOutput);
machine!(ClientNonInvite, ClientNonInviteInput, ClientNonInviteOutput);
machine!(ClientInvite, ClientInviteInput, ClientInviteOutput);

/// One machine and its time, which begins at 0 ms.
pub(super) struct World<M> {
    machine: M,
    start: Instant,
    heard: Vec<String>,
}

impl<M: Machine> World<M> {
    pub(super) fn new(make: impl FnOnce(Instant) -> M) -> Self {
        let start = Instant::now();
        let mut world = Self { machine: make(start), start, heard: Vec::new() };
        world.drain(0);
        world
    }

    /// Lets time pass, with all that is due on the way, then hands the input in.
    pub(super) fn input(&mut self, at_ms: u64, input: M::Input) {
        if at_ms > 0 {
            self.until(at_ms - 1);
        }
        self.machine.handle(input, self.at(at_ms));
        self.drain(at_ms);
    }

    /// Lets time pass, with all that is due on the way.
    pub(super) fn until(&mut self, at_ms: u64) {
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= self.at(at_ms)) {
            self.machine.handle_timeout(due);
            assert!(self.machine.poll_timeout().is_none_or(|next| next > due), "a timer is due for ever");
            self.drain(u64::try_from((due - self.start).as_millis()).unwrap());
        }
    }

    /// What has been said, each with its time in milliseconds.
    pub(super) fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.heard)
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn drain(&mut self, at_ms: u64) {
        while let Some(output) = self.machine.poll_output() {
            self.heard.push(format!("{at_ms} {output:?}").replace("b\"", "").replace('"', ""));
        }
    }
}

/// Whatever comes in, whenever: it ends once it can, says so once and last, and sleeps for ever after.
fn ends_well<M: Machine>(
    make: impl FnOnce(Instant) -> M,
    inputs: &[M::Input],
    last: &[M::Input],
    steps: &[(usize, u64)],
) -> Result<(), TestCaseError> {
    let mut world = World::new(make);
    let mut at_ms = 0;
    for (which, wait_ms) in steps {
        at_ms += wait_ms;
        world.input(at_ms, inputs[which % inputs.len()].clone());
    }
    for input in last {
        world.input(at_ms, input.clone());
    }
    world.until(at_ms + 1_000_000);
    prop_assert!(world.machine.is_ended());
    prop_assert_eq!(world.machine.poll_timeout(), None);
    for input in inputs {
        world.input(at_ms + 2_000_000, input.clone());
    }
    let heard = world.heard();
    let ends: Vec<_> = heard.iter().enumerate().filter(|(_, said)| said.contains("Ended")).map(|(at, _)| at).collect();
    prop_assert_eq!(ends, vec![heard.len() - 1]);
    Ok(())
}

const STATUSES: [u16; 11] = [0, 100, 101, 183, 200, 202, 302, 408, 487, 699, 700];

fn timers(t1_ms: u64, t2_ms: u64) -> Timers {
    Timers { t1: Duration::from_millis(t1_ms), t2: Duration::from_millis(t2_ms), ..Timers::default() }
}

fn steps() -> impl Strategy<Value = Vec<(usize, u64)>> {
    let wait_ms = prop_oneof![Just(0u64), 0u64..1_000, 0u64..40_000];
    prop::collection::vec((any::<usize>(), wait_ms), 0..30)
}

proptest! {
    #[test]
    fn a_non_invite_server_ends_well(
        steps in steps(), reliable: bool, t1_ms in 0u64..2_000, t2_ms in 0u64..8_000,
    ) {
        use server_non_invite::Input::{Answer, Request, TransportError};
        let mut inputs = vec![Request, TransportError];
        inputs.extend(STATUSES.map(|status| Answer { status, bytes: Bytes::from_static(b"x") }));
        ends_well(|now| ServerNonInvite::new(timers(t1_ms, t2_ms), reliable, now), &inputs, &[], &steps)?;
    }

    #[test]
    fn an_invite_server_ends_well(steps in steps(), reliable: bool, t1_ms in 0u64..2_000, t2_ms in 0u64..8_000) {
        use server_invite::Input::{Ack, Answer, Cancel, Request, TransportError};
        let mut inputs = vec![Request, Ack, Cancel, TransportError];
        inputs.extend(STATUSES.map(|status| Answer { status, bytes: Bytes::from_static(b"x") }));
        let last = [Answer { status: 500, bytes: Bytes::from_static(b"x") }];
        ends_well(|now| ServerInvite::new(timers(t1_ms, t2_ms), reliable, now), &inputs, &last, &steps)?;
    }

    #[test]
    fn a_non_invite_client_ends_well(
        steps in steps(), reliable: bool, t1_ms in 0u64..2_000, t2_ms in 0u64..8_000,
    ) {
        use client_non_invite::Input::{Response, TransportError};
        let mut inputs = vec![TransportError];
        inputs.extend(STATUSES.map(|status| Response { status, bytes: Bytes::from_static(b"x") }));
        let make = |now| ClientNonInvite::new(Bytes::from_static(b"q"), timers(t1_ms, t2_ms), reliable, now);
        ends_well(make, &inputs, &[], &steps)?;
    }

    #[test]
    fn an_invite_client_ends_well(steps in steps(), reliable: bool, t1_ms in 0u64..2_000, t2_ms in 0u64..8_000) {
        use client_invite::Input::{Cancel, Response, TransportError};
        let mut inputs = vec![TransportError, Cancel];
        inputs.extend(STATUSES.map(|status| Response { status, bytes: Bytes::from_static(b"x") }));
        let acknowledge: Acknowledge = |_, _| Some(Bytes::from_static(b"a"));
        let make =
            |now| ClientInvite::new(Bytes::from_static(b"q"), acknowledge, timers(t1_ms, t2_ms), reliable, now);
        ends_well(make, &inputs, &[], &steps)?;
    }
}
