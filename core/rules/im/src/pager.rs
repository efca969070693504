//! One page message on its way to one user: which contacts are tried when, and what its sender is told.
//!
//! ```text
//!  start ──> a round: all contacts of the highest q that is left ──┬─ 2xx ───────────────────────> Relay (at once)
//!              ▲            each answers, fails or is silent       ├─ all without success,
//!              └───────────────────────────────────────────────────┤  lower q left, no 6xx ──────> next round
//!                                                                  └─ none left ──┬─ refused ────> Relay (the best)
//!                                                                                 ├─ only away ──> Store
//!                                                                                 └─ may not wait> Answer (480)
//! ```
//!
//! Away is 480, 408, 503, silence, or no way to the contact (O4.5, decisions D4). Exactly one of Relay, Store and Answer
//! comes out, in time for the sender's own timer. A 2xx after Store takes the letter back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base::Now;
use base::limits::{ANSWER_BY, SILENCE};

/// A contact that may be tried: a number of the caller's, and its preference in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// As the caller knows it; each one once.
    pub id: u32,
    /// Higher ones first, equal ones at once.
    pub q: u16,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Contacts that are silent this long count as away.
    pub silence: Duration,
    /// The sender is told something by then, whatever was not tried yet.
    pub answer_by: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self::new(SILENCE)
    }
}

impl Patience {
    /// With another silence, never above what the sender can bear.
    pub fn new(silence: Duration) -> Self {
        Self { silence: silence.min(ANSWER_BY), answer_by: ANSWER_BY }
    }
}

/// What happened to a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A response; provisional ones mean nothing here.
    Answer {
        /// Whose.
        target: u32,
        /// Its status.
        status: u16,
    },
    /// Its transaction has ended without a final response (timer F).
    Silent {
        /// Whose.
        target: u32,
    },
    /// It could not be sent, or its connection is gone.
    TransportFailed {
        /// Whose.
        target: u32,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send it to this contact, in a transaction of its own.
    Send(u32),
    /// Pass this contact's final response on to the sender.
    Relay(u32),
    /// Keep it as a letter; the sender is told 202 when it is durable.
    Store,
    /// Tell the sender this.
    Answer(u16),
    /// A contact has it after all: take the letter back.
    TakeBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not tried yet.
    Waiting,
    /// Sent; its answer is waited for.
    Tried,
    /// Sent, and not waited for any more; its transaction goes on.
    Quiet,
    /// Answered.
    Final(u16),
    /// Ended without an answer, or never to be tried.
    Over,
}

#[derive(Debug)]
struct Branch {
    target: Target,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Open,
    Told,
    Stored,
    TakenBack,
}

/// The machine of one message to one user.
#[derive(Debug)]
pub struct Delivery {
    branches: Vec<Branch>,
    may_wait: bool,
    patience: Patience,
    verdict: Verdict,
    outputs: VecDeque<Output>,
    round_due: Instant,
    answer_due: Instant,
}

impl Delivery {
    /// Begins: to these contacts, of a message that `may_wait` or not.
    pub fn start(targets: impl IntoIterator<Item = Target>, may_wait: bool, patience: Patience, now: Now) -> Self {
        let branches = targets.into_iter().map(|target| Branch { target, state: State::Waiting }).collect();
        let mut delivery = Self {
            branches,
            may_wait,
            patience,
            verdict: Verdict::Open,
            outputs: VecDeque::new(),
            round_due: now.at,
            answer_due: now.at + patience.answer_by,
        };
        delivery.go_on(now.at);
        delivery
    }

