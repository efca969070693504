//! The mailbox of one user: when a message is kept, when it is handed out, when it is given up (decisions D1 to D4).
//!
//! ```text
//!                  ┌──────────────── away: again after 30 s, doubling, or when the user shows up ───┐
//!                  v                                                                                │
//! store ──Load──> in hand (a few, by arrival) ──Offer, one at a time──> offered ──┬─ delivered ─> Remove ─┐
//! Kept ───────────^        └── time over ───────────────────────────┐             ├─ refused ───> Fail ───┤
//!                                                                   └─────────────┴─────────────> Fail ───┤
//!                                                                            until Removed: leaving <─────┘
//! ```
//!
//! Only heads of letters are held, and few: the others stay in the store and are loaded as these leave. Letters leave by
//! exactly one of Remove and Fail. While anything waits and a binding stands, new messages queue behind it (D1).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use base::Now;
use base::limits::{
    LETTER_BYTES_PER_USER_MAX, LETTER_RETRY_MAX, LETTER_RETRY_MIN, LETTERS_IN_HAND_MAX, LETTERS_PER_USER_MAX,
};

use crate::entry::{EntryId, is_over};
use crate::pager::is_away;
use crate::refusal::Refusal;

/// A store that could not be read is most often only busy.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// As much of a letter as its mailbox needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its place in the order (D2): rises within a mailbox, never used twice.
    pub arrival: u64,
    /// Which message it is.
    pub id: EntryId,
    /// Octets that it counts for.
    pub size: u64,
    /// From this second on, since 1970, it is not delivered any more.
    pub expires_unix_s: u64,
}

/// How many letters a mailbox holds, and how large they are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Letters.
    pub count: u32,
    /// Octets.
    pub bytes: u64,
}

/// What the operator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Letters that wait for one user.
    pub letters_max: u32,
    /// Their octets together.
    pub bytes_max: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { letters_max: LETTERS_PER_USER_MAX, bytes_max: LETTER_BYTES_PER_USER_MAX }
    }
}

/// How an offer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its receiver has it.
    Delivered,
    /// Its receiver will not have it: this status.
    Refused(u16),
    /// Its receiver cannot take it now.
    Away,
    /// It is not in the store any more: somebody else took it out.
    Gone,
}

impl Outcome {
    /// From the final status of the receiver. 482 says that he has it already (D3: a repeat keeps its ids). What is
    /// absence, a fault on his side that may pass, or other business of his at the moment, is tried again; all else is
    /// his refusal.
    pub fn of(status: u16) -> Self {
        match status {
            200..300 | 482 => Self::Delivered,
            486 | 491 | 500 | 502 | 504 => Self::Away,
            away if is_away(away) => Self::Away,
            refused => Self::Refused(refused),
        }
    }
}

