//! What a session decides, move by move; and that every session ends whatever happens to it.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// The number of the caller's INVITE.
const NUMBER: u32 = 7;

use Output::{Accept, Cancel, Ended, HangUp, Invite, Locate, Refuse, Ring};

/// A session and its clock.
struct Play {
    session: Session,
    began: Instant,
    now: Instant,
}

impl Play {
    fn new(targets: &[(u32, u16)]) -> Self {
        let now = Instant::now();
        let mut play = Self { session: Session::start(NUMBER, Patience::default(), now), began: now, now };
        assert_eq!(play.said(), [Locate]);
        let targets = targets.iter().map(|(id, q)| Target { id: *id, q: *q }).collect();
        play.session.handle(Input::Found(targets), now);
        play
    }

    /// One that talks: contact 1 has taken it.
    fn talking() -> Self {
        let mut play = Self::new(&[(1, 1_000)]);
        assert_eq!(play.hear(accepted(1)), [Invite(1), Accept(1)]);
        play
    }

    fn acknowledged() -> Self {
        let mut play = Self::talking();
        assert_eq!(play.hear(Input::Acknowledged { side: Side::Caller, number: NUMBER }), []);
        play
    }

    fn bound() -> Self {
        let mut play = Self::acknowledged();
        assert_eq!(play.hear(Input::Bound(Side::Caller)), []);
        assert_eq!(play.hear(Input::Bound(Side::Callee)), []);
        play
    }

    fn said(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    fn hear(&mut self, input: Input) -> Vec<Output> {
        self.session.handle(input, self.now);
        self.said()
    }

    /// Sleeps from timer to timer; what was said, with the milliseconds since the beginning.
    fn wait(&mut self, during: Duration) -> Vec<(u64, Output)> {
        let (until, mut all) = (self.now + during, Vec::new());
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= until) {
            assert!(due > self.now || self.session.poll_timeout() != Some(self.now), "the clock stands");
            self.now = due;
            self.session.handle_timeout(due);
            let ms = u64::try_from((due - self.began).as_millis()).unwrap();
            all.extend(self.said().into_iter().map(|output| (ms, output)));
        }
        self.now = until;
        all
    }
}

fn accepted(branch: u32) -> Input {
    Input::Accepted { branch, usable: true }
}

fn refused(branch: u32, status: u16) -> Input {
    Input::Refused { branch, status }
}

fn ringing(branch: u32) -> Input {
    Input::Provisional { branch, status: 180 }
}

fn offered(side: Side, number: u32) -> Input {
    Input::Offered { side, number, fault: None }
}

fn bye(side: Side, why: Why) -> Output {
    Output::Bye { side, why }
}

fn cancel(branch: u32) -> Output {
    Cancel { branch, answered: false }
}

/// All that is said when these contacts answer so, in this order; 0 is no answer.
fn told(targets: &[(u32, u16)], answers: &[(u32, u16)]) -> Vec<Output> {
    let mut play = Play::new(targets);
    for (branch, status) in answers {
        let (branch, status) = (*branch, *status);
        let input = match status {
            0 => Input::Failed { branch },
            1..200 => Input::Provisional { branch, status },
            200..300 => accepted(branch),
            _ => refused(branch, status),
        };
        play.session.handle(input, play.now);
    }
    play.said()
}

#[test]
fn the_callees_refusal_is_the_callers_answer() {
    for status in [302, 404, 415, 486, 488, 500, 603] {
        assert_eq!(told(&[(1, 1_000)], &[(1, status)]), [Invite(1), Refuse(Refusal::Relay(1)), Ended], "{status}");
    }
}

#[test]
fn absence_in_all_its_forms_is_480() {
    let away = Refuse(Refusal::Status(480));
    for status in [480, 408, 430, 503, 0, 401, 407, 487] {
        assert_eq!(told(&[(1, 1_000)], &[(1, status)]), [Invite(1), away, Ended], "{status}");
    }
    assert_eq!(told(&[], &[]), [away, Ended]);
}

