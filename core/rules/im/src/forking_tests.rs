//! What RFC 3261 §16.7 says of forks, case by case.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn now() -> Now {
    Now { at: Instant::now(), unix_ms: 0 }
}

fn said(forking: &mut Forking) -> Vec<String> {
    let text = |output| match output {
        Output::Send(id) => format!("send {id}"),
        Output::Pass(id) => format!("pass {id}"),
        Output::Succeed(id) => format!("succeed {id}"),
        Output::Cancel { target, answered } => format!("cancel {target}{}", if answered { " answered" } else { "" }),
        Output::Refuse { target, challenges } if challenges.is_empty() => format!("refuse {target}"),
        Output::Refuse { target, challenges } => format!("refuse {target} with {challenges:?}"),
        Output::Status(status) => status.to_string(),
        Output::Abandon => "abandon".to_owned(),
    };
    std::iter::from_fn(|| forking.poll_output()).map(text).collect()
}

const OTHER: Kind = Kind::Other(Patience { silence: Duration::from_secs(10), answer_by: Duration::from_secs(25) });

fn fork(kind: Kind, targets: &[(u32, u16)]) -> Forking {
    Forking::start(targets.iter().map(|(id, q)| Target { id: *id, q: *q }), kind, 60, now())
}

/// What comes out after the first round was sent, when these devices do so: a status, 0 for no way, 1 for silence.
fn told(kind: Kind, targets: &[(u32, u16)], events: &[(u32, u16)]) -> Vec<String> {
    let mut forking = fork(kind, targets);
    said(&mut forking);
    for (target, status) in events {
        let (target, status) = (*target, *status);
        let input = match status {
            0 => Input::Failed { target },
            1 => Input::Silent { target },
            _ => Input::Answer { target, status },
        };
        forking.handle(input, now());
    }
    said(&mut forking)
}

const TWO: &[(u32, u16)] = &[(1, 1_000), (2, 1_000)];

#[test]
fn equal_ones_are_tried_at_once_and_lower_ones_after_them() {
    let mut forking = fork(Kind::Invite, &[(1, 500), (2, 1_000), (3, 1_000)]);
    assert_eq!(said(&mut forking), ["send 2", "send 3"]);
    forking.handle(Input::Answer { target: 2, status: 486 }, now());
    assert!(said(&mut forking).is_empty());
    forking.handle(Input::Answer { target: 3, status: 480 }, now());
    assert_eq!(said(&mut forking), ["send 1"]);
    forking.handle(Input::Answer { target: 1, status: 404 }, now());
    assert_eq!(said(&mut forking), ["refuse 2"], "the best class, there the device that comes first");
    assert!(forking.is_over());
}

#[test]
fn the_best_of_several_refusals_is_the_answer() {
    // RFC 3261 §16.7 step 6.
    for (answers, expected) in [
        ([486, 603], "refuse 2"),
        ([600, 404], "refuse 1"),
        ([500, 486], "refuse 2"),
        ([302, 404], "refuse 1"),
        ([404, 415], "refuse 2"),
        ([404, 420], "refuse 2"),
        ([484, 486], "refuse 1"),
        ([480, 486], "refuse 2"),
        ([408, 486], "refuse 2"),
        ([503, 404], "refuse 2"),
        ([503, 500], "500"),
        ([503, 503], "500"),
        ([0, 0], "500"),
        ([0, 486], "refuse 2"),
        ([1, 1], "408"),
        ([1, 500], "408"),
        ([0, 504], "500"),
    ] {
        let events = [(1, answers[0]), (2, answers[1])];
        let mut heard = told(Kind::Invite, TWO, &events);
        heard.retain(|text| !text.starts_with("cancel"));
        assert_eq!(heard, [expected], "{answers:?}");
    }
}

#[test]
fn challenges_of_all_devices_go_together() {
    // RFC 3261 §16.7 step 7.
    assert_eq!(told(Kind::Invite, TWO, &[(1, 401), (2, 407)]), ["refuse 1 with [2]"]);
    assert_eq!(told(Kind::Invite, TWO, &[(1, 404), (2, 407)]), ["refuse 2"]);
    assert_eq!(told(OTHER, TWO, &[(1, 407), (2, 401)]), ["refuse 1 with [2]"]);
}