    /// Takes in what happened. What is said of contacts that were not tried, or have answered, is passed over.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Answer { status: ..200, .. } => {}
            Input::Answer { target, status } => self.settle(target, State::Final(status), now.at),
            Input::Silent { target } | Input::TransportFailed { target } => self.settle(target, State::Over, now.at),
        }
    }

    /// What is to be done next; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Delivery::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.verdict == Verdict::Open).then(|| self.round_due.min(self.answer_due))
    }

    /// Looks at what has become of the time.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.verdict != Verdict::Open {
            return;
        }
        let too_late = now.at >= self.answer_due;
        if now.at < self.round_due && !too_late {
            return;
        }
        for branch in &mut self.branches {
            match branch.state {
                State::Tried => branch.state = State::Quiet,
                State::Waiting if too_late => branch.state = State::Over,
                _ => {}
            }
        }
        self.go_on(now.at);
    }

    /// Whether the sender has been told, or the message was handed to the mailbox.
    pub fn is_decided(&self) -> bool {
        self.verdict != Verdict::Open
    }

    /// Whether nothing can come any more: every transaction has ended.
    pub fn is_over(&self) -> bool {
        let ended = |branch: &Branch| !matches!(branch.state, State::Tried | State::Quiet);
        self.is_decided() && self.branches.iter().all(ended)
    }

    fn settle(&mut self, target: u32, state: State, now: Instant) {
        let open = |branch: &&mut Branch| matches!(branch.state, State::Tried | State::Quiet);
        let Some(branch) = self.branches.iter_mut().filter(open).find(|branch| branch.target.id == target) else {
            return;
        };
        branch.state = state;
        let success = matches!(state, State::Final(200..300));
        match self.verdict {
            // RFC 3261 §16.7 step 5: a 2xx is passed on at once. The others of its round have the message too.
            Verdict::Open if success => self.decide(Output::Relay(target), Verdict::Told),
            Verdict::Open => self.go_on(now),
            // A 482 to what was offered before says that he has it (decisions D3).
            Verdict::Stored if success || matches!(state, State::Final(482)) => {
                self.decide(Output::TakeBack, Verdict::TakenBack);
            }
            Verdict::Told | Verdict::Stored | Verdict::TakenBack => {}
        }
    }

    fn decide(&mut self, output: Output, verdict: Verdict) {
        // RFC 3261 §16.6: who was not tried when the answer is known is not tried.
        self.branches
            .iter_mut()
            .filter(|branch| branch.state == State::Waiting)
            .for_each(|branch| branch.state = State::Over);
        self.outputs.push_back(output);
        self.verdict = verdict;
    }

    /// Begins the next round when this one is done, or concludes when none is left.
    fn go_on(&mut self, now: Instant) {
        if self.branches.iter().any(|branch| branch.state == State::Tried) {
            return;
        }
        // RFC 3261 §16.7 step 5: after a 6xx no new branch is made.
        let refused = self.branches.iter().any(|branch| matches!(branch.state, State::Final(600..)));
        let waiting = self.branches.iter().filter(|branch| branch.state == State::Waiting);
        match waiting.map(|branch| branch.target.q).max() {
            Some(q) if !refused => self.begin_round(q, now),
            _ => self.conclude(),
        }
    }

    fn begin_round(&mut self, q: u16, now: Instant) {
        for branch in self.branches.iter_mut().filter(|branch| branch.state == State::Waiting && branch.target.q == q) {
            branch.state = State::Tried;
            self.outputs.push_back(Output::Send(branch.target.id));
        }
        self.round_due = now + self.patience.silence;
    }

    fn conclude(&mut self) {
        match (best(&self.branches), self.may_wait) {
            (Some(target), _) => self.decide(Output::Relay(target), Verdict::Told),
            (None, true) => self.decide(Output::Store, Verdict::Stored),
            (None, false) => self.decide(Output::Answer(480), Verdict::Told),
        }
    }
}

/// Whether a final status means that the receiver cannot take it now, and may later (O4.5). 430 says that the way to
/// him is gone (RFC 5626 §11.5).
pub fn is_away(status: u16) -> bool {
    matches!(status, 408 | 430 | 480 | 503)
}

/// RFC 3261 §16.7 step 6: the lowest is the best of several refusals: 6xx, else the lowest class, and in 4xx rather what
/// tells the sender how to do better.
pub(crate) fn rank(status: u16) -> (u16, u8) {
    match status {
        600.. => (0, 0),
        401 | 407 | 415 | 420 | 484 => (4, 0),
        _ => (status / 100, 1),
    }
}

