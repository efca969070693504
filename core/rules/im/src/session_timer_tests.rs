//! What is agreed of session timers, and what becomes of who keeps to it or not.

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy { wanted_s: 1_800, least_s: 120 };

fn asks(seconds: Option<u32>, refresher: Option<Role>, is_supported: bool) -> Asked {
    Asked { expires: seconds.map(|seconds| SessionExpires { seconds, refresher }), min_s: 90, is_supported }
}

fn terms(interval_s: u32, refresher: Refresher) -> Terms {
    Terms { interval_s, refresher }
}

use Refresher::{Them, Us};

#[test]
fn who_refreshes_is_as_table_2_says() {
    // RFC 4028 §9, Table 2.
    for (is_supported, asked, given) in [
        (false, None, Us),
        (false, Some(Role::Uas), Us),
        (true, None, Them),
        (true, Some(Role::Uac), Them),
        (true, Some(Role::Uas), Us),
    ] {
        let answer = asks(Some(600), asked, is_supported).answer(POLICY, None);
        assert_eq!(answer, Ok(Some(terms(600, given))), "{is_supported} {asked:?}");
    }
}

#[test]
fn an_interval_is_kept_or_refused_and_never_raised() {
    // RFC 4028 §9: neither raised nor below the least; 422 only for who knows timers (§8.1).
    let answer = |seconds, is_supported| asks(Some(seconds), None, is_supported).answer(POLICY, None);
    assert_eq!(answer(119, true), Err(120));
    assert_eq!(answer(120, true), Ok(Some(terms(120, Them))));
    assert_eq!(answer(u32::MAX, true), Ok(Some(terms(u32::MAX, Them))));
    assert_eq!(answer(119, false), Ok(Some(terms(119, Us))));
    assert_eq!(answer(89, false), Ok(None));
}

#[test]
fn who_only_knows_timers_gets_ours_and_who_does_not_gets_none() {
    let quiet = Policy { wanted_s: 0, ..POLICY };
    assert_eq!(asks(None, None, true).answer(POLICY, None), Ok(Some(terms(1_800, Them))));
    assert_eq!(asks(None, None, true).answer(quiet, None), Ok(None));
    assert_eq!(asks(None, None, false).answer(POLICY, None), Ok(None));
    // RFC 4028 §9: not below their Min-SE.
    let careful = Asked { min_s: 4_000, ..asks(None, None, true) };
    assert_eq!(careful.answer(POLICY, None), Ok(Some(terms(4_000, Them))));
}

#[test]
fn in_a_dialog_roles_and_interval_stay_unless_somebody_changes_them() {
    let current = Some(terms(600, Us));
    assert_eq!(asks(None, None, true).answer(POLICY, current), Ok(Some(terms(600, Us))));
    assert_eq!(asks(Some(700), None, true).answer(POLICY, current), Ok(Some(terms(700, Us))));
    assert_eq!(asks(Some(700), Some(Role::Uac), true).answer(POLICY, current), Ok(Some(terms(700, Them))));
    assert_eq!(asks(None, None, false).answer(POLICY, current), Ok(None));
}

#[test]
fn a_policy_never_asks_for_less_than_the_least() {
    let policy = |wanted, least| Policy::new(Duration::from_secs(wanted), Duration::from_secs(least));
    assert_eq!(policy(1_800, 10), Policy { wanted_s: 1_800, least_s: 90 });
    assert_eq!(policy(100, 300), Policy { wanted_s: 300, least_s: 300 });
    assert_eq!(policy(0, 300), Policy { wanted_s: 0, least_s: 300 });
}

/// A machine and its clock.
struct Play {
    timer: SessionTimer,
    began: Instant,
    now: Instant,
}

impl Play {
    fn new(interval_s: u32, refresher: Refresher) -> Self {
        let now = Instant::now();
        let mut play = Self { timer: SessionTimer::default(), began: now, now };
        play.hear(Input::Agreed(Some(terms(interval_s, refresher))));
        play
    }

    fn hear(&mut self, input: Input) -> Option<Output> {
        self.timer.handle(input, self.now);
        self.timer.poll_output()
    }

    /// What is said until then, each with its second.
    fn until(&mut self, s: u64) -> Vec<(u64, Output)> {
        let (until, mut all) = (self.began + Duration::from_secs(s), Vec::new());
        while let Some(due) = self.timer.poll_timeout().filter(|due| *due <= until) {
            self.now = due;
            self.timer.handle_timeout(due);
            let output = self.timer.poll_output().expect("it asks to be woken only to say something");
            all.push(((due - self.began).as_secs(), output));
        }
        self.now = until;
        all
    }
}

fn refresh(interval_s: u32) -> Output {
    Output::Refresh { interval_s, min_s: None }
}

fn refused(status: u16) -> Input {
    Input::Refused { status, min_s: None, wait: Duration::from_secs(3) }
}

