//! Which targets have failed of late: they are set aside, and tried again after a while, one request at a time.
//!
//! ```text
//!          failed                     the pause is over            failed
//!  well ────────────> aside (5 s) ─────────────────────> one probe ────────> aside (10 s, 20 s … 300 s)
//!    ▲                                                      │ worked
//!    └──────────────────────────────────────────────────────┘
//! ```
//! Only who has failed stands here (RFC 3263 §2: no state of all servers is kept). Where all are aside, the least bad one is
//! tried all the same: whoever asks is not refused because of what was true a while ago.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base::limits::{TARGET_ASIDE_MAX, TARGET_ASIDE_MIN, TARGET_PROBE_TIME_MAX, TARGETS_ASIDE_MAX};
use hashbrown::HashMap;

use crate::located::{Target, Targets};
use crate::place::Transport;

type Key = (Transport, SocketAddr);

#[derive(Debug, Clone, Copy)]
struct Mark {
    failures: u32,
    /// Aside until then.
    until: Instant,
    /// Somebody is trying it, and until when he alone does.
    probed_until: Option<Instant>,
}

impl Mark {
    fn is_aside(&self, now: Instant) -> bool {
        self.until > now || self.probed_until.is_some_and(|until| until > now)
    }
}

/// The targets that have failed.
#[derive(Debug, Default)]
pub struct Health {
    marks: HashMap<Key, Mark>,
}

impl Health {
    /// A target has failed: a 503, a time-out without any response, a transport that failed (RFC 3263 §4.3). `pause` is
    /// what its Retry-After asks for (RFC 3261 §21.5.4).
    pub fn failed(&mut self, target: &Target, pause: Option<Duration>, now: Instant) {
        let key = (target.transport, target.address);
        if self.marks.len() >= TARGETS_ASIDE_MAX && !self.marks.contains_key(&key) {
            self.make_room(now);
        }
        let mark = self.marks.entry(key).or_insert(Mark { failures: 0, until: now, probed_until: None });
        // Requests that were under way together are one failure.
        if mark.until <= now {
            let doublings = mark.failures.min(16);
            mark.failures += 1;
            mark.until = now + (TARGET_ASIDE_MIN * 2u32.pow(doublings)).min(TARGET_ASIDE_MAX);
            mark.probed_until = None;
        }
        if let Some(pause) = pause {
            mark.until = mark.until.max(now + pause.min(TARGET_ASIDE_MAX));
        }
    }

    /// A target has answered. `true`: it had failed before.
    pub fn worked(&mut self, target: &Target) -> bool {
        self.marks.remove(&(target.transport, target.address)).is_some()
    }

    /// Puts those that are aside behind the others, the least bad of them first. Who comes first after his pause is being
    /// tried from now on: others go on to the next, until it is known how that went.
    pub fn sort(&mut self, targets: &mut Targets, now: Instant) {
        if self.marks.is_empty() {
            return;
        }
        let aside = |target: &Target| match self.marks.get(&(target.transport, target.address)) {
            Some(mark) if mark.is_aside(now) => Some(mark.until.max(mark.probed_until.unwrap_or(mark.until))),
            _ => None,
        };
        targets.sort_by_key(aside); // stable: the order among the others is that of the dice
        let first = targets.first().and_then(|first| self.marks.get_mut(&(first.transport, first.address)));
        if let Some(mark) = first.filter(|mark| !mark.is_aside(now)) {
            mark.probed_until = Some(now + TARGET_PROBE_TIME_MAX);
        }
    }

    /// How many are aside now.
    pub fn aside(&self, now: Instant) -> usize {
        self.marks.values().filter(|mark| mark.is_aside(now)).count()
    }

    /// Whether none has failed.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Forgets those whose pause is over since long: they begin anew.
    pub fn sweep(&mut self, now: Instant) {
        self.marks.retain(|_, mark| mark.until + TARGET_ASIDE_MAX * 2 > now);
    }

