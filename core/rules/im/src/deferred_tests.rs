//! What a mailbox promises, against a store that answers late, fails, and is seen at odd moments.

use super::*;
use base::Aor;
use proptest::prelude::*;

const EXPIRES: u64 = 100_000;

fn now() -> Now {
    Now { at: Instant::now(), unix_ms: 1_000_000 }
}

fn head_until(arrival: u64, expires_unix_s: u64) -> Head {
    let sender = Aor::parse("sip:a@b").unwrap();
    Head { arrival, id: EntryId::of(&sender, &arrival.to_be_bytes(), 1, b"", b""), size: 10, expires_unix_s }
}

fn head(arrival: u64) -> Head {
    head_until(arrival, EXPIRES)
}

fn said(mailbox: &mut Mailbox) -> String {
    let short = |output: Output| match output {
        Output::Load { after, .. } => format!("load {after}"),
        Output::Offer(head) => format!("offer {}", head.arrival),
        Output::Remove(head) => format!("remove {}", head.arrival),
        Output::Fail(head, Why::Expired) => format!("expired {}", head.arrival),
        Output::Fail(head, Why::Refused(status)) => format!("refused {} {status}", head.arrival),
        Output::Queued(queued) => format!("queued {queued}"),
    };
    std::iter::from_fn(|| mailbox.poll_output()).map(short).collect::<Vec<_>>().join(", ")
}

/// A mailbox whose store holds so many letters.
fn holding(count: u32) -> Mailbox {
    Mailbox::new(Quota::default(), Tally { count, bytes: u64::from(count) * 10 })
}

/// What comes out when this goes in.
fn tell(mailbox: &mut Mailbox, input: Input, at: Now) -> String {
    mailbox.handle(input, at);
    said(mailbox)
}

fn ended(arrival: u64, status: u16) -> Input {
    Input::Outcome { arrival, outcome: Outcome::of(status) }
}

/// A mailbox whose user is here, and of which the letters 1 to `count` are in hand, the first one offered.
fn offering(count: u64, at: Now) -> Mailbox {
    let mut mailbox = holding(count as u32);
    assert_eq!(tell(&mut mailbox, Input::Bound, at), "queued true, load 0");
    let heads = (1..=count).map(head).collect();
    assert_eq!(tell(&mut mailbox, Input::Loaded { heads, more: false }, at), "offer 1");
    mailbox
}

fn keep(mailbox: &mut Mailbox, arrival: u64, tried: bool, at: Now) -> String {
    mailbox.admit(10, EXPIRES, tried, at).unwrap();
    tell(mailbox, Input::Kept(head(arrival)), at)
}

#[test]
fn letters_are_handed_out_one_at_a_time_in_the_order_of_their_arrival() {
    let (mut mailbox, at) = (offering(3, now()), now());
    assert_eq!(tell(&mut mailbox, ended(1, 200), at), "remove 1, offer 2");
    assert_eq!(tell(&mut mailbox, ended(2, 202), at), "remove 2, offer 3");
    assert_eq!(tell(&mut mailbox, ended(3, 482), at), "remove 3, queued false", "a 482 means that he has it (D3)");
    for arrival in 1..=3 {
        tell(&mut mailbox, Input::Removed { arrival }, at);
    }
    assert_eq!((mailbox.tally(), mailbox.is_idle()), (Tally::default(), true));
}

#[test]
fn new_messages_queue_from_before_the_mailbox_is_read_until_the_last_letter_is_answered() {
    // decisions D1, D2
    let at = now();
    let mut mailbox = offering(1, at);
    assert_eq!(keep(&mut mailbox, 2, false, at), "");
    assert_eq!(tell(&mut mailbox, ended(1, 200), at), "remove 1, offer 2");
    mailbox.admit(10, EXPIRES, false, at).unwrap();
    assert_eq!(tell(&mut mailbox, ended(2, 200), at), "remove 2", "a commit is under way");
    assert_eq!(tell(&mut mailbox, Input::Kept(head(3)), at), "offer 3");
    assert_eq!(tell(&mut mailbox, ended(3, 200), at), "remove 3, queued false");
}

