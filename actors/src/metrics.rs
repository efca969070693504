//! What the house counts: each shard in its own turn, summed into shared atomics once a turn.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything that is counted. The order is that of [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Requests that entered.
    Requests,
    /// Responses that entered.
    Responses,
    /// Datagrams and frames that are no SIP, dropped.
    Garbage,
    /// Requests refused as malformed (400, 413, 505 …).
    Malformed,
    /// Challenges sent.
    Challenged,
    /// Credentials that were wrong.
    AuthFailed,
    /// Requests repeated by their senders, absorbed.
    Repeats,
    /// Responses that fit no transaction, dropped.
    Strays,
    /// Requests of ours that could not be delivered.
    Unreachable,
    /// Page messages relayed to a contact.
    Relayed,
    /// Final answers relayed back.
    Answered,
    /// Requests of ours and relayed ones sent again (timer E).
    Resent,
    /// Receivers that were silent and count as away.
    Silent,
    /// Letters stored.
    Stored,
    /// Letters stored that were repeats of one already there.
    StoredRepeats,
    /// Letters handed out and answered.
    Delivered,
    /// Letters that expired or were refused for good.
    Failed,
    /// Letters refused because the mailbox is full.
    MailboxFull,
    /// Registrations made, refreshed or removed.
    Registered,
    /// Requests answered 503 because something was full or broken.
    Overloaded,
    /// Transactions given up early because the table was full.
    Evicted,
    /// Datagrams not sent because the socket or the queue was full.
    DatagramsLost,
    /// Messages not sent because a connection's queue was full or the connection gone.
    StreamLost,
    /// Panics caught in a turn of the data plane.
    Panics,
    /// Users activated.
    Activated,
    /// Users that left for want of work.
    Passivated,
    /// Delivery notifications sent.
    Notices,
    /// Sources cut off for sending too much without credentials.
    RateLimited,
    /// Sessions that were asked for.
    SessionsCalled,
    /// Sessions that were taken.
    SessionsTaken,
    /// Sessions that have ended, taken or not.
    SessionsEnded,
    /// Requests passed on to devices, forks counted one by one.
    Passed,
    /// Requests that came back, cut off.
    Looped,
    /// STUN pings answered.
    Pings,
    /// Bindings that ended with the connection that they were made over.
    FlowsLost,
    /// Subscriptions to a user's registrations taken.
    RegSubscribed,
    /// Notifications of a user's registrations sent.
    RegNotified,
    /// Sessions refused because a user had too many.
    SessionsRefused,
    /// Contacts of a callee that were not rung because there were too many.
    ForksCut,
}

