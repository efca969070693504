//! The four transaction machines under any order of inputs and times: they say no more than they may, never spin, and
//! end.
//!
//! The first octet chooses the machine and whether the transport is reliable; each further one is a step: its upper
//! half says what happens, its lower half with which status or after how long.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::transaction as machine;
use sip::transaction::Timers;

/// Outputs of one turn: more is a machine that talks to itself.
const OUTPUTS: usize = 8;
/// Timeouts after the last input: timer A has 7 steps, E 11, and then the last ones.
const TIMEOUTS: usize = 64;
const STATUSES: [u16; 16] = [100, 180, 181, 183, 199, 200, 202, 299, 300, 401, 404, 408, 480, 487, 503, 600];

/// The target.
///
/// # Panics
/// When a promise is broken.
pub fn run(input: &[u8]) {
    let Some((choice, script)) = input.split_first() else { return };
    let (timers, reliable, now) = (Timers::default(), choice & 4 != 0, Instant::now());
    let invite = || Bytes::from_static(INVITE);
    match choice & 3 {
        0 => play(&mut machine::ServerNonInvite::new(timers, reliable, now), script, now),
        1 => play(&mut machine::ServerInvite::new(timers, reliable, now), script, now),
        2 => play(&mut machine::ClientNonInvite::new(invite(), timers, reliable, now), script, now),
        _ => {
            let mut client = machine::ClientInvite::new(invite(), machine::acknowledge, timers, reliable, now);
            play(&mut client, script, now);
        }
    }
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The other side's message comes (again), with this status where it is a response.
    Message(u16),
    /// The user answers.
    Answer(u16),
    Ack,
    Cancel,
    TransportError,
}

/// What a machine said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Sent,
    /// Handed to the user.
    Response(u16),
    Other,
    Ended,
}

trait Machine {
    /// An input that this machine has; others do nothing.
    fn happen(&mut self, event: Event, now: Instant);
    fn said(&mut self) -> Option<Said>;
    fn timeout(&self) -> Option<Instant>;
    fn time_out(&mut self, now: Instant);
    /// What makes it end when nobody says anything any more.
    fn last(&self) -> Event;
}

fn play(machine: &mut impl Machine, script: &[u8], start: Instant) {
    let (mut now, mut judge) = (start, Judge::default());
    judge.listen(machine);
    for step in script {
        let (what, which) = (step >> 4, usize::from(step & 15));
        match what {
            0..=4 => machine.happen(Event::Message(STATUSES[which]), now),
            5..=8 => machine.happen(Event::Answer(STATUSES[which]), now),
            9 => machine.happen(Event::Ack, now),
            10 => machine.happen(Event::Cancel, now),
            11 => machine.happen(Event::TransportError, now),
            12 | 13 => {
                now += Duration::from_millis(250) * u32::try_from(which * which).unwrap_or(0);
                machine.time_out(now);
            }
            _ => now = due(machine, now),
        }
        judge.listen(machine);
    }
    machine.happen(machine.last(), now);
    judge.listen(machine);
    for _ in 0..TIMEOUTS {
        if judge.ended {
            assert_eq!(machine.timeout(), None, "what has ended waits for nothing");
            return;
        }
        now = due(machine, now);
        judge.listen(machine);
    }
    panic!("it does not end");
}

/// Goes to the machine's next deadline, which must lead it on.
fn due(machine: &mut impl Machine, now: Instant) -> Instant {
    let Some(at) = machine.timeout() else { return now };
    let now = now.max(at);
    machine.time_out(now);
    assert!(machine.timeout().is_none_or(|next| next > now), "a deadline that has passed makes the caller spin");
    now
}

#[derive(Default)]
struct Judge {
    ended: bool,
    refused: bool,
    accepted: bool,
}

impl Judge {
    fn listen(&mut self, machine: &mut impl Machine) {
        for count in 0.. {
            let Some(said) = machine.said() else { return };
            assert!(count < OUTPUTS, "more than {OUTPUTS} outputs of one turn");
            assert!(!self.ended, "{said:?} after the end");
            match said {
                Said::Ended => self.ended = true,
                // RFC 3261 §17.1.1.2, RFC 6026 §7.2: provisional ones, then one refusal or any number of 2xx.
                Said::Response(status) => {
                    assert!(!self.refused, "{status} after a refusal");
                    assert!(!self.accepted || (200..300).contains(&status), "{status} after a 2xx");
                    self.refused = status >= 300;
                    self.accepted |= (200..300).contains(&status);
                }
                Said::Sent | Said::Other => {}
            }
        }
    }
}

