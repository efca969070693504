//! The eye on a run: what of it counts, how long it took, what it cost the server; and the progress that a person sees.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::crowd::{Crowd, NO_ANSWER};
use crate::gauges::Asker;
use crate::ledger::Balance;
use crate::measure::{self, Usage};
use crate::plan::{Kind, Plan};
use crate::report::{Cost, Latency, Memory, Report, Sample, Stage};
use crate::talk::Tally;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// Longest latency that is told apart from longer ones: timer F is 32 s.
const LATENCY_NS: u64 = 120 * SECOND_NS;
/// Memory samples of one run, at most one a second.
const SAMPLES: u64 = 720;
/// Times a second that the progress is drawn.
const DRAWN_PER_S: u64 = 5;

struct Open {
    name: &'static str,
    unit: &'static str,
    begun_ns: u64,
    server: Option<Usage>,
    driver: Usage,
    units: u64,
    octets: Option<u64>,
}

/// What is known of a run so far.
pub struct Watch {
    server_pid: Option<u32>,
    /// The server and its children when we last looked.
    family: Vec<u32>,
    open: Option<Open>,
    latency: Histogram<u64>,
    report: Report,
    bar: ProgressBar,
    sample_every_ns: u64,
    sampled_ns: u64,
    drawn_ns: u64,
    heard_total: u64,
    gauges: Option<Asker>,
}