#[test]
fn an_empty_mailbox_reads_nothing_and_holds_nobody_up() {
    assert_eq!(tell(&mut holding(0), Input::Bound, now()), "");
}

#[test]
fn a_letter_that_is_kept_while_the_user_registers_is_found_in_either_order() {
    // decisions D2
    let at = now();
    let mut before = holding(0);
    assert_eq!(keep(&mut before, 1, false, at), "");
    assert_eq!(tell(&mut before, Input::Bound, at), "queued true, offer 1");
    let mut between = holding(0);
    between.admit(10, EXPIRES, false, at).unwrap();
    assert_eq!(tell(&mut between, Input::Bound, at), "queued true");
    assert_eq!(tell(&mut between, Input::Kept(head(1)), at), "offer 1");
}

#[test]
fn one_that_was_kept_after_a_vain_try_waits_until_the_user_shows_up_or_30_s() {
    // decisions D4
    let at = now();
    let mut mailbox = holding(0);
    assert_eq!(tell(&mut mailbox, Input::Bound, at), "");
    assert_eq!(keep(&mut mailbox, 1, true, at), "queued true");
    assert_eq!(mailbox.poll_timeout(), Some(at.at + LETTER_RETRY_MIN));
    let mut other = holding(0);
    tell(&mut other, Input::Bound, at);
    keep(&mut other, 1, true, at);
    assert_eq!(tell(&mut other, Input::UserActive, at), "offer 1");
    mailbox.handle_timeout(at.later(LETTER_RETRY_MIN));
    assert_eq!(said(&mut mailbox), "offer 1");
}

#[test]
fn who_is_away_is_tried_again_after_30_s_doubling_to_10_min() {
    let mut at = now();
    let mut mailbox = offering(1, at);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_eq!(tell(&mut mailbox, ended(1, 480), at), "");
        let due = mailbox.poll_timeout().unwrap();
        pauses.push((due - at.at).as_secs());
        at = at.later(due - at.at);
        mailbox.handle_timeout(at);
        assert_eq!(said(&mut mailbox), "offer 1");
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
}

#[test]
fn a_new_register_brings_the_next_try_at_once_and_the_short_pause_back() {
    let at = now();
    let mut mailbox = offering(2, at);
    tell(&mut mailbox, ended(1, 503), at);
    assert_eq!(tell(&mut mailbox, Input::Bound, at), "offer 1");
    assert_eq!(tell(&mut mailbox, Input::Bound, at), "", "one is under way");
    assert_eq!(tell(&mut mailbox, ended(1, 408), at), "offer 1", "he has registered since it was sent");
    assert_eq!(tell(&mut mailbox, ended(1, 408), at), "");
    assert_eq!(mailbox.poll_timeout(), Some(at.at + LETTER_RETRY_MIN));
}

#[test]
fn a_refusal_is_the_end_of_a_letter_and_not_of_the_next() {
    let at = now();
    let mut mailbox = offering(2, at);
    assert_eq!(tell(&mut mailbox, ended(1, 415), at), "refused 1 415, offer 2");
    for status in [401, 404, 407, 413, 415, 488, 501, 513, 603, 302] {
        assert_eq!(Outcome::of(status), Outcome::Refused(status));
    }
    for status in [408, 430, 480, 486, 491, 500, 503, 504] {
        assert_eq!(Outcome::of(status), Outcome::Away, "{status}");
    }
}

#[test]
fn a_letter_whose_time_is_over_is_given_up_but_not_while_it_is_under_way() {
    let at = now();
    let mut mailbox = holding(2);
    tell(&mut mailbox, Input::Bound, at);
    let heads = vec![head_until(1, 1_002), head_until(2, 1_003)];
    assert_eq!(tell(&mut mailbox, Input::Loaded { heads, more: false }, at), "offer 1");
    assert_eq!(mailbox.poll_timeout(), Some(at.at + Duration::from_secs(3)));
    let late = at.later(Duration::from_secs(3));
    mailbox.handle_timeout(late);
    assert_eq!(said(&mut mailbox), "expired 2");
    assert_eq!(tell(&mut mailbox, ended(1, 480), late), "expired 1, queued false");
}