/// The best among those that are more than absence.
fn best(branches: &[Branch]) -> Option<u32> {
    let refusals = branches.iter().filter_map(|branch| match branch.state {
        State::Final(status) if !is_away(status) => Some((rank(status), branch.target.id)),
        _ => None,
    });
    refusals.min_by_key(|(rank, _)| *rank).map(|(_, target)| target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Now {
        Now { at: Instant::now(), unix_ms: 0 }
    }

    fn said(delivery: &mut Delivery) -> Vec<Output> {
        std::iter::from_fn(|| delivery.poll_output()).collect()
    }

    fn to(targets: &[(u32, u16)]) -> Delivery {
        Delivery::start(targets.iter().map(|(id, q)| Target { id: *id, q: *q }), true, Patience::default(), now())
    }

    /// All that comes out when these contacts answer so, in this order; 0 is a failure of the transport.
    fn told(targets: &[(u32, u16)], answers: &[(u32, u16)]) -> Vec<Output> {
        let mut delivery = to(targets);
        for (target, status) in answers {
            let (target, status) = (*target, *status);
            let input = if status == 0 { Input::TransportFailed { target } } else { Input::Answer { target, status } };
            delivery.handle(input, now());
        }
        said(&mut delivery)
    }

    use Output::{Answer, Relay, Send, Store, TakeBack};

    #[test]
    fn the_receivers_answer_is_passed_on() {
        for status in [200, 202, 404, 415, 486, 500, 603] {
            assert_eq!(told(&[(1, 1_000)], &[(1, 100), (1, status)]), [Send(1), Relay(1)], "{status}");
        }
    }

    #[test]
    fn without_a_contact_it_is_stored() {
        assert_eq!(told(&[], &[]), [Store]);
    }

    #[test]
    fn who_cannot_take_it_now_gets_it_later() {
        // O4.5
        for status in [480, 408, 503, 430, 0] {
            assert_eq!(told(&[(1, 1_000)], &[(1, status)]), [Send(1), Store], "{status}");
        }
    }

    #[test]
    fn equal_contacts_are_tried_at_once_and_lower_ones_after_the_higher_have_failed() {
        let targets = [(1, 500), (2, 1_000), (3, 1_000)];
        assert_eq!(told(&targets, &[]), [Send(2), Send(3)]);
        assert_eq!(told(&targets, &[(2, 480)]), [Send(2), Send(3)]);
        assert_eq!(told(&targets, &[(2, 480), (3, 404)]), [Send(2), Send(3), Send(1)]);
        assert_eq!(told(&targets, &[(3, 200), (2, 480)]), [Send(2), Send(3), Relay(3)]);
        assert_eq!(told(&targets, &[(2, 480), (3, 404), (1, 200)]), [Send(2), Send(3), Send(1), Relay(1)]);
    }

    #[test]
    fn of_several_refusals_the_best_is_passed_on() {
        // RFC 3261 §16.7 step 6
        let targets = [(1, 1_000), (2, 1_000), (3, 1_000)];
        let last = |answers: [u16; 3]| told(&targets, &[(1, answers[0]), (2, answers[1]), (3, answers[2])]).pop();
        assert_eq!(last([503, 501, 404]), Some(Relay(3)));
        assert_eq!(last([404, 407, 501]), Some(Relay(2)));
        assert_eq!(last([407, 200, 603]), Some(Relay(2)));
        assert_eq!(last([407, 603, 302]), Some(Relay(2)));
        assert_eq!(last([404, 302, 500]), Some(Relay(2)));
        assert_eq!(last([480, 408, 500]), Some(Relay(3)));
        assert_eq!(last([480, 408, 503]), Some(Store));
    }

    #[test]
    fn after_a_6xx_nobody_else_is_tried_and_a_2xx_of_the_same_round_still_wins() {
        let targets = [(1, 500), (2, 1_000), (3, 1_000)];
        assert_eq!(told(&targets, &[(2, 603)]), [Send(2), Send(3)]);
        assert_eq!(told(&targets, &[(2, 603), (3, 480)]), [Send(2), Send(3), Relay(2)]);
        assert_eq!(told(&targets, &[(2, 603), (3, 200)]), [Send(2), Send(3), Relay(3)]);
    }

    #[test]
    fn silence_counts_as_away_and_a_late_answer_takes_the_letter_back_once() {
        // decisions D4
        let start = now();
        let mut delivery = to(&[(1, 1_000), (2, 1_000)]);
        assert_eq!(said(&mut delivery), [Send(1), Send(2)]);
        delivery.handle_timeout(start.later(Duration::from_millis(9_999)).later(Duration::ZERO));
        assert_eq!(said(&mut delivery), []);
        delivery.handle_timeout(start.later(Duration::from_secs(11)));
        assert_eq!(said(&mut delivery), [Store]);
        assert_eq!((delivery.poll_timeout(), delivery.is_over()), (None, false));
        delivery.handle(Input::Answer { target: 1, status: 200 }, start.later(Duration::from_secs(20)));
        delivery.handle(Input::Answer { target: 2, status: 200 }, start.later(Duration::from_secs(21)));
        assert_eq!(said(&mut delivery), [TakeBack]);
        assert!(delivery.is_over());
    }

    #[test]
    fn a_late_refusal_changes_nothing() {
        let mut delivery = to(&[(1, 1_000)]);
        delivery.handle_timeout(now().later(Duration::from_secs(11)));
        delivery.handle(Input::Answer { target: 1, status: 404 }, now());
        assert_eq!(said(&mut delivery), [Send(1), Store]);
        assert!(delivery.is_over());
    }

    #[test]
    fn a_late_482_says_that_he_has_it() {
        // decisions D3
        let mut delivery = to(&[(1, 1_000)]);
        delivery.handle_timeout(now().later(Duration::from_secs(11)));
        delivery.handle(Input::Answer { target: 1, status: 482 }, now());
        assert_eq!(said(&mut delivery), [Send(1), Store, TakeBack]);
    }

    #[test]
    fn one_who_was_silent_in_a_higher_round_may_still_take_it() {
        let mut delivery = to(&[(1, 1_000), (2, 500)]);
        delivery.handle_timeout(now().later(Duration::from_secs(11)));
        assert_eq!(said(&mut delivery), [Send(1), Send(2)]);
        delivery.handle(Input::Answer { target: 1, status: 200 }, now());
        assert_eq!(said(&mut delivery), [Relay(1)]);
    }

    #[test]
    fn many_silent_rounds_do_not_outlast_the_senders_timer() {
        // RFC 4320 §2.2
        let start = now();
        let mut delivery = to(&[(1, 1_000), (2, 900), (3, 800), (4, 700)]);
        let mut at = start;
        while let Some(due) = delivery.poll_timeout() {
            at = Now { at: due, ..start };
            delivery.handle_timeout(at);
        }
        assert!(at.at - start.at < Duration::from_secs(26), "{:?}", at.at - start.at);
        assert_eq!(said(&mut delivery), [Send(1), Send(2), Send(3), Store]);
        assert_eq!(Patience::new(Duration::from_secs(60)).silence, ANSWER_BY);
    }

    #[test]
    fn what_may_not_wait_is_answered_480() {
        let mut delivery = Delivery::start([], false, Patience::default(), now());
        assert_eq!(said(&mut delivery), [Answer(480)]);
        let mut delivery = Delivery::start([Target { id: 1, q: 0 }], false, Patience::default(), now());
        delivery.handle(Input::Answer { target: 1, status: 503 }, now());
        delivery.handle(Input::Answer { target: 1, status: 200 }, now());
        assert_eq!(said(&mut delivery), [Send(1), Answer(480)]);
    }

    proptest! {
        #[test]
        fn every_message_ends_in_exactly_one_of_relayed_stored_and_refused(
            targets in proptest::collection::vec(0u16..3, 0..6),
            may_wait in any::<bool>(),
            steps in proptest::collection::vec((0u32..7, 0u16..9, 0u64..6_000), 0..40)
        ) {
            let start = now();
            let targets: Vec<Target> = targets.iter().enumerate().map(|(id, q)| Target { id: id as u32, q: *q }).collect();
            let mut delivery = Delivery::start(targets.clone(), may_wait, Patience::default(), start);
            let (mut at, mut outputs, mut answered) = (start, Vec::new(), std::collections::HashMap::new());
            outputs.extend(said(&mut delivery));
            for (target, answer, pause) in steps {
                at = at.later(Duration::from_millis(pause));
                if delivery.poll_timeout().is_some_and(|due| due <= at.at) {
                    delivery.handle_timeout(at);
                }
                outputs.extend(said(&mut delivery));
                let sent = outputs.contains(&Send(target));
                let status = [100, 200, 302, 404, 480, 503, 603][usize::from(answer % 7)];
                let input = match answer {
                    7 => Input::Silent { target },
                    8 => Input::TransportFailed { target },
                    _ => Input::Answer { target, status },
                };
                if sent && (status != 100 || answer > 6) {
                    answered.entry(target).or_insert(if answer > 6 { 0 } else { status });
                }
                delivery.handle(input, at);
                outputs.extend(said(&mut delivery));
            }
            while let Some(due) = delivery.poll_timeout() {
                delivery.handle_timeout(Now { at: due, ..at });
                outputs.extend(said(&mut delivery));
            }
            prop_assert!(delivery.is_decided());
            let finals: Vec<_> = outputs.iter().filter(|one| matches!(one, Relay(_) | Store | Answer(_))).collect();
            prop_assert_eq!(finals.len(), 1, "{:?}", outputs);
            prop_assert!(outputs.iter().filter(|one| **one == TakeBack).count() <= 1);
            prop_assert!(may_wait || !outputs.contains(&Store));
            if let Relay(target) = finals[0] {
                prop_assert!(outputs.contains(&Send(*target)) && !is_away(answered[target]) && answered[target] >= 200);
            }
            // Each contact once at most, higher ones never after lower ones.
            let sent: Vec<u32> = outputs.iter().filter_map(|one| if let Send(id) = one { Some(*id) } else { None }).collect();
            let order: Vec<u16> = sent.iter().map(|id| targets[*id as usize].q).collect();
            prop_assert!(order.windows(2).all(|two| two[0] >= two[1]));
            prop_assert_eq!(sent.iter().collect::<std::collections::HashSet<_>>().len(), sent.len());
        }
    }
}