#[test]
fn we_refresh_at_half_the_interval_again_and_again() {
    // RFC 4028 §7.2.
    let mut play = Play::new(600, Us);
    assert_eq!(play.until(400), [(300, refresh(600))]);
    assert_eq!(play.hear(Input::Agreed(Some(terms(600, Us)))), None);
    assert_eq!(play.until(800), [(700, refresh(600))]);
    assert_eq!(play.hear(Input::Agreed(None)), None, "turned off (§7.2)");
    assert_eq!((play.until(99_000), play.timer.terms()), (vec![], None));
}

#[test]
fn a_peer_that_does_not_refresh_is_given_up_shortly_before_the_end() {
    // RFC 4028 §10: the lesser of 32 seconds and a third of the interval.
    assert_eq!(Play::new(600, Them).until(99_000), [(568, Output::Lapsed)]);
    assert_eq!(Play::new(90, Them).until(99_000), [(60, Output::Lapsed)]);
    let mut kept = Play::new(600, Them);
    assert_eq!(kept.until(500), []);
    assert_eq!(kept.hear(Input::Agreed(Some(terms(600, Them)))), None);
    assert_eq!(kept.until(99_000), [(1_068, Output::Lapsed)]);
}

#[test]
fn a_refresh_that_nobody_answers_or_whose_dialog_is_gone_is_the_end() {
    // RFC 4028 §10.
    for input in [Input::Unanswered, refused(408), refused(481)] {
        let mut play = Play::new(600, Us);
        assert_eq!(play.until(300), [(300, refresh(600))]);
        assert_eq!(play.hear(input), Some(Output::Lapsed), "{input:?}");
        assert_eq!(play.until(99_000), []);
    }
}

#[test]
fn a_refusal_is_followed_as_it_says() {
    // RFC 4028 §7.3, §7.4: with the Min-SE that was asked for; and the end has not moved (§10).
    let mut play = Play::new(600, Us);
    play.until(300);
    let too_small = Input::Refused { status: 422, min_s: Some(900), wait: Duration::ZERO };
    assert_eq!(play.hear(too_small), Some(Output::Refresh { interval_s: 900, min_s: Some(900) }));
    assert_eq!(play.hear(too_small), None, "not the same again at once");
    // RFC 3261 §14.1.
    let mut play = Play::new(600, Us);
    play.until(300);
    assert_eq!(play.hear(refused(491)), None);
    assert_eq!(play.until(400), [(303, refresh(600))]);
    // A method that is not known there: at once, by another one.
    let mut play = Play::new(600, Us);
    play.until(300);
    assert_eq!(play.hear(Input::Unknown), Some(refresh(600)));
    // Anything else: not continuously, and then the session expires.
    let mut play = Play::new(600, Us);
    let mut said = play.until(300);
    for at in [435, 502, 535, 552] {
        assert_eq!(play.hear(refused(500)), None);
        said.extend(play.until(at));
    }
    assert_eq!(play.hear(refused(500)), None);
    said.extend(play.until(99_000));
    let times: Vec<u64> = said.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [300, 434, 501, 535, 551, 568]);
    assert_eq!(said.last(), Some(&(568, Output::Lapsed)));
}

#[test]
fn a_min_se_of_the_other_end_is_minded() {
    // RFC 4028 §7.4.
    let mut play = Play::new(600, Us);
    play.hear(Input::Least(1_000));
    play.hear(Input::Least(200));
    assert_eq!(play.until(300), [(300, Output::Refresh { interval_s: 1_000, min_s: Some(1_000) })]);
}

fn any_input() -> impl Strategy<Value = Input> {
    let terms = (90u32..2_000, any::<bool>())
        .prop_map(|(interval_s, us)| Terms { interval_s, refresher: if us { Us } else { Them } });
    prop_oneof![
        proptest::option::of(terms).prop_map(Input::Agreed),
        (90u32..5_000).prop_map(Input::Least),
        (300u16..700, proptest::option::of(90u32..5_000), 0u64..5)
            .prop_map(|(status, min_s, wait)| { Input::Refused { status, min_s, wait: Duration::from_secs(wait) } }),
        Just(Input::Unknown),
        Just(Input::Unanswered),
    ]
}

proptest! {
    /// Whatever the other end says and when: it rests for ever as soon as nobody agrees on anything any more, and never
    /// asks to be woken for nothing.
    #[test]
    fn every_timer_comes_to_rest(steps in proptest::collection::vec((any_input(), 0u64..2_000), 0..30)) {
        let mut play = Play::new(600, Us);
        let mut s = 0;
        for (input, wait) in steps {
            s += wait;
            play.until(s);
            play.hear(input);
        }
        let rest = play.until(s + 10_000);
        prop_assert!(rest.len() <= 2, "{rest:?}");
        prop_assert!(play.timer.poll_timeout().is_none() && play.timer.terms().is_none());
    }
}
