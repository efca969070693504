//! All of it at once, for long: registrations are refreshed, people write to people who are there, and to people who
//! are away and come by now and then, and hold sessions. Nothing may fail, nothing be lost, and the server's memory stay flat.

use crate::crowd::{Crowd, Event};
use crate::flight::Errand;
use crate::plan::Plan;
use crate::scenario::visitors::Visitors;
use crate::scenario::{RunError, Stand};
use crate::watch::SECOND_NS;

/// Each user who is away comes by once in this time, nanoseconds.
const VISIT_EVERY_NS: u64 = 20 * SECOND_NS;
/// And stays this long.
const STAY_NS: u64 = 3 * SECOND_NS;

/// Who is there, who is away, and whose turn it is.
struct Town {
    /// Users below this are always there; the others are away.
    there: u32,
    size: u32,
    refreshed: u32,
    number: u64,
}

impl Town {
    /// Begins the next unit, by the shares of the plan.
    fn begin(&mut self, crowd: &mut Crowd, plan: &Plan, due_ns: u64) {
        let roll = u32::try_from(crowd.dice().below(100)).unwrap_or(0);
        if roll >= 100 - plan.session_percent {
            let (from, to) = crowd.dice().pair(self.there);
            crowd.invite(from, to, due_ns);
            return;
        }
        let errand = self.next(crowd, plan, roll);
        crowd.begin(errand, due_ns);
    }

    fn next(&mut self, crowd: &mut Crowd, plan: &Plan, roll: u32) -> Errand {
        let (register_percent, deferred_percent) = (plan.register_percent, plan.deferred_percent);
        if roll < register_percent {
            self.refreshed = (self.refreshed + 1) % self.there;
            return Errand::Register { user: self.refreshed, expires: plan.expires };
        }
        self.number += 1;
        let (from, there) = crowd.dice().pair(self.there);
        let away = self.there + u32::try_from(crowd.dice().below(u64::from(self.size - self.there))).unwrap_or(0);
        let to = if roll < register_percent + deferred_percent { away } else { there };
        Errand::Message { from, to, number: self.number - 1 }
    }

    /// Which statuses end an errand well.
    fn good(&self, errand: Errand) -> &'static [u16] {
        match errand {
            // Who is away may just have come by.
            Errand::Message { to, .. } if to >= self.there => &[200, 202],
            _ => &[200],
        }
    }
}

/// Plays it: four fifths of the users are there.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    let (plan, size) = (stand.plan, stand.crowd.size());
    let there = (size - size / 5).clamp(1, size - 1);
    stand.register_afresh(0..there)?;
    stand.register(there..size, 0)?;
    let mut town = Town { there, size, refreshed: 0, number: 0 };
    let mut visits = Visits::new(size - there, stand.crowd.now_ns());
    let mut visitors = Visitors::new(stand)?;

    let begun_ns = stand.crowd.now_ns();
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (from_ns, to_ns) = (begun_ns + nanos(plan.warmup), begun_ns + nanos(plan.warmup) + nanos(plan.duration));
    let mut pace = plan.load.pace(begun_ns);
    let mut measured = false;
    while stand.crowd.now_ns() < to_ns {
        if !measured && stand.crowd.now_ns() >= from_ns {
            measured = true;
            stand.watch.begin(stand.crowd, "mixed", "REGISTER, MESSAGE or session")?;
        }
        while let Some(due_ns) = pace.take(stand.crowd.now_ns(), stand.crowd.under_way()) {
            town.begin(stand.crowd, plan, due_ns);
        }
        visits.turn(stand.crowd, there, plan.expires);
        let until_ns = pace.next_ns().unwrap_or(u64::MAX).min(visits.next_ns).min(to_ns);
        turn(stand, &town, &mut visitors, until_ns)?;
        stand.watch.tick(stand.crowd, "mixed", stand.crowd.now_ns() - begun_ns, to_ns - begun_ns);
    }
    stand.watch.end(stand.crowd)?;
    while stand.crowd.under_way() > 0 || visitors.is_any() {
        turn(stand, &town, &mut visitors, u64::MAX)?;
    }
    visitors.account(stand);
    stand.register(there..size, plan.expires)?;
    stand.drain()
}

fn turn(stand: &mut Stand<'_>, town: &Town, visitors: &mut Visitors, until_ns: u64) -> Result<(), RunError> {
    let until_ns = visitors.turn(stand, until_ns)?;
    stand.turn(until_ns, |watch, _, event| {
        let Event::Done { errand, status, due_ns, at_ns } = event else { return };
        watch.outcome(*status, town.good(*errand));
        match errand {
            // A session is a unit that ends with its BYE.
            Errand::Invite { call, .. } | Errand::Bye { call, .. } => visitors.hear(*errand, *call, *status, *due_ns),
            _ => watch.unit(Some(at_ns.saturating_sub(*due_ns))),
        }
    })
}

/// The comings and goings of those who are away, evenly spread.
struct Visits {
    size: u32,
    period_ns: u64,
    next_ns: u64,
    next: u32,
    /// Who is there now, and until when; in order.
    stays: std::collections::VecDeque<(u64, u32)>,
}

impl Visits {
    fn new(size: u32, now_ns: u64) -> Self {
        let period_ns = VISIT_EVERY_NS / u64::from(size.max(1));
        Self { size, period_ns, next_ns: now_ns + period_ns, next: 0, stays: std::collections::VecDeque::new() }
    }

    fn turn(&mut self, crowd: &mut Crowd, first: u32, expires: u32) {
        let now_ns = crowd.now_ns();
        while self.next_ns <= now_ns {
            crowd.begin(Errand::Register { user: first + self.next, expires }, now_ns);
            self.stays.push_back((now_ns + STAY_NS, first + self.next));
            self.next = (self.next + 1) % self.size;
            self.next_ns += self.period_ns;
        }
        while let Some((_, user)) = self.stays.pop_front_if(|(until_ns, _)| *until_ns <= now_ns) {
            crowd.begin(Errand::Register { user, expires: 0 }, now_ns);
        }
    }
}
