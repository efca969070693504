//! Arrivals: by the clock, not by the last answer; or, to saturate, as many at once as are asked for.
//!
//! The moment an arrival is *due* is what latency is measured from. A generator that comes late, or a server that
//! makes it wait, cannot hide in the figures (no coordinated omission).

/// Nanoseconds in a second.
const SECOND_NS: u128 = 1_000_000_000;

/// When the next unit of work begins. Times are nanoseconds of the crowd's clock.
#[derive(Debug, Clone)]
pub enum Pace {
    /// Arrival `n` is due at `begin + n / rate`, whatever happened to the others.
    Open {
        /// Arrivals in a thousand seconds: whole numbers, so that an hour drifts by nothing.
        per_1000_s: u64,
        /// When arrival 0 is due.
        begin_ns: u64,
        /// The number of the next one.
        next: u64,
        /// More than this many at once are not begun: they wait, and their waiting counts.
        at_once: usize,
    },
    /// The next begins when one of this many ends.
    Closed {
        /// How many are under way.
        at_once: usize,
    },
}

impl Pace {
    /// An open loop: `rate` arrivals a second, beginning now, at most `at_once` under way.
    pub fn open(rate: f64, begin_ns: u64, at_once: usize) -> Self {
        Self::Open { per_1000_s: (rate * 1_000.0).round().max(1.0) as u64, begin_ns, next: 0, at_once }
    }

    /// A closed loop.
    pub fn closed(at_once: usize) -> Self {
        Self::Closed { at_once }
    }

    /// Takes one arrival, if one may begin now; the moment it was due.
    pub fn take(&mut self, now_ns: u64, under_way: usize) -> Option<u64> {
        match self {
            Self::Closed { at_once } => (under_way < *at_once).then_some(now_ns),
            Self::Open { per_1000_s, begin_ns, next, at_once } => {
                let due = due_ns(*per_1000_s, *begin_ns, *next);
                (due <= now_ns && under_way < *at_once).then(|| {
                    *next += 1;
                    due
                })
            }
        }
    }

    /// When the next one is due; never in a closed loop, whose next one comes with an answer.
    pub fn next_ns(&self) -> Option<u64> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { per_1000_s, begin_ns, next, .. } => Some(due_ns(*per_1000_s, *begin_ns, *next)),
        }
    }
}

fn due_ns(per_1000_s: u64, begin_ns: u64, n: u64) -> u64 {
    let after = u128::from(n) * SECOND_NS * 1_000 / u128::from(per_1000_s);
    begin_ns.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a clock run in steps, every arrival ending at once; when each was due and when it began.
    fn played(pace: &mut Pace, until_ns: u64, step_ns: u64) -> Vec<(u64, u64)> {
        let (mut now, mut begun) = (0, Vec::new());
        while now <= until_ns {
            while let Some(due) = pace.take(now, 0) {
                begun.push((due, now));
            }
            now += step_ns;
        }
        begun
    }

    #[test]
    fn arrivals_come_by_the_clock_however_coarse_its_steps_are() {
        for step_ns in [1_000, 7_777, 1_000_000] {
            let begun = played(&mut Pace::open(10_000.0, 0, 9), 1_000_000_000 - step_ns, step_ns);
            assert!((9_980..=10_000).contains(&begun.len()), "{} arrivals in steps of {step_ns} ns", begun.len());
            for (n, (due, at)) in begun.iter().enumerate() {
                assert_eq!(*due, n as u64 * 100_000);
                assert!(at - due < step_ns, "late by no more than a step");
            }
        }
    }

    #[test]
    fn an_hour_at_an_odd_rate_drifts_by_nothing() {
        let pace = Pace::Open { per_1000_s: 333_333, begin_ns: 5, next: 1_199_998, at_once: 1 };
        let due = pace.next_ns().unwrap();
        assert!(due.abs_diff(3_600_000_000_000) < 4_000_000, "{due}");
    }

    #[test]
    fn who_must_wait_keeps_the_moment_at_which_he_was_due() {
        let mut pace = Pace::open(1_000.0, 0, 2);
        assert_eq!(pace.take(0, 0), Some(0));
        assert_eq!(pace.take(5_000_000, 2), None, "two are under way");
        assert_eq!(pace.take(9_000_000, 1), Some(1_000_000), "8 ms late, and it shows");
        assert_eq!(pace.next_ns(), Some(2_000_000));
    }

    #[test]
    fn a_closed_loop_begins_one_for_one_that_ends() {
        let mut pace = Pace::closed(2);
        assert_eq!((pace.take(7, 0), pace.take(7, 1), pace.take(7, 2)), (Some(7), Some(7), None));
        assert_eq!(pace.next_ns(), None);
    }
}