/// Why a letter is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its time is over.
    Expired,
    /// Its receiver refused it with this status.
    Refused(u16),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A binding stands: made, renewed, or found at the start. Say it before new messages can see the binding (D2).
    Bound,
    /// No binding stands any more.
    Unbound,
    /// A request of the user's own came.
    UserActive,
    /// The store's answer to [`Output::Load`]: the letters behind that arrival, in order.
    Loaded {
        /// Their heads.
        heads: Vec<Head>,
        /// Whether there are more behind them.
        more: bool,
    },
    /// The store could not answer [`Output::Load`].
    LoadFailed,
    /// A letter that [`Mailbox::admit`] let in is durable.
    Kept(Head),
    /// The same, and its first receiver has it meanwhile (a late 2xx): it leaves without being offered.
    KeptInVain(Head),
    /// A letter that was let in was a repeat of one that is kept, or could not be kept: its place is free again.
    NotKept {
        /// As it was let in.
        size: u64,
    },
    /// The store may hold a letter that was never said to be kept: a commit ended without saying whether it lasts, or a
    /// repeat was found of one that nobody here knows.
    LookAgain,
    /// How the offer of this letter ended.
    Outcome {
        /// Which letter.
        arrival: u64,
        /// How.
        outcome: Outcome,
    },
    /// A letter's first receiver has it after all (a late 2xx). Only after its [`Input::Kept`].
    TakenBack(Head),
    /// The sweep of the store found a letter whose time is over. Loads do not show such letters, so nobody but the store
    /// knows whether it has left: it is given up again, and the store says [`Input::Absent`] if it had.
    Expired(Head),
    /// A letter that was removed or given up is out of the store, durably.
    Removed {
        /// Which one.
        arrival: u64,
    },
    /// The store had it no more when it was to be removed: it had left before.
    Absent {
        /// Which one.
        arrival: u64,
    },
    /// It could not be taken out of the store.
    RemoveFailed {
        /// Which one.
        arrival: u64,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Read heads behind this arrival, at most so many.
    Load {
        /// Behind which.
        after: u64,
        /// How many.
        limit: usize,
    },
    /// Deliver this letter to the user's contacts, and say the outcome.
    Offer(Head),
    /// Take it out of the store: its receiver has it.
    Remove(Head),
    /// Take it out of the store, and tell its sender if he asked. One that the store has not is Absent, and owes nothing.
    Fail(Head, Why),
    /// Whether new messages must queue behind what waits (flag QUEUED, D1).
    Queued(bool),
}

/// A letter that has left, until the store says so.
#[derive(Debug)]
struct Leaving {
    head: Head,
    why: Option<Why>,
    /// Out of the store; remembered only because a load is under way that may have seen it before.
    gone: bool,
    /// When to ask the store again.
    again: Option<Instant>,
}

/// Whether the store is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loading {
    No,
    /// From behind this arrival.
    After(u64),
    /// The store failed; from behind this arrival, then.
    Later(u64, Instant),
}

/// The machine of one user's letters.
#[derive(Debug)]
pub struct Mailbox {
    quota: Quota,
    /// Letters and octets in the store. Below nothing for a moment when a letter leaves before its Kept is heard.
    count: i64,
    bytes: i64,
    /// Let in, and not yet known to be kept.
    pending: Tally,
    bound: bool,
    hand: BTreeMap<u64, Head>,
    offered: Option<Head>,
    /// The offered letter was taken back meanwhile.
    taken_back: bool,
    leaving: BTreeMap<u64, Leaving>,
    loading: Loading,
    /// Behind this arrival the store may hold letters that are not in hand.
    unread: Option<u64>,
    /// The highest arrival that was ever in hand.
    newest: u64,
    pause: Duration,
    /// Not before this is the next letter offered.
    wait: Option<Instant>,
    /// The user showed up while a letter was under way: if it fails, it is offered again at once.
    again: bool,
    queued: bool,
    clock: Option<Now>,
    outputs: VecDeque<Output>,
}

impl Mailbox {
    /// A mailbox of which the store holds so much.
    pub fn new(quota: Quota, tally: Tally) -> Self {
        Self {
            quota,
            count: i64::from(tally.count),
            bytes: signed(tally.bytes),
            pending: Tally::default(),
            bound: false,
            hand: BTreeMap::new(),
            offered: None,
            taken_back: false,
            leaving: BTreeMap::new(),
            loading: Loading::No,
            unread: (tally.count > 0).then_some(0),
            newest: 0,
            pause: LETTER_RETRY_MIN,
            wait: None,
            again: false,
            queued: false,
            clock: None,
            outputs: VecDeque::new(),
        }
    }