#[test]
fn a_letter_that_was_kept_though_the_store_could_not_say_so_is_found() {
    // decisions D22: the outcome of a failed commit is unknown.
    let at = now();
    let mut mailbox = holding(0);
    tell(&mut mailbox, Input::Bound, at);
    mailbox.admit(10, EXPIRES, false, at).unwrap();
    assert_eq!(tell(&mut mailbox, Input::NotKept { size: 10 }, at), "queued true, queued false");
    assert_eq!(tell(&mut mailbox, Input::LookAgain, at), "queued true, load 0");
    assert_eq!(tell(&mut mailbox, Input::Loaded { heads: vec![head(1)], more: false }, at), "offer 1");
    let mut known = offering(2, at);
    assert_eq!(tell(&mut known, Input::LookAgain, at), "load 0");
    let heads = vec![head(1), head(2)];
    assert_eq!(tell(&mut known, Input::Loaded { heads, more: false }, at), "", "what is known is not offered twice");
}

#[test]
fn the_sweep_gives_up_what_is_not_in_hand_and_nothing_twice() {
    let at = now();
    let mut mailbox = holding(2);
    assert_eq!(tell(&mut mailbox, Input::Expired(head(1)), at), "expired 1");
    assert_eq!(tell(&mut mailbox, Input::Expired(head(1)), at), "");
    let mut mailbox = offering(1, at);
    assert_eq!(tell(&mut mailbox, Input::Expired(head(1)), at), "", "the offer decides");
    assert_eq!(tell(&mut mailbox, ended(1, 200), at), "remove 1, queued false");
    tell(&mut mailbox, Input::Removed { arrival: 1 }, at);
    assert_eq!(tell(&mut mailbox, Input::Expired(head(1)), at), "expired 1", "whether it has left, the store knows");
    tell(&mut mailbox, Input::Absent { arrival: 1 }, at);
    assert_eq!((mailbox.tally(), mailbox.is_idle()), (Tally::default(), true));
}

#[test]
fn a_letter_that_no_load_shows_any_more_is_given_up_when_the_sweep_finds_it() {
    // Its time was over before it was read, and letters behind it have been in hand since.
    let at = now();
    let mut mailbox = holding(3);
    assert_eq!(tell(&mut mailbox, Input::Bound, at), "queued true, load 0");
    let heads = vec![head(1), head(3)];
    assert_eq!(tell(&mut mailbox, Input::Loaded { heads, more: false }, at), "offer 1");
    assert_eq!(tell(&mut mailbox, Input::Expired(head_until(2, 1)), at), "expired 2");
    tell(&mut mailbox, Input::Removed { arrival: 2 }, at);
    assert_eq!(mailbox.tally().count, 2);
}

#[test]
fn a_late_2xx_takes_the_letter_back_wherever_it_is() {
    // decisions D4
    let at = now();
    let mut waiting = holding(0);
    keep(&mut waiting, 1, true, at);
    assert_eq!(tell(&mut waiting, Input::TakenBack(head(1)), at), "remove 1");
    let mut offered = offering(1, at);
    assert_eq!(tell(&mut offered, Input::TakenBack(head(1)), at), "");
    assert_eq!(tell(&mut offered, ended(1, 480), at), "remove 1, queued false");
    assert_eq!(tell(&mut holding(9), Input::TakenBack(head(5)), at), "remove 5");
    let mut written = holding(0);
    tell(&mut written, Input::Bound, at);
    written.admit(10, EXPIRES, false, at).unwrap();
    assert_eq!(said(&mut written), "queued true");
    assert_eq!(tell(&mut written, Input::KeptInVain(head(1)), at), "remove 1, queued false", "never offered");
    assert_eq!((written.tally().count, written.pending), (1, Tally::default()));
}