/// Metric names and what they count, in the order of [`Count`].
pub const NAMES: [(&str, &str); 39] = [
    ("parlour_sip_requests_total", "SIP requests received"),
    ("parlour_sip_responses_total", "SIP responses received"),
    ("parlour_sip_garbage_total", "Datagrams and frames that are no SIP, dropped"),
    ("parlour_sip_malformed_total", "SIP requests refused as malformed"),
    ("parlour_sip_challenges_total", "Digest challenges sent"),
    ("parlour_sip_auth_failures_total", "Requests with wrong credentials"),
    ("parlour_sip_repeats_total", "Repeated requests absorbed"),
    ("parlour_sip_strays_total", "Responses that fit no transaction, dropped"),
    (
        "parlour_sip_unreachable_total",
        "Requests that could not be delivered: no way, no connection, or refused by the host",
    ),
    ("parlour_page_relayed_total", "Page messages relayed to a contact"),
    ("parlour_page_answered_total", "Final answers relayed back"),
    ("parlour_sip_resent_total", "Requests sent again by timer E"),
    ("parlour_page_silent_total", "Receivers that did not answer in time"),
    ("parlour_letters_stored_total", "Letters stored"),
    ("parlour_letters_repeated_total", "Repeats of stored letters"),
    ("parlour_letters_delivered_total", "Letters handed out and answered"),
    ("parlour_letters_failed_total", "Letters that expired or were refused for good"),
    ("parlour_letters_refused_total", "Letters refused because the mailbox was full"),
    ("parlour_registrations_total", "Registrations made, refreshed or removed"),
    ("parlour_sip_overload_total", "Requests answered 503"),
    ("parlour_transactions_evicted_total", "Transactions given up early because the table was full"),
    ("parlour_datagrams_lost_total", "Datagrams that could not be sent"),
    ("parlour_stream_lost_total", "Messages that a connection could not take"),
    ("parlour_panics_total", "Panics caught on the data plane"),
    ("parlour_users_activated_total", "Users activated"),
    ("parlour_users_passivated_total", "Users that left for want of work"),
    ("parlour_notices_total", "Delivery notifications sent"),
    ("parlour_rate_limited_total", "Requests dropped because their source sends too many without credentials"),
    ("parlour_sessions_called_total", "Sessions that were asked for"),
    ("parlour_sessions_taken_total", "Sessions that were taken"),
    ("parlour_sessions_ended_total", "Sessions that have ended, taken or not"),
    ("parlour_sip_passed_total", "Requests passed on to devices"),
    ("parlour_sip_loops_total", "Requests that came back, refused with 482 or given up"),
    ("parlour_stun_pings_total", "STUN pings answered"),
    ("parlour_flows_lost_total", "Bindings that ended with the connection that they were made over"),
    ("parlour_reg_subscriptions_total", "Subscriptions to a user's registrations taken"),
    ("parlour_reg_notifications_total", "Notifications of a user's registrations sent"),
    ("parlour_sessions_refused_total", "Sessions refused because a user had too many"),
    ("parlour_session_forks_cut_total", "Contacts that were not rung because their user has too many"),
];

/// The sums, shared by all shards.
#[derive(Debug)]
pub struct Metrics {
    sums: [AtomicU64; NAMES.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Self { sums: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Metrics {
    /// Adds what one turn counted, and clears it.
    pub fn add(&self, counts: &mut Counts) {
        if !counts.any {
            return;
        }
        counts.any = false;
        for (sum, count) in self.sums.iter().zip(&mut counts.own) {
            if *count > 0 {
                sum.fetch_add(std::mem::take(count), Ordering::Relaxed);
            }
        }
    }

    /// One more, from outside a turn.
    pub fn count(&self, what: Count) {
        self.sums[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self, what: Count) -> u64 {
        self.sums[what as usize].load(Ordering::Relaxed)
    }

    /// Prometheus text.
    pub fn write(&self, out: &mut String) {
        for ((name, help), sum) in NAMES.iter().zip(&self.sums) {
            let _ =
                writeln!(out, "# HELP {name} {help}.\n# TYPE {name} counter\n{name} {}", sum.load(Ordering::Relaxed));
        }
    }
}

/// What one turn counts, in plain numbers.
#[derive(Debug)]
pub struct Counts {
    own: [u64; NAMES.len()],
    any: bool,
}

impl Default for Counts {
    fn default() -> Self {
        Self { own: [0; NAMES.len()], any: false }
    }
}

impl Counts {
    /// One more.
    pub fn add(&mut self, what: Count) {
        self.own[what as usize] += 1;
        self.any = true;
    }

    /// So many more.
    pub fn add_many(&mut self, what: Count, many: u64) {
        self.own[what as usize] += many;
        self.any |= many > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_turn_counted_is_summed_once() {
        let (metrics, mut counts) = (Metrics::default(), Counts::default());
        counts.add(Count::Relayed);
        counts.add_many(Count::RateLimited, 2);
        metrics.add(&mut counts);
        metrics.add(&mut counts);
        assert_eq!((metrics.get(Count::Relayed), metrics.get(Count::RateLimited)), (1, 2));
        let mut text = String::new();
        metrics.write(&mut text);
        assert!(text.contains("\nparlour_page_relayed_total 1\n") && text.contains("\nparlour_rate_limited_total 2\n"));
    }
}
