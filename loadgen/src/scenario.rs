//! What the crowd does: one file a scenario, and here what they share.
//!
//! A scenario begins errands by its pace and reads the crowd's events; when it ends, all that it began has ended.

pub mod deferred;
pub mod idle;
pub mod kill;
pub mod mixed;
pub mod pager;
pub mod register;
pub mod session;
pub mod session_idle;
pub mod session_slow;
mod visitors;

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::crowd::{Crowd, Event, NO_ANSWER};
use crate::flight::Errand;
use crate::interrupt;
use crate::ledger::Ledger;
use crate::measure;
use crate::pace::Pace;
use crate::plan::{Identity, Kind, Load, Plan};
use crate::report::Report;
use crate::watch::Watch;

/// Registrations under way at once while a scenario is set up.
const SETUP_AT_ONCE: usize = 64;
/// Registrations a second of users who have no nonce yet: ours takes 10,000 requests a second from one address whose
/// sender it does not know, and each of these has two, the one that is challenged and the first with credentials. What
/// is above is dropped, and over TCP nobody repeats it.
const SETUP_PER_S: f64 = 4_000.0;
/// The longest that a turn sleeps: so often the progress is drawn and a child looked after.
const TURN: Duration = Duration::from_millis(50);

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Sockets, files, processes.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The users could not be made ready.
    #[error(
        "{failed} of {of} REGISTERs were not answered 200 (the first: {first}): are the users known to the server? \
         `parlour-load users` writes a file for `parlour user import`"
    )]
    Setup {
        /// REGISTERs that failed.
        failed: u64,
        /// REGISTERs in all.
        of: u64,
        /// The first status that was none of success.
        first: u16,
    },
    /// Nobody is there.
    #[error(
        "a REGISTER to {0} was not answered within 32 s (RFC 3261 §17.1.2.2, timer F): is a server there, and does it take \
         so many requests without credentials from one address (Parlour: [limits] challenges_per_source)?"
    )]
    Silence(std::net::SocketAddr),
    /// The sessions could not be set up.
    #[error("{failed} of {of} sessions were not set up (the first: {first})")]
    Sessions {
        /// Sessions that failed.
        failed: u64,
        /// Sessions in all.
        of: u64,
        /// What the first one met.
        first: String,
    },
    /// Connections are gone, and what was under way on them.
    #[error("the server closed {0} of our connections")]
    Closed(u64),
    /// The server that we started ended by itself.
    #[error("the server ended by itself ({0}): run its start command by hand to see why")]
    ServerEnded(std::process::ExitStatus),
    /// There was no server to start.
    #[error(
        "{command:?} cannot be started ({status}): start_command is one program with its arguments, for it takes the \
         place of the shell (a `cd` or `&&` before it belongs into a script)"
    )]
    NoServer {
        /// What the shell was given.
        command: String,
        /// 126 or 127.
        status: std::process::ExitStatus,
    },
}

/// Plays a plan; `quiet` draws no progress.
///
/// # Errors
/// What kept it from being played; what was found on the way stands in the report.
pub fn run(plan: &Plan, quiet: bool) -> Result<Report, RunError> {
    if let Some(core) = plan.core {
        measure::pin_to(core)
            .map_err(|error| io::Error::new(error.kind(), format!("core {core} cannot be taken: {error}")))?;
    }
    measure::sleep_precisely();
    measure::open_many_files();
    let mut watch = Watch::new(plan, quiet)?;
    let mut crowd = Crowd::gather(plan)
        .map_err(|error| io::Error::new(error.kind(), format!("towards {}: {error}", plan.server)))?;
    let mut stand = Stand { plan, crowd: &mut crowd, watch: &mut watch, ledger: Ledger::default(), events: Vec::new() };
    match plan.scenario {
        Kind::Register => register::run(&mut stand)?,
        Kind::Pager => pager::run(&mut stand)?,
        Kind::Deferred => deferred::run(&mut stand)?,
        Kind::Kill => kill::run(&mut stand)?,
        Kind::Mixed => mixed::run(&mut stand)?,
        Kind::Idle => idle::run(&mut stand)?,
        Kind::Session => session::run(&mut stand)?,
        Kind::SessionIdle => session_idle::run(&mut stand)?,
        Kind::SessionSlow => session_slow::run(&mut stand)?,
    }
    let (ledger, judged) = (stand.ledger, plan.scenario != Kind::Register && !plan.scenario.is_session());
    Ok(watch.finish(&crowd, judged.then(|| ledger.balance())))
}