impl Watch {
    /// On a plan; `quiet` draws no progress.
    ///
    /// # Errors
    /// There is no process of the number that the plan names.
    pub fn new(plan: &Plan, quiet: bool) -> io::Result<Self> {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{msg:22} {wide_bar} {percent:>3} %  {prefix}") {
            bar.set_style(style);
        }
        let mut watch = Self {
            server_pid: None,
            family: Vec::new(),
            open: None,
            latency: histogram(),
            report: Report::new(plan),
            bar,
            sample_every_ns: (u64::try_from(plan.duration.as_nanos()).unwrap_or(u64::MAX) / SAMPLES).max(SECOND_NS),
            sampled_ns: 0,
            drawn_ns: 0,
            heard_total: 0,
            // A server that the scenario starts itself is not there yet.
            gauges: plan.admin.as_deref().map(|at| Asker::new(at, plan.scenario != Kind::Kill)).transpose()?,
        };
        watch.look_at(plan.server_pid)?;
        Ok(watch)
    }

    /// From now on this is the server.
    ///
    /// # Errors
    /// There is no such process.
    pub fn look_at(&mut self, pid: Option<u32>) -> io::Result<()> {
        self.server_pid = pid;
        self.family.clear();
        if let Some(pid) = pid {
            measure::rss_bytes(pid)
                .map_err(|error| io::Error::new(error.kind(), format!("there is no server process {pid} ({error})")))?;
            self.family = measure::descendants(pid)?;
            self.family.push(pid);
        }
        Ok(())
    }

    /// From now on units count.
    ///
    /// # Errors
    /// The server is gone.
    pub fn begin(&mut self, crowd: &Crowd, name: &'static str, unit: &'static str) -> io::Result<()> {
        let server = self.server_pid.map(Usage::of).transpose()?;
        let driver = Usage::own()?;
        self.latency = histogram();
        self.open = Some(Open { name, unit, begun_ns: crowd.now_ns(), server, driver, units: 0, octets: None });
        Ok(())
    }

    /// One unit ended, after so long (where that is of interest).
    pub fn unit(&mut self, latency_ns: Option<u64>) {
        self.heard_total += 1;
        if let Some(open) = &mut self.open {
            open.units += 1;
            if let Some(latency_ns) = latency_ns {
                self.latency.saturating_record(latency_ns);
            }
        }
    }

    /// Octets of a body were heard.
    pub fn octets(&mut self, count: u64) {
        if let Some(open) = &mut self.open {
            open.octets = Some(open.octets.unwrap_or(0) + count);
        }
    }

    /// Units no longer count; nothing if none did.
    ///
    /// # Errors
    /// The server is gone.
    pub fn end(&mut self, crowd: &Crowd) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let server = self.server_pid.map(Usage::of).transpose()?;
        let driver = Usage::own()?;
        let seconds = Duration::from_nanos(crowd.now_ns() - open.begun_ns).as_secs_f64();
        let cost = |after: &Usage, before: &Usage| Cost::of(&after.since(before), open.units, seconds);
        let server = server.zip(open.server);
        let spent = server.as_ref().map(|(after, before)| after.since(before).cpu_ns);
        self.report.stages.push(Stage {
            name: open.name,
            unit: open.unit,
            units: open.units,
            seconds,
            per_second: open.units as f64 / seconds.max(1e-9),
            latency: (!self.latency.is_empty()).then(|| Latency::of(&self.latency)),
            server: server.map(|(after, before)| cost(&after, &before)),
            driver: cost(&driver, &open.driver),
            octets: open.octets,
            ns_per_octet: spent.zip(open.octets).map(|(ns, octets)| ns as f64 / octets.max(1) as f64),
        });
        Ok(())
    }

    /// An errand ended with a status; any but `good` ones is an error.
    pub fn outcome(&mut self, status: u16, good: &[u16]) {
        let name = if status == NO_ANSWER { "none".to_owned() } else { status.to_string() };
        *self.report.statuses.entry(name).or_default() += 1;
        if !good.contains(&status) {
            self.report.errors += 1;
        }
    }

    /// Sessions said this, and it is what the report tells of them.
    pub fn talked(&mut self, tally: Tally) {
        self.report.sessions = Some(tally);
    }

    /// A sentence for the report.
    pub fn note(&mut self, text: String) {
        self.bar.println(&text);
        self.report.notes.push(text);
    }

    /// Draws the progress and reads the server's memory, each at its own pace.
    pub fn tick(&mut self, crowd: &Crowd, doing: &str, done: u64, of: u64) {
        let now_ns = crowd.now_ns();
        if now_ns - self.drawn_ns >= SECOND_NS / DRAWN_PER_S {
            let seconds = Duration::from_nanos(now_ns - self.drawn_ns).as_secs_f64();
            let rate = std::mem::take(&mut self.heard_total) as f64 / seconds;
            self.drawn_ns = now_ns;
            self.bar.set_length(of.max(1));
            self.bar.set_position(done.min(of));
            self.bar.set_message(doing.to_owned());
            self.bar.set_prefix(format!("{rate:.0}/s, {} under way, {} errors", crowd.under_way(), self.report.errors));
        }
        if now_ns - self.sampled_ns >= self.sample_every_ns {
            self.sample(now_ns);
        }
    }

    /// Reads the server's memory now, and asks it for its gauges.
    pub fn sample(&mut self, now_ns: u64) {
        self.sampled_ns = now_ns;
        let at_s = Duration::from_nanos(now_ns).as_secs_f64();
        if let Some(gauges) = &mut self.gauges {
            gauges.ask(at_s);
        }
        if let Some(rss_bytes) = self.rss_bytes() {
            self.report.memory.samples.push(Sample { at_s, rss_bytes });
        }
    }

    /// The server's memory now; nothing where no server is watched, or it is gone.
    pub fn rss_bytes(&self) -> Option<u64> {
        self.server_pid?;
        self.family.iter().map(|pid| measure::rss_bytes(*pid).ok()).sum()
    }

    /// What memory was found to be for.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.report.memory
    }

    /// The report, its marks judged.
    pub fn finish(mut self, crowd: &Crowd, balance: Option<Balance>) -> Report {
        self.bar.finish_and_clear();
        self.report.counts = crowd.counts();
        self.report.faults = crowd.faults();
        self.report.balance = balance;
        self.report.gauges = self.gauges.take().map(Asker::finish);
        self.report.judge();
        self.report
    }
}

/// Latencies in nanoseconds, three digits of each.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, LATENCY_NS, 3).expect("the bounds are in order and three digits are allowed")
}
