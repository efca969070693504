//! What a run came to: as text for a person, as JSON for a script, and whether its marks hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::crowd::Counts;
use crate::gauges::Gauges;
use crate::ledger::Balance;
use crate::measure::Spent;
use crate::plan::{Kind, Load, Plan};
use crate::talk::Tally;
use crate::wire::Faults;

/// Threads that a cost names.
const NAMED: usize = 6;
/// What memory may grow by, beside the percentage, before a soak is not flat: pools and caches that fill slowly.
const SLACK_BYTES: f64 = 4.0 * 1_048_576.0;
/// What may wait in a queue at the end of a soak more than at its beginning: a batch that was just then under way.
const QUEUE_SLACK: f64 = 64.0;

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every mark holds.
    pub passed: bool,
    /// What was done.
    pub plan: Plan,
    /// The parts of the run that were measured.
    pub stages: Vec<Stage>,
    /// Final statuses of all errands of the scenario itself; `none` is no answer.
    pub statuses: BTreeMap<String, u64>,
    /// Those of them that should not have been.
    pub errors: u64,
    /// What was promised and what came.
    pub balance: Option<Balance>,
    /// What was said in sessions, and what became of it.
    pub sessions: Option<Tally>,
    /// The server's memory.
    pub memory: Memory,
    /// What the server said of its queues and its memory, where it was asked.
    pub gauges: Option<Gauges>,
    /// What the crowd counted.
    pub counts: Counts,
    /// What the sockets met.
    pub faults: Faults,
    /// What happened on the way.
    pub notes: Vec<String>,
    /// What was to hold.
    pub marks: Vec<Mark>,
}

/// One measured part.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// What one unit is.
    pub unit: &'static str,
    /// Units that ended in it.
    pub units: u64,
    /// How long it was.
    pub seconds: f64,
    /// Units a second.
    pub per_second: f64,
    /// From when a unit was due until it ended.
    pub latency: Option<Latency>,
    /// Of the server and its children.
    pub server: Option<Cost>,
    /// Of this process.
    pub driver: Cost,
    /// Octets of bodies that were heard in it, where sessions spoke.
    pub octets: Option<u64>,
    /// The server's processor time for one of them, nanoseconds.
    pub ns_per_octet: Option<f64>,
}

/// Latency, milliseconds.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Latency {
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Latency {
    /// Of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self {
            mean_ms: histogram.mean() / 1e6,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1e6,
        }
    }
}

/// Processor time.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Microseconds a unit.
    pub cpu_us_per_unit: f64,
    /// Percent of one core.
    pub busy_percent: f64,
    /// The dearest threads, by name: microseconds a unit.
    pub threads: Vec<(String, f64)>,
}

impl Cost {
    /// Of what was spent on so many units.
    pub fn of(spent: &Spent, units: u64, seconds: f64) -> Self {
        let each = |ns: u64| ns as f64 / 1e3 / units.max(1) as f64;
        Self {
            cpu_us_per_unit: each(spent.cpu_ns),
            busy_percent: spent.cpu_ns as f64 / 1e7 / seconds.max(1e-9),
            threads: spent.by_name.iter().take(NAMED).map(|(name, ns)| (name.clone(), each(*ns))).collect(),
        }
    }
}

/// One look at the server's memory.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Resident octets.
    pub rss_bytes: u64,
}

/// The server's memory over a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Memory {
    /// At most one a second.
    pub samples: Vec<Sample>,
    /// Octets for one registered user who does nothing.
    pub bytes_per_user: Option<f64>,
    /// Octets for one session in which nothing is said.
    pub bytes_per_session: Option<f64>,
    /// Octets for one transaction that is kept for its timer.
    pub bytes_per_transaction: Option<f64>,
}

impl Memory {
    /// Octets by which the greatest sample lies above the first one. Nothing with fewer than two.
    pub fn growth_bytes(&self) -> Option<f64> {
        let [first, rest @ ..] = &self.samples[..] else { return None };
        let most = rest.iter().map(|sample| sample.rss_bytes).max()?;
        Some(most.saturating_sub(first.rss_bytes) as f64)
    }