    /// The loser is whose pause ends first.
    fn make_room(&mut self, now: Instant) {
        self.sweep(now);
        while self.marks.len() >= TARGETS_ASIDE_MAX {
            let Some(first) = self.marks.iter().min_by_key(|(_, mark)| mark.until).map(|(key, _)| *key) else { return };
            self.marks.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(n: u8) -> Target {
        let address = SocketAddr::new([192, 0, 2, n].into(), 5060);
        Target { transport: Transport::Tcp, address, domain: "example.com".into() }
    }

    fn sorted(health: &mut Health, now: Instant) -> Vec<u8> {
        let mut targets: Targets = [1, 2, 3].map(target).into_iter().collect();
        health.sort(&mut targets, now);
        let last = |target: &Target| match target.address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        targets.iter().map(last).collect()
    }

    #[test]
    fn who_failed_stands_behind_until_his_pause_is_over_and_then_one_tries_him() {
        let (mut health, start) = (Health::default(), Instant::now());
        assert_eq!(sorted(&mut health, start), [1, 2, 3]);
        health.failed(&target(1), None, start);
        assert_eq!(sorted(&mut health, start), [2, 3, 1]);
        assert_eq!(health.aside(start), 1);
        let over = start + TARGET_ASIDE_MIN;
        assert_eq!(sorted(&mut health, over), [1, 2, 3], "the probe");
        assert_eq!(sorted(&mut health, over), [2, 3, 1], "the others wait for how that goes");
        assert!(health.worked(&target(1)));
        assert_eq!((sorted(&mut health, over), health.is_empty()), (vec![1, 2, 3], true));
    }

    #[test]
    fn a_probe_that_tells_nothing_gives_way_to_another() {
        let (mut health, start) = (Health::default(), Instant::now());
        health.failed(&target(1), None, start);
        let over = start + TARGET_ASIDE_MIN;
        assert_eq!(sorted(&mut health, over)[0], 1);
        assert_eq!(sorted(&mut health, over + TARGET_PROBE_TIME_MAX)[0], 1);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_failures_together_are_one() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            health.failed(&target(1), None, now);
            health.failed(&target(1), None, now + Duration::from_millis(1));
            let until = health.marks[&(Transport::Tcp, target(1).address)].until;
            pauses.push(until.duration_since(now).as_secs());
            now = until;
        }
        let longest = TARGET_ASIDE_MAX.as_secs();
        assert_eq!(pauses[..4], [5, 10, 20, 40]);
        assert_eq!(pauses[6..], [longest, longest, longest]);
        health.sweep(now + TARGET_ASIDE_MAX * 2);
        assert!(health.is_empty());
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        let (mut health, start) = (Health::default(), Instant::now());
        health.failed(&target(1), Some(Duration::from_secs(60)), start);
        assert_eq!(sorted(&mut health, start + Duration::from_secs(59)), [2, 3, 1]);
        assert_eq!(sorted(&mut health, start + Duration::from_secs(60)), [1, 2, 3]);
        health.failed(&target(2), Some(Duration::from_secs(1 << 30)), start);
        assert_eq!(sorted(&mut health, start + TARGET_ASIDE_MAX)[1], 2);
    }

    #[test]
    fn where_all_are_aside_the_least_bad_is_tried() {
        let (mut health, start) = (Health::default(), Instant::now());
        health.failed(&target(1), Some(Duration::from_secs(30)), start);
        health.failed(&target(2), None, start);
        health.failed(&target(3), Some(Duration::from_secs(20)), start);
        assert_eq!(sorted(&mut health, start), [2, 3, 1]);
    }

    #[test]
    fn a_bounded_number_is_remembered() {
        let (mut health, start) = (Health::default(), Instant::now());
        for n in 0..TARGETS_ASIDE_MAX as u32 + 10 {
            let address = SocketAddr::new(std::net::Ipv4Addr::from_bits(n).into(), 5060);
            let target = Target { address, ..target(1) };
            health.failed(&target, None, start + Duration::from_millis(n.into()));
        }
        assert_eq!(health.marks.len(), TARGETS_ASIDE_MAX);
    }
}