#[test]
fn nobody_of_this_name_is_told_and_rings_nowhere() {
    let now = Instant::now();
    let mut session = Session::start(1, Patience::default(), now);
    session.handle(Input::Absent(404), now);
    let said: Vec<Output> = std::iter::from_fn(|| session.poll_output()).collect();
    assert_eq!(said, [Locate, Refuse(Refusal::Status(404)), Ended]);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn equal_contacts_ring_at_once_and_lower_ones_after_the_higher_have_failed() {
    let targets = [(1, 500), (2, 1_000), (3, 1_000)];
    assert_eq!(told(&targets, &[(2, 480)]), [Invite(2), Invite(3)]);
    assert_eq!(told(&targets, &[(2, 480), (3, 0)]), [Invite(2), Invite(3), Invite(1)]);
    assert_eq!(told(&targets, &[(2, 404), (3, 0), (1, 200)]), [Invite(2), Invite(3), Invite(1), Accept(1)]);
}

#[test]
fn the_first_2xx_takes_the_session_and_the_others_are_cancelled() {
    let cancelled = Cancel { branch: 2, answered: true };
    let targets = [(2, 1_000), (3, 1_000), (4, 1)];
    assert_eq!(told(&targets, &[(3, 200)]), [Invite(2), Invite(3), Accept(3), cancelled]);
    // RFC 3261 §13.2.2.4: one that is too late is acknowledged and hung up, once.
    let late = told(&targets, &[(3, 200), (2, 200), (2, 200)]);
    assert_eq!(late, [Invite(2), Invite(3), Accept(3), cancelled, HangUp(2)]);
    assert_eq!(told(&targets, &[(3, 200), (2, 487)]), [Invite(2), Invite(3), Accept(3), cancelled]);
}

#[test]
fn of_several_refusals_the_best_is_passed_on() {
    // RFC 3261 §16.7 step 6.
    let last = |one, other| told(&[(1, 1_000), (2, 1_000)], &[(1, one), (2, other)])[2];
    assert_eq!(last(404, 486), Refuse(Refusal::Relay(1)));
    assert_eq!(last(500, 486), Refuse(Refusal::Relay(2)));
    assert_eq!(last(480, 500), Refuse(Refusal::Relay(2)));
    assert_eq!(last(404, 302), Refuse(Refusal::Relay(2)));
    assert_eq!(last(486, 415), Refuse(Refusal::Relay(2)));
}

#[test]
fn a_6xx_speaks_for_all_contacts() {
    // RFC 3261 §16.7 step 5.
    let said = told(&[(1, 1_000), (2, 1_000), (3, 1)], &[(2, 603), (1, 200)]);
    assert_eq!(said, [Invite(1), Invite(2), Refuse(Refusal::Relay(2)), cancel(1), HangUp(1), Ended]);
}

#[test]
fn the_caller_hears_one_180_whoever_rings() {
    assert_eq!(told(&[(1, 1), (2, 1)], &[(1, 100), (1, 183), (2, 180), (1, 180)]), [Invite(1), Invite(2), Ring]);
    assert_eq!(told(&[(1, 1)], &[(1, 200), (1, 180)]), [Invite(1), Accept(1)]);
}

#[test]
fn an_answer_that_cannot_be_worked_with_counts_as_488() {
    let mut play = Play::new(&[(1, 1_000)]);
    let said = play.hear(Input::Accepted { branch: 1, usable: false });
    assert_eq!(said, [Invite(1), HangUp(1), Refuse(Refusal::Relay(1)), Ended]);
}

#[test]
fn a_call_can_be_taken_back_until_it_is_answered() {
    // RFC 3261 §9.2.
    let mut play = Play::new(&[(1, 1_000)]);
    play.hear(ringing(1));
    assert_eq!(play.hear(Input::Cancelled), [Refuse(Refusal::Status(487)), cancel(1)]);
    assert_eq!(play.hear(refused(1, 487)), [Ended]);
    assert_eq!(Play::talking().hear(Input::Cancelled), []);
    // RFC 3261 §15: the caller may say BYE instead; the callee must not yet.
    let mut play = Play::new(&[(1, 1_000)]);
    play.said();
    assert_eq!(play.hear(Input::HungUp(Side::Callee)), []);
    assert_eq!(play.hear(Input::HungUp(Side::Caller)), [Refuse(Refusal::Status(487)), cancel(1)]);
}

#[test]
fn a_call_that_is_taken_back_before_anybody_is_found_rings_nowhere() {
    let now = Instant::now();
    let mut session = Session::start(1, Patience::default(), now);
    session.handle(Input::Cancelled, now);
    session.handle(Input::Found(vec![Target { id: 1, q: 1 }]), now);
    let said: Vec<Output> = std::iter::from_fn(|| session.poll_output()).collect();
    assert_eq!(said, [Locate, Refuse(Refusal::Status(487)), Ended]);
}

#[test]
fn a_2xx_goes_again_until_its_ack_comes() {
    // RFC 3261 §13.3.1.4.
    let mut play = Play::talking();
    let again = Output::Repeat { side: Side::Caller, number: NUMBER };
    let heard = play.wait(8 * SECOND);
    assert_eq!(heard, [500, 1_500, 3_500, 7_500].map(|ms| (ms, again)));
    assert_eq!(play.hear(Input::Acknowledged { side: Side::Caller, number: NUMBER + 1 }), []);
    assert_eq!(play.wait(4 * SECOND), [(11_500, again)]);
    assert_eq!(play.hear(Input::Acknowledged { side: Side::Caller, number: NUMBER }), []);
    assert_eq!(play.wait(10 * SECOND), []);
}

#[test]
fn a_session_whose_2xx_is_never_acknowledged_is_ended_after_64_t1() {
    // RFC 3261 §13.3.1.4.
    let mut play = Play::talking();
    play.hear(Input::Bound(Side::Caller));
    play.hear(Input::Bound(Side::Callee));
    let heard = play.wait(60 * SECOND);
    let end: Vec<_> = heard.iter().filter(|(_, output)| !matches!(output, Output::Repeat { .. })).collect();
    let both = [bye(Side::Caller, Why::NoAck), bye(Side::Callee, Why::NoAck), Ended].map(|output| (32_000, output));
    assert_eq!(end, both.iter().collect::<Vec<_>>());
    assert_eq!(heard.len(), 10 + 3);
}

#[test]
fn a_bye_of_either_side_is_passed_to_the_other() {
    for side in Side::BOTH {
        let said = Play::bound().hear(Input::HungUp(side));
        assert_eq!(said, [bye(side.other(), Why::HungUp), Ended]);
    }
}

#[test]
fn the_caller_gets_no_bye_before_its_ack_has_come() {
    // RFC 3261 §15.
    let mut play = Play::talking();
    assert_eq!(play.hear(Input::HungUp(Side::Callee)), []);
    assert_eq!(play.wait(SECOND).len(), 1, "the 2xx goes on being repeated");
    let said = play.hear(Input::Acknowledged { side: Side::Caller, number: NUMBER });
    assert_eq!(said, [bye(Side::Caller, Why::HungUp), Ended]);
    // It may hang up itself, or never acknowledge.
    let mut play = Play::talking();
    play.hear(Input::HungUp(Side::Callee));
    assert_eq!(play.hear(Input::HungUp(Side::Caller)), [Ended]);
    let mut play = Play::talking();
    play.hear(Input::HungUp(Side::Callee));
    let heard = play.wait(60 * SECOND);
    assert_eq!(heard[heard.len() - 2..], [(32_000, bye(Side::Caller, Why::HungUp)), (32_000, Ended)]);
}

#[test]
fn a_session_whose_connections_do_not_come_is_ended_after_30_s() {
    // Decisions D9.
    let mut play = Play::acknowledged();
    play.hear(Input::Bound(Side::Caller));
    let both = [bye(Side::Caller, Why::Unbound), bye(Side::Callee, Why::Unbound), Ended];
    assert_eq!(play.wait(60 * SECOND), both.map(|output| (30_000, output)));
}

#[test]
fn a_lost_connection_ends_the_session_on_both_sides() {
    let both = [bye(Side::Caller, Why::Lost), bye(Side::Callee, Why::Lost), Ended];
    assert_eq!(Play::bound().hear(Input::Lost(Side::Callee)), both);
}

#[test]
fn a_session_in_which_nothing_is_said_is_ended_half_an_hour_after_the_last_word() {
    // O5.5.
    let mut play = Play::bound();
    assert_eq!(play.wait(1_799 * SECOND), []);
    let word = Input::Heard(play.now - 100 * SECOND);
    assert_eq!(play.hear(word), []);
    assert_eq!(play.wait(1_700 * SECOND - Duration::from_millis(1)), []);
    let ended = play.wait(SECOND);
    assert_eq!(ended.len(), 3);
    assert_eq!(ended[0], (3_499_000, bye(Side::Caller, Why::Idle)));
    // What was said is heard before anybody calls it silent.
    let mut play = Play::bound();
    play.now += 1_800 * SECOND;
    assert_eq!(play.hear(Input::Heard(play.now - 9 * SECOND)), []);
    assert_eq!(play.session.poll_timeout(), Some(play.now + 1_791 * SECOND));
    let mut endless = Play::bound();
    endless.session.patience.idle = Duration::ZERO;
    assert_eq!(endless.session.poll_timeout(), None);
}

#[test]
fn a_new_offer_is_answered_while_the_session_stands() {
    let answer = |side, number, status| Output::Answer { side, number, status };
    let mut play = Play::bound();
    assert_eq!(play.hear(offered(Side::Callee, 3)), [answer(Side::Callee, 3, 200)]);
    assert_eq!(play.wait(SECOND), [(500, Output::Repeat { side: Side::Callee, number: 3 })]);
    assert_eq!(play.hear(Input::Acknowledged { side: Side::Callee, number: 3 }), []);
    // Of a fault in it the session does not die.
    let bad = Input::Offered { side: Side::Caller, number: 8, fault: Some(488) };
    assert_eq!(play.hear(bad), [answer(Side::Caller, 8, 488)]);
    assert_eq!(play.wait(SECOND), []);
    assert!(play.session.is_talking());
    // RFC 3261 §14.2: our INVITE is under way there; theirs is under way here.
    let mut play = Play::new(&[(1, 1_000)]);
    play.said();
    assert_eq!(play.hear(offered(Side::Callee, 3)), [answer(Side::Callee, 3, 491)]);
    assert_eq!(play.hear(offered(Side::Caller, 8)), [answer(Side::Caller, 8, 500)]);
    // What is ending is not known any more.
    let mut play = Play::talking();
    play.hear(Input::HungUp(Side::Callee));
    assert_eq!(play.hear(offered(Side::Caller, 8)), [answer(Side::Caller, 8, 481)]);
}

#[test]
fn a_new_offer_that_is_never_acknowledged_ends_the_session() {
    // RFC 3261 §13.3.1.4, §14.2.
    let mut play = Play::bound();
    play.hear(offered(Side::Callee, 3));
    let heard = play.wait(40 * SECOND);
    assert!(heard.contains(&(32_000, bye(Side::Caller, Why::NoAck))) && heard.contains(&(32_000, Ended)), "{heard:?}");
}

#[test]
fn a_session_that_was_not_refreshed_ends_with_a_bye_to_both() {
    // RFC 4028 §10.
    let both = [bye(Side::Caller, Why::Lapsed), bye(Side::Callee, Why::Lapsed), Ended];
    let mut play = Play::bound();
    assert_eq!(play.hear(Input::Lapsed), both);
    assert_eq!(play.hear(Input::Lapsed), []);
    let mut ringing = Play::new(&[(1, 1_000)]);
    ringing.said();
    assert_eq!(ringing.hear(Input::Lapsed), []);
}

#[test]
fn a_caller_who_does_not_hear_that_it_rings_is_refused() {
    // RFC 3262 §3.
    let mut play = Play::new(&[(1, 1_000)]);
    assert_eq!(play.hear(ringing(1)), [Invite(1), Ring]);
    assert_eq!(play.hear(Input::Unheard), [Refuse(Refusal::Status(504)), cancel(1)]);
    let mut talking = Play::bound();
    assert_eq!(talking.hear(Input::Unheard), []);
}

#[test]
fn nobody_rings_for_ever() {
    // RFC 3261 §16.8, and the CANCEL of §9.1.
    let mut play = Play::new(&[(1, 1_000), (2, 500)]);
    play.hear(ringing(1));
    let heard = play.wait(400 * SECOND);
    assert_eq!(heard, [(240_000, Refuse(Refusal::Status(480))), (240_000, cancel(1))]);
    assert_eq!(play.hear(Input::Failed { branch: 1 }), [Ended]);
}

#[test]
fn a_call_rings_no_longer_than_its_caller_wants() {
    // RFC 3261 §13.3.1 step 1.
    let now = Instant::now();
    let mut session = Session::start(1, Patience { expires: Some(5 * SECOND), ..Patience::default() }, now);
    session.handle(Input::Found(vec![Target { id: 1, q: 1 }]), now);
    assert_eq!(session.poll_timeout(), Some(now + 5 * SECOND));
    session.handle_timeout(now + 5 * SECOND);
    let said: Vec<Output> = std::iter::from_fn(|| session.poll_output()).collect();
    assert_eq!(said, [Locate, Invite(1), Refuse(Refusal::Status(487)), cancel(1)]);
}

#[test]
fn a_caller_whose_callee_cannot_be_looked_up_hears_503() {
    let now = Instant::now();
    let mut session = Session::start(1, Patience::default(), now);
    session.handle_timeout(session.poll_timeout().unwrap());
    let said: Vec<Output> = std::iter::from_fn(|| session.poll_output()).collect();
    assert_eq!(said, [Locate, Refuse(Refusal::Status(503)), Ended]);
}

#[test]
fn a_server_that_stops_says_so_to_everybody() {
    assert_eq!(Play::talking().hear(Input::Leave), {
        [bye(Side::Caller, Why::Leaving), bye(Side::Callee, Why::Leaving), Ended]
    });
    let mut play = Play::new(&[(1, 1_000)]);
    play.said();
    assert_eq!(play.hear(Input::Leave), [Refuse(Refusal::Status(503)), cancel(1)]);
}

#[test]
fn what_a_broken_machine_left_open_is_closed() {
    // Decisions D20.
    let said = |owed, open: &[u32], stands| {
        let mut session = Session::broken(owed, open, stands, Patience::default(), Instant::now());
        std::iter::from_fn(|| session.poll_output()).collect::<Vec<_>>()
    };
    assert_eq!(said(true, &[1, 2], [false; 2]), [Refuse(Refusal::Status(500)), cancel(1), cancel(2)]);
    assert_eq!(said(false, &[], [true; 2]), [bye(Side::Caller, Why::Broken), bye(Side::Callee, Why::Broken), Ended]);
    assert_eq!(said(false, &[], [false; 2]), [Ended]);
}

#[test]
fn every_end_but_a_peers_own_has_a_reason() {
    // RFC 3326 §2.
    assert_eq!(Why::HungUp.reason(), None);
    for why in [Why::Idle, Why::Unbound, Why::Lost, Why::NoAck, Why::Lapsed, Why::Broken, Why::Leaving] {
        let reason = why.reason().unwrap();
        assert!(reason.starts_with("SIP;cause=") && reason.ends_with('"'), "{reason}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Hear(Input),
    Wait(u64),
}

fn any_input() -> impl Strategy<Value = Input> {
    let branch = 0u32..5;
    let side = prop_oneof![Just(Side::Caller), Just(Side::Callee)];
    let number = 6u32..10;
    prop_oneof![
        proptest::collection::vec((0u32..4, 0u16..3), 0..4).prop_map(|targets| {
            let mut seen = std::collections::HashSet::new();
            let new = targets.into_iter().filter(|(id, _)| seen.insert(*id));
            Input::Found(new.map(|(id, q)| Target { id, q }).collect())
        }),
        prop_oneof![Just(404), Just(480)].prop_map(Input::Absent),
        (branch.clone(), 100u16..200).prop_map(|(branch, status)| Input::Provisional { branch, status }),
        (branch.clone(), any::<bool>()).prop_map(|(branch, usable)| Input::Accepted { branch, usable }),
        (branch.clone(), 300u16..700).prop_map(|(branch, status)| Input::Refused { branch, status }),
        branch.prop_map(|branch| Input::Failed { branch }),
        prop_oneof![9 => Just(Input::Cancelled), 1 => Just(Input::Leave)],
        (side.clone(), number.clone(), proptest::option::of(Just(488)))
            .prop_map(|(side, number, fault)| Input::Offered { side, number, fault }),
        (side.clone(), number).prop_map(|(side, number)| Input::Acknowledged { side, number }),
        side.clone().prop_map(Input::HungUp),
        side.clone().prop_map(Input::Bound),
        side.prop_map(Input::Lost),
        prop_oneof![Just(Input::Lapsed), Just(Input::Unheard)],
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => any_input().prop_map(Step::Hear), 1 => (0u64..40_000).prop_map(Step::Wait)]
}

proptest! {
    /// Whatever happens in whatever order: one final answer to the caller, one BYE a side at most, every branch that was
    /// opened is closed, and when the world does its part (transactions end, time passes) the session ends, once.
    #[test]
    fn every_session_ends_with_one_answer_and_nothing_after_it(
        targets in proptest::collection::vec(0u16..3, 0..4),
        steps in proptest::collection::vec(any_step(), 0..40),
    ) {
        let began = Instant::now();
        let mut session = Session::start(NUMBER, Patience::default(), began);
        let mut now = began;
        let mut open = std::collections::BTreeSet::new();
        let (mut finals, mut byes, mut ended, mut accepted) = (0, [0; 2], 0, 0);
        let first = targets.iter().zip(0u32..).map(|(q, id)| Target { id, q: *q }).collect();
        let mut script = vec![Step::Hear(Input::Found(first))];
        script.extend(steps);
        let mut script = script.into_iter();
        // The script, then fair play until nothing is awaited any more.
        for turn in 0.. {
            prop_assert!(turn < 5_000, "the session does not end");
            match script.next() {
                Some(Step::Hear(input)) => {
                    match &input {
                        Input::Accepted { branch, .. } | Input::Refused { branch, .. } | Input::Failed { branch } => {
                            open.remove(branch);
                        }
                        _ => {}
                    }
                    session.handle(input, now);
                }
                Some(Step::Wait(ms)) => {
                    now += Duration::from_millis(ms);
                    session.handle_timeout(now);
                }
                None => match (open.pop_first(), session.poll_timeout()) {
                    (Some(branch), _) => session.handle(Input::Failed { branch }, now),
                    (None, Some(due)) => {
                        now = now.max(due);
                        session.handle_timeout(now);
                    }
                    (None, None) => break,
                },
            }
            while let Some(output) = session.poll_output() {
                prop_assert_eq!(ended, 0, "{:?} after the end", output);
                match output {
                    Output::Invite(branch) => prop_assert!(open.insert(branch), "branch {} twice", branch),
                    Output::Accept(_) => { finals += 1; accepted += 1; }
                    Output::Refuse(_) => finals += 1,
                    Output::Bye { side, .. } => { byes[side as usize] += 1; prop_assert_eq!(accepted, 1); }
                    Output::Ended => ended += 1,
                    Output::Cancel { branch, .. } => prop_assert!(open.contains(&branch), "{} is not open", branch),
                    Output::Ring => prop_assert_eq!(finals, 0, "180 after the final answer"),
                    Output::Locate | Output::HangUp(_) | Output::Repeat { .. } | Output::Answer { .. } => {}
                }
            }
            prop_assert_eq!(ended == 1, session.is_over());
        }
        prop_assert_eq!((finals, ended), (1, 1));
        prop_assert!(byes.iter().all(|byes| *byes <= 1), "{:?}", byes);
    }
}