#[test]
fn a_full_mailbox_refuses_and_commits_under_way_count() {
    // O8.8
    let (at, quota) = (now(), Quota { letters_max: 3, bytes_max: 35 });
    let mut mailbox = Mailbox::new(quota, Tally { count: 1, bytes: 10 });
    let refused = |mailbox: &mut Mailbox, size| mailbox.admit(size, EXPIRES, false, at).unwrap_err();
    assert_eq!(refused(&mut mailbox, 26), Refusal::new(480, "Mailbox Full"));
    mailbox.admit(10, EXPIRES, false, at).unwrap();
    mailbox.admit(10, EXPIRES, false, at).unwrap();
    assert_eq!(refused(&mut mailbox, 1).status, 480);
    mailbox.handle(Input::NotKept { size: 10 }, at);
    assert_eq!(mailbox.admit(10, EXPIRES, false, at), Ok(()));
    assert_eq!(mailbox.admit(1, 1_000, false, at), Err(Refusal::new(480, "Message Expired")));
}

#[test]
fn a_long_mailbox_is_read_in_pieces() {
    let at = now();
    let (limit, count) = (LETTERS_IN_HAND_MAX as u64, 3 * LETTERS_IN_HAND_MAX as u64);
    let mut mailbox = holding(count as u32);
    let mut output = tell(&mut mailbox, Input::Bound, at);
    let (mut offered, mut loads) = (Vec::new(), 0);
    while !output.is_empty() {
        let after =
            output.split(", ").find_map(|one| one.strip_prefix("load ")).map(|after| after.parse::<u64>().unwrap());
        let offer =
            output.split(", ").find_map(|one| one.strip_prefix("offer ")).map(|after| after.parse::<u64>().unwrap());
        output.clear();
        if let Some(arrival) = offer {
            offered.push(arrival);
            output = tell(&mut mailbox, Input::Removed { arrival: arrival - 1 }, at);
            output += &format!(", {}", tell(&mut mailbox, ended(arrival, 200), at));
        }
        if let Some(after) = after {
            loads += 1;
            let heads: Vec<Head> = (after + 1..=count).take(limit as usize).map(head).collect();
            let more = heads.last().is_some_and(|last| last.arrival < count);
            output += &format!(", {}", tell(&mut mailbox, Input::Loaded { heads, more }, at));
        }
        assert!(mailbox.hand.len() <= LETTERS_IN_HAND_MAX);
    }
    assert_eq!(offered, (1..=count).collect::<Vec<_>>());
    assert!(loads <= 6, "{loads} loads");
}

#[test]
fn a_store_that_fails_is_asked_again() {
    let at = now();
    let mut mailbox = holding(1);
    tell(&mut mailbox, Input::Bound, at);
    assert_eq!(tell(&mut mailbox, Input::LoadFailed, at), "");
    let later = at.later(mailbox.poll_timeout().unwrap() - at.at);
    mailbox.handle_timeout(later);
    assert_eq!(said(&mut mailbox), "load 0");
    tell(&mut mailbox, Input::Loaded { heads: vec![head(1)], more: false }, later);
    assert_eq!(tell(&mut mailbox, ended(1, 200), later), "remove 1, queued false");
    assert_eq!(tell(&mut mailbox, Input::RemoveFailed { arrival: 1 }, later), "");
    mailbox.handle_timeout(later.later(LETTER_RETRY_MIN));
    assert_eq!((said(&mut mailbox).as_str(), mailbox.is_idle()), ("remove 1", false));
}

#[test]
fn a_read_that_is_older_than_a_removal_brings_nothing_back() {
    let at = now();
    let mut mailbox = offering(1, at);
    tell(&mut mailbox, ended(1, 200), at);
    tell(&mut mailbox, Input::TakenBack(head(7)), at);
    assert_eq!(keep(&mut mailbox, 9, false, at), "queued true, offer 9");
    assert_eq!(keep(&mut mailbox, 8, false, at), "load 7", "a notice out of order: the store is read again");
    tell(&mut mailbox, Input::Removed { arrival: 1 }, at);
    tell(&mut mailbox, Input::Removed { arrival: 7 }, at);
    assert_eq!(tell(&mut mailbox, Input::Loaded { heads: vec![head(7), head(8), head(9)], more: false }, at), "");
    assert_eq!(tell(&mut mailbox, ended(9, 200), at), "remove 9, offer 8");
}