fn answer(status: u16) -> Bytes {
    Bytes::from(format!("SIP/2.0 {status} X\r\nTo: <sip:bob@example.com>;tag=b\r\nContent-Length: 0\r\n\r\n"))
}

impl Machine for machine::ServerNonInvite {
    fn happen(&mut self, event: Event, now: Instant) {
        use machine::ServerNonInviteInput as Input;
        match event {
            Event::Message(_) => self.handle(Input::Request, now),
            Event::Answer(status) => self.handle(Input::Answer { status, bytes: answer(status) }, now),
            Event::TransportError => self.handle(Input::TransportError, now),
            Event::Ack | Event::Cancel => {}
        }
    }

    fn said(&mut self) -> Option<Said> {
        use machine::ServerNonInviteOutput as Output;
        Some(match self.poll_output()? {
            Output::Send(_) => Said::Sent,
            Output::Trying | Output::Failed => Said::Other,
            Output::Ended(_) => Said::Ended,
        })
    }

    fn timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn time_out(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn last(&self) -> Event {
        Event::Answer(200)
    }
}

impl Machine for machine::ServerInvite {
    fn happen(&mut self, event: Event, now: Instant) {
        use machine::ServerInviteInput as Input;
        match event {
            Event::Message(_) => self.handle(Input::Request, now),
            Event::Answer(status) => self.handle(Input::Answer { status, bytes: answer(status) }, now),
            Event::Ack => self.handle(Input::Ack, now),
            Event::Cancel => self.handle(Input::Cancel, now),
            Event::TransportError => self.handle(Input::TransportError, now),
        }
    }

    fn said(&mut self) -> Option<Said> {
        use machine::ServerInviteOutput as Output;
        Some(match self.poll_output()? {
            Output::Send(_) => Said::Sent,
            Output::Trying | Output::Ack | Output::Cancelled | Output::Failed => Said::Other,
            Output::Ended(_) => Said::Ended,
        })
    }

    fn timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn time_out(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn last(&self) -> Event {
        Event::Answer(486)
    }
}

impl Machine for machine::ClientNonInvite {
    fn happen(&mut self, event: Event, now: Instant) {
        use machine::ClientNonInviteInput as Input;
        match event {
            Event::Message(status) => self.handle(Input::Response { status, bytes: answer(status) }, now),
            Event::TransportError => self.handle(Input::TransportError, now),
            Event::Answer(_) | Event::Ack | Event::Cancel => {}
        }
    }

    fn said(&mut self) -> Option<Said> {
        use machine::ClientNonInviteOutput as Output;
        Some(match self.poll_output()? {
            Output::Send(_) => Said::Sent,
            Output::Response { status, .. } => Said::Response(status),
            Output::Ended(_) => Said::Ended,
        })
    }

    fn timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn time_out(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn last(&self) -> Event {
        Event::Message(200)
    }
}

impl Machine for machine::ClientInvite {
    fn happen(&mut self, event: Event, now: Instant) {
        use machine::ClientInviteInput as Input;
        match event {
            Event::Message(status) => self.handle(Input::Response { status, bytes: answer(status) }, now),
            Event::Cancel => self.handle(Input::Cancel, now),
            Event::TransportError => self.handle(Input::TransportError, now),
            Event::Answer(_) | Event::Ack => {}
        }
    }

    fn said(&mut self) -> Option<Said> {
        use machine::ClientInviteOutput as Output;
        Some(match self.poll_output()? {
            Output::Send(_) => Said::Sent,
            Output::Response { status, .. } => Said::Response(status),
            Output::Cancel => Said::Other,
            Output::Ended(_) => Said::Ended,
        })
    }

    fn timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn time_out(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn last(&self) -> Event {
        Event::Message(486)
    }
}

const INVITE: &[u8] = b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n\
    Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a\r\nTo: <sip:bob@example.com>\r\nCall-ID: c@192.0.2.1\r\n\
    CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";

#[cfg(test)]
mod tests {
    use crate::corpus;

    #[test]
    fn the_corpus_breaks_no_promise() {
        corpus::replay(&corpus::of("sip_transactions"), super::run);
    }

    #[test]
    fn every_script_of_three_steps_breaks_no_promise() {
        for machine in 0..8 {
            for script in 0..16u32.pow(3) {
                // Each kind of step, with a status or a time that varies.
                let step = |at: u32| u8::try_from((script >> (4 * at) & 15) << 4 | (script + 5 * at) & 15).unwrap_or(0);
                super::run(&[machine, step(0), step(1), step(2)]);
            }
        }
    }
}