/// Where a scenario stands: what it may use.
pub struct Stand<'a> {
    /// What is asked for.
    pub plan: &'a Plan,
    /// Who does it.
    pub crowd: &'a mut Crowd,
    /// Who counts.
    pub watch: &'a mut Watch,
    /// What was promised.
    pub ledger: Ledger,
    events: Vec<Event>,
}

/// When a flow's measured part begins and when the flow ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// By time: the plan's warm-up, then its duration.
    Time,
    /// By units: measured from a tenth of them to nine tenths.
    Count(u64),
}

/// Units of one kind at the plan's pace.
pub struct Flow {
    /// Its name in the report.
    pub name: &'static str,
    /// What one unit is.
    pub unit: &'static str,
    /// Statuses that end a unit well.
    pub good: &'static [u16],
    /// When it ends.
    pub until: Until,
    /// More than this many are never under way at once.
    pub at_once: usize,
}

impl Stand<'_> {
    /// One turn: what happened is noted in the ledger and told to `told`.
    pub fn turn(
        &mut self,
        until_ns: u64,
        mut told: impl FnMut(&mut Watch, &mut Crowd, &Event),
    ) -> Result<(), RunError> {
        let turn_ns = u64::try_from(TURN.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = until_ns.min(self.crowd.now_ns() + turn_ns);
        interrupt::check()?;
        self.crowd.turn(until_ns, &mut self.events)?;
        match self.crowd.faults().closed {
            0 => {}
            count => return Err(RunError::Closed(count)),
        }
        for event in self.events.drain(..) {
            match event {
                Event::Letter { number, identity } => {
                    self.ledger.deliver(number, identity);
                }
                Event::Done { errand: Errand::Message { number, .. }, status: 200..=299, .. } => {
                    self.ledger.accept(number);
                }
                Event::Done { .. } => {}
            }
            told(self.watch, self.crowd, &event);
        }
        Ok(())
    }

    /// Takes back whatever bindings users have (an earlier run, or another client, may have left some), then registers
    /// them, with the nonces that they have got by then.
    pub fn register_afresh(&mut self, who: Range<u32>) -> Result<(), RunError> {
        self.register(who.clone(), 0)?;
        let reuse = self.crowd.reuse_nonces(true);
        let done = self.register(who, self.plan.expires);
        self.crowd.reuse_nonces(reuse);
        done
    }

    /// Registers users (or takes their bindings back, with `expires` 0) and waits for the last.
    pub fn register(&mut self, who: Range<u32>, expires: u32) -> Result<(), RunError> {
        self.register_while(who, expires, || Ok(()))
    }

    /// The same, for as long as `alive` finds no fault.
    pub fn register_while(
        &mut self,
        who: Range<u32>,
        expires: u32,
        mut alive: impl FnMut() -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let (of, mut failed, mut first) = (u64::from(who.end - who.start), 0, 0);
        let (mut waiting, mut ended) = (who, 0);
        let mut pace = if self.plan.identity == Identity::Auth && !self.crowd.reuses_nonces() {
            Pace::open(SETUP_PER_S, self.crowd.now_ns(), SETUP_AT_ONCE)
        } else {
            Pace::closed(SETUP_AT_ONCE)
        };
        while ended < of {
            alive()?;
            if failed > 0 && first == NO_ANSWER {
                return Err(RunError::Silence(self.plan.server));
            }
            while !waiting.is_empty()
                && let Some(due_ns) = pace.take(self.crowd.now_ns(), self.crowd.under_way())
                && let Some(user) = waiting.next()
            {
                self.crowd.begin(Errand::Register { user, expires }, due_ns);
            }
            let next_ns = pace.next_ns().filter(|_| !waiting.is_empty() && self.crowd.under_way() < SETUP_AT_ONCE);
            self.turn(next_ns.unwrap_or(u64::MAX), |_, _, event| {
                if let Event::Done { errand: Errand::Register { .. }, status, .. } = event {
                    ended += 1;
                    if *status != 200 {
                        first = if failed == 0 { *status } else { first };
                        failed += 1;
                    }
                }
            })?;
            self.watch.tick(self.crowd, "registering", ended, of);
        }
        if failed > 0 { Err(RunError::Setup { failed, of, first }) } else { Ok(()) }
    }

    /// Lets units begin at the plan's pace and counts those that end. `begin` begins the unit of a number that was
    /// due at a moment; `told` hears of everything.
    pub fn flow(
        &mut self,
        flow: &Flow,
        mut begin: impl FnMut(&mut Crowd, u64, u64),
        mut told: impl FnMut(&mut Watch, &mut Crowd, &Event),
    ) -> Result<(), RunError> {
        let begun_ns = self.crowd.now_ns();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (from_ns, to_ns) = match flow.until {
            Until::Time => {
                let from_ns = begun_ns + nanos(self.plan.warmup);
                (from_ns, from_ns.saturating_add(nanos(self.plan.duration)))
            }
            Until::Count(_) => (u64::MAX, u64::MAX),
        };
        let total = match flow.until {
            Until::Time => u64::MAX,
            Until::Count(total) => total,
        };
        let mut pace = self.plan.load.pace(begun_ns);
        let (mut begun, mut ended, mut measured) = (0_u64, 0_u64, Measured::Not);
        loop {
            let now_ns = self.crowd.now_ns();
            let over = now_ns >= to_ns || begun >= total;
            if measured == Measured::Not && (now_ns >= from_ns || ended >= total / 10) {
                measured = Measured::Now;
                self.watch.begin(self.crowd, flow.name, flow.unit)?;
            }
            if measured == Measured::Now && (now_ns >= to_ns || ended >= total - total / 10) {
                measured = Measured::Done;
                self.watch.end(self.crowd)?;
            }
            if over && ended >= begun {
                self.watch.end(self.crowd)?;
                return Ok(());
            }
            while !over && begun < total && self.crowd.under_way() < flow.at_once {
                let Some(due_ns) = pace.take(self.crowd.now_ns(), self.crowd.under_way()) else { break };
                begin(self.crowd, begun, due_ns);
                begun += 1;
            }
            let next_ns = pace.next_ns().filter(|_| !over && self.crowd.under_way() < flow.at_once);
            let until_ns = next_ns.unwrap_or(u64::MAX).min(if over { u64::MAX } else { to_ns });
            let good = flow.good;
            self.turn(until_ns, |watch, crowd, event| {
                if let Event::Done { status, due_ns, at_ns, .. } = event {
                    ended += 1;
                    watch.outcome(*status, good);
                    watch.unit(Some(at_ns.saturating_sub(*due_ns)));
                }
                told(watch, crowd, event);
            })?;
            let (done, of) = match flow.until {
                Until::Time => (self.crowd.now_ns() - begun_ns, to_ns - begun_ns),
                Until::Count(total) => (ended, total),
            };
            self.watch.tick(self.crowd, flow.name, done, of);
        }
    }

    /// Waits until everything accepted has come, at most the plan's time for it; then a moment more for doubles.
    pub fn drain(&mut self) -> Result<(), RunError> {
        let begun_ns = self.crowd.now_ns();
        let patience_ns = u64::try_from(self.plan.drain.as_nanos()).unwrap_or(u64::MAX);
        let mut settled_ns = None;
        loop {
            let now_ns = self.crowd.now_ns();
            if self.ledger.owed() == 0 {
                let settled_ns = *settled_ns.get_or_insert(now_ns);
                // As long as it took, but no longer than a second: a double would come right behind the first.
                if now_ns - settled_ns >= (settled_ns - begun_ns).clamp(100_000_000, crate::watch::SECOND_NS) {
                    return Ok(());
                }
            }
            if now_ns - begun_ns >= patience_ns {
                return Ok(());
            }
            self.turn(u64::MAX, |_, _, _| {})?;
            let (accepted, owed) = (self.ledger.accepted(), self.ledger.owed());
            self.watch.tick(self.crowd, "waiting for letters", accepted - owed, accepted);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Measured {
    Not,
    Now,
    Done,
}

/// Two users of a crowd, and a message between them.
pub fn letter(crowd: &mut Crowd, number: u64) -> Errand {
    let size = crowd.size();
    let (from, to) = crowd.dice().pair(size);
    Errand::Message { from, to, number }
}

/// The units that an open loop asks for in its time, or what the plan says.
pub fn messages(plan: &Plan) -> u64 {
    plan.messages.unwrap_or(match plan.load {
        Load::Rate(rate) => (rate * plan.duration.as_secs_f64()) as u64,
        Load::InFlight(_) => 10_000,
    })
}