/// The store and the wires around a mailbox, with everything under way at once.
#[derive(Default)]
struct World {
    mailbox: Option<Mailbox>,
    store: BTreeMap<u64, Head>,
    committing: VecDeque<Head>,
    /// Durable, and not yet told.
    notices: VecDeque<Head>,
    told: std::collections::BTreeSet<u64>,
    reads: VecDeque<(Vec<Head>, bool)>,
    removals: VecDeque<u64>,
    offered: Option<u64>,
    ends: BTreeMap<u64, &'static str>,
    queued: bool,
    bound: bool,
    arrivals: u64,
    /// Notices come in any order; then the order of letters is not promised, all else is.
    shuffled: bool,
}

impl World {
    fn new(stored: u64, shuffled: bool, at: Now) -> Self {
        let store: BTreeMap<u64, Head> = (1..=stored).map(|n| (n, head_until(n, at.unix_s() + 20 + n % 50))).collect();
        let tally = Tally { count: stored as u32, bytes: stored * 10 };
        let told = (1..=stored).collect();
        Self {
            mailbox: Some(Mailbox::new(Quota::default(), tally)),
            store,
            told,
            arrivals: stored,
            shuffled,
            ..Self::default()
        }
    }

    fn input(&mut self, input: Input, at: Now) {
        let mut mailbox = self.mailbox.take().unwrap();
        mailbox.handle(input, at);
        self.drain(&mut mailbox);
        self.mailbox = Some(mailbox);
    }

    fn drain(&mut self, mailbox: &mut Mailbox) {
        while let Some(output) = mailbox.poll_output() {
            match output {
                Output::Load { after, limit } => {
                    assert!(self.reads.is_empty(), "two loads at once");
                    let heads: Vec<Head> = self.store.range(after + 1..).map(|(_, head)| *head).take(limit).collect();
                    let more = heads.last().is_some_and(|last| self.store.range(last.arrival + 1..).next().is_some());
                    self.reads.push_back((heads, more));
                }
                Output::Offer(head) => {
                    assert!(self.bound && self.offered.replace(head.arrival).is_none(), "two offers at once");
                    assert!(!self.ends.contains_key(&head.arrival), "{} was offered after its end", head.arrival);
                    let first = self
                        .store
                        .keys()
                        .find(|arrival| self.told.contains(arrival) && !self.ends.contains_key(arrival));
                    assert!(self.shuffled || first == Some(&head.arrival), "out of order: {head:?} before {first:?}");
                }
                Output::Remove(head) => self.end(head.arrival, "removed"),
                Output::Fail(head, _) => self.end(head.arrival, "failed"),
                Output::Queued(queued) => {
                    assert_ne!(self.queued, queued, "said twice");
                    self.queued = queued;
                }
            }
        }
        let waits = self.store.keys().any(|arrival| self.told.contains(arrival) && !self.ends.contains_key(arrival));
        assert!(!self.bound || !waits || self.queued, "something waits, and new messages may pass it");
    }

    fn end(&mut self, arrival: u64, how: &'static str) {
        let before = self.ends.insert(arrival, how);
        assert!(
            before.is_none_or(|before| before == how && self.store.contains_key(&arrival)),
            "{arrival} ended twice"
        );
        self.removals.push_back(arrival);
    }