#[test]
fn a_success_goes_on_at_once_and_the_others_are_cancelled_and_every_further_one_of_an_invite_goes_on() {
    // RFC 3261 §16.7 steps 5 and 10.
    let events = [(1, 180), (2, 183), (2, 200), (2, 200), (1, 200), (1, 487)];
    let heard = told(Kind::Invite, TWO, &events);
    assert_eq!(heard, ["pass 1", "pass 2", "succeed 2", "cancel 1 answered", "succeed 2", "succeed 1"]);
    assert_eq!(told(Kind::Invite, TWO, &[(2, 200), (1, 180), (1, 487)]), ["succeed 2", "cancel 1 answered"]);
    assert_eq!(told(OTHER, TWO, &[(2, 202), (1, 200)]), ["succeed 2"], "one final answer to all others");
    // Who was to be tried later is not.
    assert_eq!(told(Kind::Invite, &[(1, 1_000), (2, 500)], &[(1, 200)]), ["succeed 1"]);
}

#[test]
fn a_6xx_ends_the_search_but_waits_for_who_rings() {
    // RFC 3261 §16.7 step 5.
    let targets = &[(1, 1_000), (2, 1_000), (3, 500)];
    assert_eq!(told(Kind::Invite, targets, &[(1, 603)]), ["cancel 2"]);
    assert_eq!(told(Kind::Invite, targets, &[(1, 603), (2, 487)]), ["cancel 2", "refuse 1"]);
    assert_eq!(told(Kind::Invite, targets, &[(1, 603), (2, 200)]), ["cancel 2", "succeed 2"], "a 2xx may win yet");
}

#[test]
fn a_caller_who_gives_up_hears_what_the_devices_say_to_it() {
    // RFC 3261 §16.10.
    let mut forking = fork(Kind::Invite, &[(1, 1_000), (2, 1_000), (3, 500)]);
    said(&mut forking);
    forking.handle(Input::Cancelled, now());
    forking.handle(Input::Cancelled, now());
    assert_eq!(said(&mut forking), ["cancel 1", "cancel 2"]);
    forking.handle(Input::Answer { target: 1, status: 487 }, now());
    forking.handle(Input::Silent { target: 2 }, now());
    assert_eq!(said(&mut forking), ["refuse 1"]);
    let mut silent = fork(Kind::Invite, &[(1, 1_000)]);
    silent.handle(Input::Cancelled, now());
    silent.handle(Input::Silent { target: 1 }, now());
    assert_eq!(said(&mut silent), ["send 1", "cancel 1", "487"]);
    assert!(silent.is_over());
}

#[test]
fn what_is_no_invite_is_never_answered_408_nor_provisionally() {
    // RFC 4320 §4.1, §4.2.
    assert_eq!(told(OTHER, TWO, &[(1, 180), (1, 408), (2, 1)]), ["abandon"]);
    assert_eq!(told(OTHER, TWO, &[(1, 408), (2, 500)]), ["refuse 2"]);
    assert_eq!(told(OTHER, TWO, &[(1, 603)]), [""; 0], "nothing can be taken back: the other one may succeed");
}

#[test]
fn who_is_silent_keeps_lower_ones_of_no_invite_waiting_only_so_long() {
    let mut forking = fork(OTHER, &[(1, 1_000), (2, 500)]);
    let start = now();
    said(&mut forking);
    let due = forking.poll_timeout().unwrap();
    forking.handle_timeout(Now { at: due, ..start });
    assert_eq!(said(&mut forking), ["send 2"]);
    forking.handle(Input::Answer { target: 2, status: 486 }, start);
    assert!(said(&mut forking).is_empty(), "the first may answer yet");
    let mut late = forking.poll_timeout().unwrap();
    while late < start.at + Duration::from_secs(24) {
        forking.handle_timeout(Now { at: late, ..start });
        late = forking.poll_timeout().unwrap();
    }
    forking.handle_timeout(Now { at: late, ..start });
    assert_eq!(said(&mut forking), ["refuse 2"], "in time for the sender");
    assert!(forking.poll_timeout().is_none() && !forking.is_over());
    forking.handle(Input::Silent { target: 1 }, start);
    assert!(forking.is_over());
    // Without anything to say it waits for a late success.
    let mut alone = fork(OTHER, &[(1, 1_000)]);
    said(&mut alone);
    while let Some(due) = alone.poll_timeout() {
        alone.handle_timeout(Now { at: due, ..start });
    }
    alone.handle(Input::Answer { target: 1, status: 200 }, start);
    assert_eq!(said(&mut alone), ["succeed 1"]);
}