    /// Whether a message of this size may be kept: then its place is taken, and [`Input::Kept`] or [`Input::NotKept`]
    /// must follow. `tried` says that a contact was tried just now in vain: the next try waits a while.
    /// 480 when the mailbox is full (O8.8), or when the message is stale already.
    pub fn admit(&mut self, size: u64, expires_unix_s: u64, tried: bool, now: Now) -> Result<(), Refusal> {
        if is_over(expires_unix_s, now) {
            return Err(Refusal::new(480, "Message Expired"));
        }
        let tally = self.tally();
        let count = tally.count.saturating_add(self.pending.count);
        let bytes = tally.bytes.saturating_add(self.pending.bytes).saturating_add(size);
        if count >= self.quota.letters_max || bytes > self.quota.bytes_max {
            return Err(Refusal::new(480, "Mailbox Full"));
        }
        self.pending.count += 1;
        self.pending.bytes += size;
        if tried && self.wait.is_none() && self.offered.is_none() {
            self.back_off(now);
        }
        self.go_on(now);
        Ok(())
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Bound => {
                self.bound = true;
                self.pause = LETTER_RETRY_MIN;
                self.try_at_once();
            }
            Input::Unbound => self.bound = false,
            Input::UserActive => self.try_at_once(),
            Input::Loaded { heads, more } => self.loaded(heads, more),
            Input::LoadFailed => {
                if let Loading::After(after) = self.loading {
                    self.loading = Loading::Later(after, now.at + READ_AGAIN);
                }
            }
            Input::Kept(head) => {
                self.count_kept(head);
                self.kept(head);
            }
            Input::KeptInVain(head) => {
                self.count_kept(head);
                if self.is_known(head.arrival) { self.take_out(head, None) } else { self.leave(head, None) }
            }
            Input::NotKept { size } => self.settle_pending(size),
            Input::LookAgain => self.read_behind(0),
            Input::Outcome { arrival, outcome } => self.ended(arrival, outcome, now),
            Input::TakenBack(head) => self.take_out(head, None),
            Input::Expired(head) => self.take_out(head, Some(Why::Expired)),
            Input::Removed { arrival } => self.removed(arrival, true),
            Input::Absent { arrival } => self.removed(arrival, false),
            Input::RemoveFailed { arrival } => {
                if let Some(leaving) = self.leaving.get_mut(&arrival) {
                    leaving.again = Some(now.at + LETTER_RETRY_MIN);
                }
            }
        }
        self.go_on(now);
    }

    /// What is to be done next; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Mailbox::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let clock = self.clock?;
        let at_unix_s = |second: u64| {
            let left_ms = second.saturating_mul(1_000).saturating_sub(clock.unix_ms);
            clock.at.checked_add(Duration::from_millis(left_ms))
        };
        let expiry = self.hand.values().map(|head| head.expires_unix_s).min().and_then(at_unix_s);
        let retry = self.wait.filter(|_| self.bound && self.offered.is_none() && !self.hand.is_empty());
        let load = if let Loading::Later(_, due) = self.loading { Some(due) } else { None };
        let removal = self.leaving.values().filter_map(|leaving| leaving.again).min();
        [expiry, retry, load, removal].into_iter().flatten().min()
    }

    /// Looks at what has become of the time.
    pub fn handle_timeout(&mut self, now: Now) {
        self.go_on(now);
    }

    /// How much it holds, as far as the store has said.
    pub fn tally(&self) -> Tally {
        let count = u32::try_from(self.count.max(0)).unwrap_or(u32::MAX);
        Tally { count, bytes: u64::try_from(self.bytes).unwrap_or(0) }
    }

    /// Whether it would miss nothing if it were forgotten now and made again when it is needed: the store knows all.
    pub fn is_idle(&self) -> bool {
        let quiet = self.offered.is_none() && self.pending.count == 0 && !matches!(self.loading, Loading::After(_));
        quiet && self.leaving.values().all(|leaving| leaving.gone) && !(self.bound && self.anything_waits())
    }

    fn anything_waits(&self) -> bool {
        let unread = self.unread.is_some() || self.loading != Loading::No;
        !self.hand.is_empty() || self.offered.is_some() || self.pending.count > 0 || unread
    }

    fn try_at_once(&mut self) {
        self.wait = None;
        self.again = self.offered.is_some();
    }

    fn count_kept(&mut self, head: Head) {
        self.settle_pending(head.size);
        self.count += 1;
        self.bytes += signed(head.size);
    }

    fn settle_pending(&mut self, size: u64) {
        self.pending.count = self.pending.count.saturating_sub(1);
        self.pending.bytes = self.pending.bytes.saturating_sub(size);
    }

    /// Whether this letter is in hand, offered, or leaving: whoever keeps it whole need not keep others.
    pub fn holds(&self, arrival: u64) -> bool {
        self.is_known(arrival)
    }

    fn is_known(&self, arrival: u64) -> bool {
        let offered = self.offered.is_some_and(|head| head.arrival == arrival);
        offered || self.hand.contains_key(&arrival) || self.leaving.contains_key(&arrival)
    }

    /// Takes it in hand when all before it are there; else the store is read from there, once more if need be (D2).
    /// A notice may come late, when a load has shown the letter and it has even left again: only the store knows then.
    fn kept(&mut self, head: Head) {
        let next = head.arrival > self.newest && self.unread_from().is_none();
        if next && self.hand.len() < LETTERS_IN_HAND_MAX {
            self.take_in_hand(head);
        } else if !self.is_known(head.arrival) {
            self.read_behind(head.arrival.saturating_sub(1));
        }
    }

    fn take_in_hand(&mut self, head: Head) {
        self.newest = self.newest.max(head.arrival);
        self.hand.insert(head.arrival, head);
    }

    fn read_behind(&mut self, arrival: u64) {
        self.unread = Some(self.unread.map_or(arrival, |unread| unread.min(arrival)));
    }

    /// Behind this arrival there may be letters that are not in hand.
    fn unread_from(&self) -> Option<u64> {
        let loading = match self.loading {
            Loading::No => None,
            Loading::After(after) | Loading::Later(after, _) => Some(after),
        };
        [self.unread, loading].into_iter().flatten().min()
    }

    fn loaded(&mut self, heads: Vec<Head>, more: bool) {
        if !matches!(self.loading, Loading::After(_)) {
            return;
        }
        self.loading = Loading::No;
        if let Some(last) = heads.last().filter(|_| more) {
            self.read_behind(last.arrival);
        }
        // What was read may be older than a removal: such letters are still known to be leaving.
        for head in heads {
            if !self.is_known(head.arrival) {
                self.take_in_hand(head);
            }
        }
        self.leaving.retain(|_, leaving| !leaving.gone);
        while self.hand.len() > LETTERS_IN_HAND_MAX {
            self.hand.pop_last();
            if let Some(last) = self.hand.keys().next_back().copied() {
                self.read_behind(last);
            }
        }
    }

    fn ended(&mut self, arrival: u64, outcome: Outcome, now: Now) {
        let Some(head) = self.offered.take_if(|head| head.arrival == arrival) else { return };
        let taken_back = std::mem::take(&mut self.taken_back);
        let again = std::mem::take(&mut self.again);
        match outcome {
            Outcome::Gone => self.forget(head),
            Outcome::Delivered => self.leave(head, None),
            _ if taken_back => self.leave(head, None),
            Outcome::Refused(status) => self.leave(head, Some(Why::Refused(status))),
            Outcome::Away => {
                self.hand.insert(arrival, head);
                if !again {
                    self.back_off(now);
                }
                return;
            }
        }
        // He is there: the next one at once.
        self.pause = LETTER_RETRY_MIN;
    }

    fn back_off(&mut self, now: Now) {
        self.wait = Some(now.at + self.pause);
        self.pause = (self.pause * 2).min(LETTER_RETRY_MAX);
    }

    /// A letter that ended in another way than by an offer.
    fn take_out(&mut self, head: Head, why: Option<Why>) {
        let arrival = head.arrival;
        if self.offered.is_some_and(|offered| offered.arrival == arrival) {
            // The offer under way decides; but it cannot fail any more.
            self.taken_back |= why.is_none();
        } else if self.hand.remove(&arrival).is_some()
            || !self.leaving.contains_key(&arrival) && (why.is_some() || !self.has_left(arrival))
        {
            self.leave(head, why);
        }
    }

    /// Whether a letter that is not known any more was known once.
    fn has_left(&self, arrival: u64) -> bool {
        arrival <= self.newest && self.unread_from().is_none_or(|unread| arrival <= unread)
    }

    fn leave(&mut self, head: Head, why: Option<Why>) {
        self.leaving.insert(head.arrival, Leaving { head, why, gone: false, again: None });
        self.outputs.push_back(why.map_or(Output::Remove(head), |why| Output::Fail(head, why)));
    }

    fn removed(&mut self, arrival: u64, was_there: bool) {
        let Some(leaving) = self.leaving.get_mut(&arrival).filter(|leaving| !leaving.gone) else { return };
        leaving.gone = true;
        leaving.again = None;
        let head = leaving.head;
        if !matches!(self.loading, Loading::After(_)) {
            self.leaving.remove(&arrival);
        }
        if was_there {
            self.forget(head);
        }
    }

    fn forget(&mut self, head: Head) {
        self.count -= 1;
        self.bytes -= signed(head.size);
    }

    /// After every input: what time has brought, the flag, then the store, then the next letter.
    fn go_on(&mut self, now: Now) {
        self.clock = Some(now);
        self.expire(now);
        if let Loading::Later(after, due) = self.loading
            && due <= now.at
        {
            self.loading = Loading::No;
            self.read_behind(after);
        }
        if !self.anything_waits() {
            (self.wait, self.pause) = (None, LETTER_RETRY_MIN);
        }
        self.wait = self.wait.filter(|due| *due > now.at);
        let queued = self.bound && self.anything_waits();
        if queued != self.queued {
            self.queued = queued;
            self.outputs.push_back(Output::Queued(queued));
        }
        if self.bound {
            self.load();
            self.offer();
        }
    }

    fn expire(&mut self, now: Now) {
        for leaving in self.leaving.values_mut().filter(|leaving| leaving.again.is_some_and(|due| due <= now.at)) {
            leaving.again = None;
            let head = leaving.head;
            self.outputs.push_back(leaving.why.map_or(Output::Remove(head), |why| Output::Fail(head, why)));
        }
        let over: Vec<Head> = self.hand.values().filter(|head| is_over(head.expires_unix_s, now)).copied().collect();
        for head in over {
            self.hand.remove(&head.arrival);
            self.leave(head, Some(Why::Expired));
        }
    }

    /// Reads on when little is in hand, and before a letter would pass one that was not read.
    fn load(&mut self) {
        let Some(after) = self.unread.filter(|_| self.loading == Loading::No) else { return };
        let first = self.hand.keys().next().copied();
        if self.hand.len() * 2 < LETTERS_IN_HAND_MAX || first.is_none_or(|first| first > after) {
            self.unread = None;
            self.loading = Loading::After(after);
            self.outputs.push_back(Output::Load { after, limit: LETTERS_IN_HAND_MAX });
        }
    }

    fn offer(&mut self) {
        let leaving = self.leaving.values().filter(|leaving| !leaving.gone).count();
        if self.offered.is_some() || self.wait.is_some() || leaving >= LETTERS_IN_HAND_MAX {
            return;
        }
        let unread = self.unread_from();
        let next = self.hand.first_entry().filter(|first| unread.is_none_or(|unread| *first.key() <= unread));
        if let Some(first) = next {
            let head = first.remove();
            self.offered = Some(head);
            self.outputs.push_back(Output::Offer(head));
        }
    }
}

fn signed(octets: u64) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "deferred_tests.rs"]
mod tests;