    fn step(&mut self, what: u8, detail: u8, at: Now) {
        match what {
            0 => {
                self.bound = true;
                self.input(Input::Bound, at);
            }
            1 => {
                self.bound = false;
                self.input(Input::Unbound, at);
            }
            2 => self.input(Input::UserActive, at),
            3 | 4 => self.admit(detail, at),
            5 => self.notices.extend(self.committing.pop_front().inspect(|head| {
                self.store.insert(head.arrival, *head);
            })),
            6 => {
                let notice = if self.shuffled && detail.is_multiple_of(2) {
                    self.notices.pop_back()
                } else {
                    self.notices.pop_front()
                };
                if let Some(head) = notice {
                    self.told.insert(head.arrival);
                    self.input(Input::Kept(head), at);
                }
            }
            7 => {
                if let Some((heads, more)) = self.reads.pop_front() {
                    let input =
                        if detail.is_multiple_of(8) { Input::LoadFailed } else { Input::Loaded { heads, more } };
                    if let Input::Loaded { heads, .. } = &input {
                        self.told.extend(heads.iter().map(|head| head.arrival));
                    }
                    self.input(input, at);
                }
            }
            8 | 9 => {
                if let Some(arrival) = self.offered.take() {
                    let outcome = Outcome::of([200, 200, 482, 480, 503, 415][usize::from(detail % 6)]);
                    self.input(Input::Outcome { arrival, outcome }, at);
                }
            }
            10 => {
                if let Some(arrival) = self.removals.pop_front() {
                    if detail.is_multiple_of(8) {
                        self.input(Input::RemoveFailed { arrival }, at);
                    } else {
                        self.store.remove(&arrival);
                        self.input(Input::Removed { arrival }, at);
                    }
                }
            }
            11 => {
                let here = self
                    .store
                    .values()
                    .filter(|head| self.told.contains(&head.arrival) && !self.ends.contains_key(&head.arrival));
                let here: Vec<Head> = here.copied().collect();
                if let Some(head) = here.get(usize::from(detail) % here.len().max(1)) {
                    self.input(Input::TakenBack(*head), at);
                }
            }
            _ => {
                let found = self
                    .store
                    .values()
                    .find(|head| is_over(head.expires_unix_s, at) && self.told.contains(&head.arrival))
                    .copied();
                if let Some(head) = found {
                    self.input(Input::Expired(head), at);
                }
            }
        }
        let mut mailbox = self.mailbox.take().unwrap();
        mailbox.handle_timeout(at);
        self.drain(&mut mailbox);
        assert!(mailbox.hand.len() <= LETTERS_IN_HAND_MAX);
        assert!(mailbox.poll_timeout().is_none_or(|due| due > at.at), "a timer that never ends");
        self.mailbox = Some(mailbox);
    }

    fn admit(&mut self, detail: u8, at: Now) {
        let mut mailbox = self.mailbox.take().unwrap();
        let expires = at.unix_s() + 1 + u64::from(detail);
        mailbox.admit(10, expires, detail.is_multiple_of(2), at).unwrap();
        self.drain(&mut mailbox);
        self.mailbox = Some(mailbox);
        if detail.is_multiple_of(8) {
            self.input(Input::NotKept { size: 10 }, at);
        } else {
            self.arrivals += 1;
            self.committing.push_back(head_until(self.arrivals, expires));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_letter_ends_once_in_order_and_is_never_offered_twice_at_once(
        stored in 0u64..50,
        shuffled in any::<bool>(),
        steps in proptest::collection::vec((0u8..13, any::<u8>(), 0u64..4_000), 0..200)
    ) {
        let mut at = now();
        let mut world = World::new(stored, shuffled, at);
        for (what, detail, pause) in steps {
            at = at.later(Duration::from_millis(pause));
            world.step(what, detail, at);
        }
        // Now everything works: nothing is left, and nobody queues.
        for _ in 0..1_000 {
            at = at.later(Duration::from_secs(1));
            for (what, detail) in [(0, 1), (5, 1), (6, 1), (7, 1), (8, 0), (10, 1)] {
                world.step(what, detail, at);
            }
        }
        prop_assert_eq!(&world.store, &BTreeMap::new());
        prop_assert_eq!(world.ends.len() as u64, world.arrivals);
        let mailbox = world.mailbox.unwrap();
        prop_assert_eq!((mailbox.tally(), mailbox.pending), (Tally::default(), Tally::default()));
        prop_assert!(mailbox.is_idle() && !world.queued);
    }
}