    /// Percent by which the median of the last fifth lies above that of the second fifth (the first one fills pools,
    /// caches and timers), beyond a slack of 4 MiB. Nothing with fewer than ten samples.
    pub fn growth_percent(&self) -> Option<f64> {
        let fifth = self.samples.len() / 5;
        if fifth < 2 {
            return None;
        }
        let (early, late) = (&self.samples[fifth..2 * fifth], &self.samples[self.samples.len() - fifth..]);
        let (early, late) = (median(early.iter().map(bytes)), median(late.iter().map(bytes)));
        Some((late - early - SLACK_BYTES).max(0.0) * 100.0 / early.max(1.0))
    }
}

fn bytes(sample: &Sample) -> f64 {
    sample.rss_bytes as f64
}

/// The middle of some figures, of an even number the mean of the two middle ones; of none 0.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// One thing that was to hold.
#[derive(Debug, Clone, Serialize)]
pub struct Mark {
    /// Its key in `[pass]`.
    pub key: String,
    /// What was asked for.
    pub limit: f64,
    /// What was found; nothing where it was not measured, which does not pass.
    pub found: Option<f64>,
    /// Whether it holds.
    pub holds: bool,
}

impl Report {
    /// Of a plan, before anything happened.
    pub fn new(plan: &Plan) -> Self {
        Self {
            passed: false,
            plan: plan.clone(),
            stages: Vec::new(),
            statuses: BTreeMap::new(),
            errors: 0,
            balance: None,
            sessions: None,
            memory: Memory::default(),
            gauges: None,
            counts: Counts::default(),
            faults: Faults::default(),
            notes: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Compares what was found with the marks of the plan and those that are always asked for.
    pub fn judge(&mut self) {
        let mut asked: BTreeMap<String, f64> = BTreeMap::from([("errors_max".to_owned(), 0.0)]);
        if self.balance.is_some() {
            asked.insert("missing_max".into(), 0.0);
            asked.insert("doubled_max".into(), 0.0);
        }
        if self.sessions.is_some() {
            asked.insert("missing_max".into(), 0.0);
        }
        if matches!(self.plan.load, Load::Rate(_)) && !self.stages.is_empty() && self.plan.scenario != Kind::Kill {
            asked.insert("rate_percent_min".into(), 95.0);
        }
        if self.plan.scenario == Kind::Mixed && self.plan.server_pid.is_some() {
            asked.insert("rss_growth_percent_max".into(), 5.0);
        }
        if self.plan.scenario == Kind::Mixed && self.gauges.is_some() {
            asked.insert("queue_growth".into(), QUEUE_SLACK);
        }
        if self.plan.scenario == Kind::SessionSlow && self.plan.server_pid.is_some() {
            asked.insert("rss_growth_bytes_max".into(), crate::scenario::session_slow::FLAT_BYTES);
        }
        asked.extend(self.plan.pass.clone());
        self.marks = asked
            .into_iter()
            .map(|(key, limit)| {
                let found = self.found(&key);
                let holds =
                    found.is_some_and(|found| if key.ends_with("_min") { found >= limit } else { found <= limit });
                Mark { key, limit, found, holds }
            })
            .collect();
        self.passed = self.marks.iter().all(|mark| mark.holds);
    }

    fn found(&self, key: &str) -> Option<f64> {
        let first = self.stages.first();
        let latency = first.and_then(|stage| stage.latency.as_ref());
        let server_cost = |stage: Option<&Stage>| Some(stage?.server.as_ref()?.cpu_us_per_unit);
        match key {
            "errors_max" => {
                let said = self.sessions.as_ref().map_or(0, Tally::errors);
                Some((self.errors + self.faults.garbled + said) as f64)
            }
            "missing_max" => {
                let letters = self.balance.as_ref().map(|balance| balance.missing);
                let said = self.sessions.as_ref().map(|tally| tally.missing);
                letters.map(|letters| letters + said.unwrap_or(0)).or(said).map(|missing| missing as f64)
            }
            "doubled_max" => self.balance.as_ref().map(|balance| balance.doubled as f64),
            "p50_ms_max" => latency.map(|latency| latency.p50_ms),
            "p99_ms_max" => latency.map(|latency| latency.p99_ms),
            "p999_ms_max" => latency.map(|latency| latency.p999_ms),
            "rate_percent_min" => match self.plan.load {
                Load::Rate(rate) => first.map(|stage| stage.per_second * 100.0 / rate),
                Load::InFlight(_) => None,
            },
            "cpu_us_max" => server_cost(first),
            "delivery_cpu_us_max" => server_cost(self.stages.iter().find(|stage| stage.name == "deliver")),
            "ns_per_octet_max" => first.and_then(|stage| stage.ns_per_octet),
            "idle_busy_percent_max" => {
                let idle = self.stages.iter().find(|stage| stage.name == "idle");
                Some(idle?.server.as_ref()?.busy_percent)
            }
            "queue_growth" => self.gauges.as_ref()?.queue_growth(),
            "rss_growth_bytes_max" => self.memory.growth_bytes(),
            "rss_bytes_per_session_max" => self.memory.bytes_per_session,
            "rss_growth_percent_max" => self.memory.growth_percent(),
            "rss_bytes_per_user_max" => self.memory.bytes_per_user,
            "rss_bytes_per_transaction_max" => self.memory.bytes_per_transaction,
            _ => None,
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let plan = &self.plan;
        let load = match plan.load {
            Load::Rate(rate) => format!("{rate} a second by the clock"),
            Load::InFlight(n) => format!("{n} under way at once"),
        };
        writeln!(
            out,
            "{:?} towards {} over {}, {} link(s) each way, {load}",
            plan.scenario,
            plan.server,
            plan.transport.in_via(),
            plan.connections
        )?;
        for stage in &self.stages {
            writeln!(
                out,
                "\n{}: {} × {} in {:.2} s = {:.0}/s",
                stage.name, stage.units, stage.unit, stage.seconds, stage.per_second
            )?;
            if let Some(cost) = &stage.server {
                writeln!(
                    out,
                    "  server  {:8.2} µs CPU a unit, {:.0} % of a core",
                    cost.cpu_us_per_unit, cost.busy_percent
                )?;
                for (name, us) in &cost.threads {
                    writeln!(out, "          {us:8.2} µs {name}")?;
                }
            }
            if let (Some(octets), seconds) = (stage.octets, stage.seconds.max(1e-9)) {
                let rate = octets as f64 / 1e6 / seconds;
                match stage.ns_per_octet {
                    Some(ns) => writeln!(out, "  octets  {ns:8.3} ns CPU of the server each, {rate:.1} MB/s")?,
                    None => writeln!(out, "  octets  {rate:.1} MB/s")?,
                }
            }
            let driver = &stage.driver;
            writeln!(
                out,
                "  driver  {:8.2} µs CPU a unit, {:.0} % of a core",
                driver.cpu_us_per_unit, driver.busy_percent
            )?;
            if let Some(l) = &stage.latency {
                writeln!(
                    out,
                    "  latency p50 {:.3} ms, p90 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3}, mean {:.3}",
                    l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms, l.mean_ms
                )?;
            }
        }
        self.write_counts(out)?;
        writeln!(out)?;
        for mark in &self.marks {
            let verdict = if mark.holds { "holds" } else { "FAILS" };
            match mark.found {
                Some(found) => writeln!(out, "{verdict}  {} {} (found {found:.3})", mark.key, mark.limit)?,
                None => writeln!(out, "{verdict}  {} {} (not measured)", mark.key, mark.limit)?,
            }
        }
        writeln!(out, "{}", if self.passed { "passed" } else { "FAILED" })
    }

    fn write_counts(&self, out: &mut String) -> std::fmt::Result {
        let statuses: Vec<String> = self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        writeln!(out, "\nstatuses {}; errors {}", statuses.join(", "), self.errors)?;
        let (counts, faults) = (&self.counts, &self.faults);
        writeln!(
            out,
            "repeated {}, challenges answered {}, stray answers {}, foreign messages {}, garbled {}, not sent {}",
            counts.repeated, counts.challenges, counts.strays, counts.foreign, faults.garbled, faults.unsent
        )?;
        if let Some(balance) = &self.balance {
            writeln!(
                out,
                "accepted {}, delivered {}, missing {}, doubled {} (merged repeats {}, delivered without a promise {})",
                balance.accepted,
                balance.delivered,
                balance.missing,
                balance.doubled,
                balance.repeats,
                balance.unpromised
            )?;
            if !balance.missing_numbers.is_empty() {
                writeln!(out, "missing, the first: {:?}", balance.missing_numbers)?;
            }
        }
        if let Some(tally) = &self.sessions {
            out.push_str(&tally.text());
        }
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        if let [first, .., last] = &self.memory.samples[..] {
            let most = self.memory.samples.iter().map(|sample| sample.rss_bytes).max().unwrap_or(0);
            write!(
                out,
                "server RSS {:.1} MiB at first, {:.1} at last, {:.1} at most",
                mib(first.rss_bytes),
                mib(last.rss_bytes),
                mib(most)
            )?;
            match self.memory.growth_percent() {
                Some(growth) => writeln!(out, "; grown by {growth:.1} %")?,
                None => writeln!(out)?,
            }
        }
        if let Some(gauges) = self.gauges.as_ref().filter(|gauges| !gauges.is_empty()) {
            out.push_str(&gauges.text());
        }
        if let Some(bytes) = self.memory.bytes_per_user {
            writeln!(out, "{bytes:.0} octets of RSS for an idle registered user")?;
        }
        if let Some(bytes) = self.memory.bytes_per_session {
            writeln!(out, "{bytes:.0} octets of RSS for an idle session")?;
        }
        if let Some(bytes) = self.memory.bytes_per_transaction {
            writeln!(out, "{bytes:.0} octets of RSS for a kept transaction")?;
        }
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauges::Series;
    use crate::plan::Options;

    const MIB: f64 = 1_048_576.0;

    fn report(plan: &str) -> Report {
        let options: Options = toml::from_str(&format!("server = \"127.0.0.1:5060\"\n{plan}")).unwrap();
        Report::new(&options.check().unwrap())
    }

    fn judged(report: &mut Report, key: &str) -> Mark {
        report.judge();
        report.marks.iter().find(|mark| mark.key == key).unwrap_or_else(|| panic!("{key}: {}", report.text())).clone()
    }

    fn memory(mib: impl IntoIterator<Item = f64>) -> Memory {
        let sample = |(at, mib): (usize, f64)| Sample { at_s: at as f64, rss_bytes: (mib * MIB) as u64 };
        Memory { samples: mib.into_iter().enumerate().map(sample).collect(), ..Memory::default() }
    }

    fn queue(depths: &[f64]) -> Gauges {
        let values = depths.iter().copied().map(Some).collect();
        let (first, last) = (depths[0], depths[depths.len() - 1]);
        let max = depths.iter().copied().fold(0.0, f64::max);
        let series = vec![Series { name: "parlour_store_commit_queue".to_owned(), first, last, max, values }];
        Gauges { at_s: (0..depths.len()).map(|at| at as f64).collect(), missed: 0, series }
    }

    #[test]
    fn what_was_asked_for_and_not_measured_does_not_pass() {
        let mut report = report("scenario = \"pager\"\n[pass]\np99_ms_max = 5");
        let mark = judged(&mut report, "p99_ms_max");
        assert_eq!((mark.found, mark.holds, report.passed), (None, false, false));
        let text = report.text();
        assert!(text.contains("FAILS  p99_ms_max 5 (not measured)") && text.ends_with("\nFAILED\n"), "{text}");
        assert!(text.contains("holds  errors_max 0 (found 0.000)"), "{text}");
    }

    #[test]
    fn a_single_error_fails_a_run_that_nobody_set_marks_for() {
        let mut report = report("scenario = \"pager\"");
        report.judge();
        assert!(report.passed && report.text().ends_with("\npassed\n"), "{}", report.text());
        report.errors = 1;
        assert_eq!((judged(&mut report, "errors_max").holds, report.passed), (false, false));
    }

    #[test]
    fn a_least_is_held_from_below_and_a_most_from_above() {
        let mut report = report("scenario = \"pager\"\nrate = 100\n[pass]\nrss_bytes_per_user_max = 1024");
        let driver = Cost { cpu_us_per_unit: 0.0, busy_percent: 0.0, threads: Vec::new() };
        for (per_second, bytes, holds) in
            [(95.0, 1_024.0, [true, true]), (94.9, 1_024.0, [false, true]), (95.0, 1_025.0, [true, false])]
        {
            report.stages = vec![Stage {
                name: "pager",
                unit: "MESSAGE",
                units: 1,
                seconds: 1.0,
                per_second,
                latency: None,
                server: None,
                driver: driver.clone(),
                octets: None,
                ns_per_octet: None,
            }];
            report.memory.bytes_per_user = Some(bytes);
            let found = ["rate_percent_min", "rss_bytes_per_user_max"].map(|key| judged(&mut report, key).holds);
            assert_eq!((found, report.passed), (holds, holds == [true, true]), "{}", report.text());
        }
    }

    #[test]
    fn memory_grows_from_the_second_fifth_to_the_last_beyond_a_slack() {
        // The first fifth fills pools; a peak in the middle is no growth; up to 4 MiB do not count.
        let run = |early: f64, late: f64| memory([10.0, 20.0, early, early, 900.0, 900.0, 1.0, 1.0, late, late]);
        let growth = |early, late| run(early, late).growth_percent().unwrap();
        assert_eq!((growth(100.0, 104.0), growth(100.0, 90.0)), (0.0, 0.0));
        assert!((growth(100.0, 109.0) - 5.0).abs() < 1e-6 && (growth(100.0, 110.0) - 6.0).abs() < 1e-6);
        assert_eq!(memory([100.0; 9]).growth_percent(), None);
        assert_eq!(memory([1.0, 3.0, 2.0]).growth_bytes(), Some(2.0 * MIB));
        assert_eq!(memory([1.0]).growth_bytes(), None);
    }

    #[test]
    fn a_soak_is_held_to_its_queues_only_where_they_were_looked_at_often_enough() {
        let mut report = report("scenario = \"mixed\"");
        report.judge();
        assert!(report.marks.iter().all(|mark| mark.key != "queue_growth"), "nobody was asked");
        report.gauges = Some(queue(&[0.0; 9]));
        let mark = judged(&mut report, "queue_growth");
        assert_eq!((mark.found, mark.holds, report.passed), (None, false, false), "nine looks have no tenth");
        for (last, holds) in [(QUEUE_SLACK, true), (QUEUE_SLACK + 1.0, false)] {
            report.gauges = Some(queue(&[0.0, 0.0, 500.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, last]));
            let mark = judged(&mut report, "queue_growth");
            assert_eq!((mark.found, mark.holds, report.passed), (Some(last), holds, holds), "{}", report.text());
        }
        let shown = report.text();
        let line = shown.lines().find(|line| line.contains("parlour_store_commit_queue")).unwrap();
        assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), ["0", "65", "500"], "first, last and most");
    }

    #[test]
    fn the_middle_of_figures_is_found_whatever_their_order() {
        assert_eq!((median([]), median([7.0]), median([9.0, 1.0, 4.0]), median([4.0, 1.0])), (0.0, 7.0, 4.0, 2.5));
    }
}