#[test]
fn no_more_are_tried_at_once_than_the_breadth_allows() {
    // RFC 5393 §5.3.3.
    let targets = [1, 2, 3].map(|id| Target { id, q: 1_000 });
    let mut forking = Forking::start(targets, Kind::Invite, 2, now());
    assert_eq!(said(&mut forking), ["send 1", "send 2"]);
    forking.handle(Input::Answer { target: 1, status: 486 }, now());
    assert_eq!(said(&mut forking), ["send 3"]);
    let mut none = Forking::start(targets, Kind::Invite, 0, now());
    assert_eq!(said(&mut none), ["440"]);
    assert!(none.is_over());
}

#[test]
fn nobody_there_is_said_and_a_house_that_closes_leaves_nobody_ringing() {
    assert_eq!(said(&mut fork(Kind::Invite, &[])), ["480"]);
    assert_eq!(said(&mut fork(OTHER, &[])), ["480"]);
    let mut closing = fork(Kind::Invite, TWO);
    closing.handle(Input::Leave, now());
    closing.handle(Input::Leave, now());
    assert_eq!(said(&mut closing), ["send 1", "send 2", "503", "cancel 1", "cancel 2"]);
    let mut broken = Forking::broken(&[7]);
    assert_eq!(said(&mut broken), ["500", "cancel 7"]);
    broken.handle(Input::Answer { target: 7, status: 487 }, now());
    assert!(said(&mut broken).is_empty() && broken.is_over());
}

proptest! {
    /// Whatever devices do, the caller of an INVITE hears one final answer that is no 2xx at most, none after it, and one
    /// answer of some kind when all is over.
    #[test]
    fn whatever_happens_there_is_one_outcome(
        qs in prop::collection::vec(0u16..3, 0..5),
        is_invite: bool,
        events in prop::collection::vec((0u32..5, prop::sample::select(vec![0u16, 1, 2, 3, 100, 180, 200, 302, 401, 404, 408, 480, 503, 603])), 0..40),
    ) {
        let kind = if is_invite { Kind::Invite } else { OTHER };
        let targets = qs.iter().zip(0..).map(|(q, id)| Target { id, q: *q });
        let mut forking = Forking::start(targets, kind, 2, now());
        let mut heard = said(&mut forking);
        let ends = (0..5).map(|id| (id, 1)).cycle().take(25);
        for (target, status) in events.into_iter().chain(ends) {
            let input = match status {
                0 => Input::Failed { target },
                1 => Input::Silent { target },
                2 => Input::Cancelled,
                3 => Input::Leave,
                _ => Input::Answer { target, status },
            };
            forking.handle(input, now());
            heard.extend(said(&mut forking));
        }
        prop_assert!(forking.is_over());
        let last = |text: &&String| text.parse::<u16>().is_ok() || text.starts_with("refuse") || *text == "abandon";
        let (refusals, successes) = (heard.iter().filter(last).count(), heard.iter().filter(|text| text.starts_with("succeed")).count());
        prop_assert!(refusals <= 1 && refusals + successes >= 1, "{:?}", heard);
        if !is_invite {
            prop_assert_eq!(refusals + successes, 1);
        }
        for id in 0..5 {
            let sent = format!("send {id}");
            prop_assert!(heard.iter().filter(|text| **text == sent).count() <= 1);
        }
    }
}
