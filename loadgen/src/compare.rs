//! The comparison: the blind relay, each peer and our server in turn within one round, over several rounds, the server
//! alone on one core and the driver on the other; medians, and ratios to the relay of the same round.
//!
//! Absolute times on a shared machine drift; ratios within a round do not. What one unit passes through a socket is
//! the same for all: a relayed MESSAGE and its 200 are two in and two out, so are the two transactions of a digest
//! REGISTER; a stored letter is one in and one out, and so is a delivered one: half of a relayed one is their limit.

mod house;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::measure;
use crate::report::{Report, median};
use crate::scenario;
use crate::wire::Transport;
use house::House;

/// The domain that the peers' configuration serves.
const DOMAIN: &str = "test.invalid";
/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// MESSAGEs relayed over UDP
    PagerUdp,
    /// The same, one under way at a time
    PagerUdpOne,
    /// MESSAGEs relayed over 64 TCP connections on each side
    PagerTcp64,
    /// The same over 4
    PagerTcp4,
    /// Digest REGISTERs, two transactions each
    Register,
    /// MESSAGEs stored for the absent, then delivered
    Deferred,
    /// MSRP SENDs of 300 octets in 4 sessions, 16 under way in each
    #[value(name = "msrp-300-4x16")]
    #[serde(rename = "msrp-300-4x16")]
    Msrp4x16,
    /// The same in 64 sessions, one under way in each
    #[value(name = "msrp-300-64x1")]
    #[serde(rename = "msrp-300-64x1")]
    Msrp64x1,
    /// Messages of 64 KiB in chunks of 2 KiB, in 4 sessions, 64 chunks under way in each
    #[value(name = "msrp-64k-2k")]
    #[serde(rename = "msrp-64k-2k")]
    Msrp64k,
    /// Messages of 1 MiB in chunks of 64 KiB, in 4 sessions, 16 chunks under way in each
    #[value(name = "msrp-1m-64k")]
    #[serde(rename = "msrp-1m-64k")]
    Msrp1m,
}

/// What a job says in sessions.
struct Shape {
    pairs: usize,
    in_flight: usize,
    body_bytes: u64,
    chunk_bytes: usize,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The blind relay: the limit
    Relay,
    /// Kamailio without transactions
    KamailioStateless,
    /// Kamailio with what the job needs: transactions, or digest in memory, or msilo on SQLite
    Kamailio,
    /// Our server
    Parlour,
}

/// `parlour-load compare`
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Our server's program
    #[arg(long, value_name = "FILE", default_value = "target/release/parlour")]
    pub parlour: PathBuf,
    /// More lines of its configuration, TOML; they follow those of [limits]
    #[arg(long, value_name = "TOML", default_value = "")]
    pub parlour_config: String,
    /// How Kamailio is started: `SCRIPT JOB PORT DIRECTORY`
    #[arg(long, value_name = "FILE", default_value = "benches/peers/kamailio.sh")]
    pub kamailio: PathBuf,
    /// What is measured [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub jobs: Vec<Job>,
    /// Who is measured [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub targets: Vec<Target>,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of steady state in each
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Users
    #[arg(long, default_value_t = 1_000)]
    pub users: usize,
    /// Units under way at once
    #[arg(long, default_value_t = 64)]
    pub in_flight: usize,
    /// In sessions only the callers speak, with all that may be under way; else both, with half of it each
    #[arg(long)]
    pub one_way: bool,
    /// Letters of one deferred run
    #[arg(long, default_value_t = 30_000)]
    pub letters: u64,
    /// The core of the servers
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// The core of this process
    #[arg(long, default_value_t = 1)]
    pub driver_core: usize,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Below it servers keep their data, for as long as this lasts: on the disk that a server would use, for letters are
    /// synced to it [default: where the system keeps what is temporary]
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir(), hide_default_value = true)]
    pub dir: PathBuf,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured, the part of the job included.
    pub job: String,
    /// Of whom.
    pub target: Target,
    /// Microseconds of processor time a unit: the median of all rounds.
    pub cpu_us: f64,
    /// The median of the ratios to the relay within each round; nothing where it did not run.
    pub ratio: Option<f64>,
    /// Every round's figure.
    pub rounds_us: Vec<f64>,
    /// Units a second, the median.
    pub per_second: f64,
    /// Percent of its core that the server used, the median: below 95 it was not saturated.
    pub busy_percent: f64,
    /// Median latency, milliseconds; the median of all rounds. Of the relay's halves nothing.
    pub p50_ms: Option<f64>,
    /// Nanoseconds of processor time an octet of body, the median; of sessions only.
    pub ns_per_octet: Option<f64>,
    /// Errors, losses and doubles in all rounds.
    pub errors: u64,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The table.
    pub rows: Vec<Row>,
    /// What could not be run, and why.
    pub skipped: Vec<String>,
}

/// What one run of one server gave for one row.
#[derive(Debug, Clone, Copy)]
struct Figure {
    cpu_us: f64,
    per_second: f64,
    busy_percent: f64,
    p50_ms: Option<f64>,
    ns_per_octet: Option<f64>,
    errors: u64,
}

type Figures = BTreeMap<(String, Target), Vec<Figure>>;

/// Runs all rounds; `tell` hears of each step.
///
/// # Errors
/// A program that cannot be started at all; a run that cannot be made.
pub fn run(options: &Options, tell: impl Fn(&str)) -> Result<Comparison, scenario::RunError> {
    let house = House::build(options)?;
    let all_jobs = <Job as clap::ValueEnum>::value_variants();
    let all_targets = [Target::Relay, Target::KamailioStateless, Target::Kamailio, Target::Parlour];
    let jobs = if options.jobs.is_empty() { all_jobs } else { &options.jobs };
    let targets = if options.targets.is_empty() { &all_targets[..] } else { &options.targets };
    let (mut figures, mut skipped) = (Figures::new(), Vec::new());
    if measure::is_in_memory(&options.dir) && jobs.contains(&Job::Deferred) {
        tell(&format!("{} is no disk: what letters cost is too little (name one with --dir)", options.dir.display()));
    }
    for round in 1..=options.rounds {
        for &job in jobs {
            for &target in targets.iter().filter(|target| job.concerns(**target)) {
                if let Some(why) = house.lacks(target) {
                    if round == 1 && !skipped.contains(&why) {
                        tell(&why);
                        skipped.push(why);
                    }
                    continue;
                }
                let report = house.play(job, target)?;
                for (row, figure) in figures_of(job, target, &report) {
                    let octets = figure.ns_per_octet.map_or(String::new(), |ns| format!("{ns:.3} ns/octet, "));
                    tell(&format!(
                        "round {round}: {row:<18} {target:<19} {:7.2} µs, {octets}{:.0}/s, {:.0} % busy, {} errors",
                        figure.cpu_us,
                        figure.per_second,
                        figure.busy_percent,
                        figure.errors,
                        target = target.name()
                    ));
                    figures.entry((row, target)).or_default().push(figure);
                }
            }
        }
    }
    Ok(Comparison { rows: rows(&figures), skipped })
}

impl Job {
    fn concerns(self, target: Target) -> bool {
        match target {
            Target::KamailioStateless => matches!(self, Self::PagerUdp | Self::PagerUdpOne),
            // It relays frames of at most about 10 KiB.
            Target::Kamailio => self != Self::Msrp1m,
            Target::Relay | Target::Parlour => true,
        }
    }

    fn shape(self) -> Option<Shape> {
        let (pairs, in_flight, body_bytes, chunk_bytes) = match self {
            Self::Msrp4x16 => (4, 16, 300, 2_048),
            Self::Msrp64x1 => (64, 1, 300, 2_048),
            Self::Msrp64k => (4, 64, 65_536, 2_048),
            Self::Msrp1m => (4, 16, 1_048_576, 65_536),
            _ => return None,
        };
        Some(Shape { pairs, in_flight, body_bytes, chunk_bytes })
    }

    /// The port of a server that is waited for: sessions reach a relay over TCP, our server by SIP first.
    fn door(self, target: Target) -> Transport {
        if self.shape().is_some() && target != Target::Parlour { Transport::Tcp } else { self.transport() }
    }

    fn transport(self) -> Transport {
        if matches!(self, Self::PagerTcp64 | Self::PagerTcp4) { Transport::Tcp } else { Transport::Udp }
    }

    fn name(self) -> &'static str {
        match self {
            Self::PagerUdp => "pager-udp",
            Self::PagerUdpOne => "pager-udp-one",
            Self::PagerTcp64 => "pager-tcp-64",
            Self::PagerTcp4 => "pager-tcp-4",
            Self::Register => "register",
            Self::Deferred => "deferred",
            Self::Msrp4x16 => "msrp-300-4x16",
            Self::Msrp64x1 => "msrp-300-64x1",
            Self::Msrp64k => "msrp-64k-2k",
            Self::Msrp1m => "msrp-1m-64k",
        }
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Relay => "blind relay",
            Self::KamailioStateless => "Kamailio stateless",
            Self::Kamailio => "Kamailio",
            Self::Parlour => "Parlour",
        }
    }
}

/// The rows of one run. What the relay passes on for one message is two letters' worth.
fn figures_of(job: Job, target: Target, report: &Report) -> Vec<(String, Figure)> {
    let lost = report.balance.as_ref().map_or(0, |balance| balance.missing + balance.doubled);
    let said = report.sessions.as_ref().map_or(0, |tally| tally.errors() + tally.missing);
    let errors = report.errors + lost + report.faults.garbled + said;
    let figure = |at: usize, share: f64| {
        let stage = report.stages.get(at)?;
        let cost = stage.server.as_ref()?;
        Some(Figure {
            cpu_us: cost.cpu_us_per_unit * share,
            per_second: stage.per_second / share,
            busy_percent: cost.busy_percent,
            p50_ms: stage.latency.as_ref().filter(|_| share >= 1.0).map(|latency| latency.p50_ms),
            ns_per_octet: stage.ns_per_octet,
            errors,
        })
    };
    let rows = match (job, target) {
        (Job::Deferred, Target::Relay) => vec![("stored", figure(0, 0.5)), ("delivered", figure(0, 0.5))],
        (Job::Deferred, _) => vec![("stored", figure(0, 1.0)), ("delivered", figure(1, 1.0))],
        _ => vec![(job.name(), figure(0, 1.0))],
    };
    rows.into_iter().filter_map(|(row, figure)| Some((row.to_owned(), figure?))).collect()
}

/// The lines of the table, in this order.
const ROWS: [&str; 11] = [
    "pager-udp",
    "pager-udp-one",
    "pager-tcp-64",
    "pager-tcp-4",
    "register",
    "stored",
    "delivered",
    "msrp-300-4x16",
    "msrp-300-64x1",
    "msrp-64k-2k",
    "msrp-1m-64k",
];

fn rows(figures: &Figures) -> Vec<Row> {
    let mut rows: Vec<Row> = figures
        .iter()
        .map(|((job, target), all)| {
            let middle = |of: fn(&Figure) -> f64| median(all.iter().map(of));
            let limits = figures.get(&(job.clone(), Target::Relay));
            let ratio =
                limits.map(|limits| median(all.iter().zip(limits).map(|(one, limit)| one.cpu_us / limit.cpu_us)));
            let latencies: Vec<f64> = all.iter().filter_map(|figure| figure.p50_ms).collect();
            let octets: Vec<f64> = all.iter().filter_map(|figure| figure.ns_per_octet).collect();
            Row {
                job: job.clone(),
                target: *target,
                cpu_us: middle(|figure| figure.cpu_us),
                ratio,
                rounds_us: all.iter().map(|figure| figure.cpu_us).collect(),
                per_second: middle(|figure| figure.per_second),
                busy_percent: middle(|figure| figure.busy_percent),
                p50_ms: (!latencies.is_empty()).then(|| median(latencies)),
                ns_per_octet: (!octets.is_empty()).then(|| median(octets)),
                errors: all.iter().map(|figure| figure.errors).sum(),
            }
        })
        .collect();
    rows.sort_by_key(|row| ROWS.iter().position(|job| *job == row.job));
    rows
}

impl Comparison {
    /// For a person.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{:<14} {:<19} {:>9} {:>9} {:>15} {:>10} {:>7} {:>9} {:>7} {:>7}",
            "job", "server", "µs CPU", "× limit", "rounds", "a second", "busy %", "p50 ms", "ns/oct", "errors"
        )?;
        for row in &self.rows {
            let least = row.rounds_us.iter().copied().fold(f64::INFINITY, f64::min);
            let most = row.rounds_us.iter().copied().fold(0.0, f64::max);
            writeln!(
                out,
                "{:<14} {:<19} {:>9.2} {:>9} {:>15} {:>10.0} {:>7.0} {:>9} {:>7} {:>7}",
                row.job,
                row.target.name(),
                row.cpu_us,
                row.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
                format!("{least:.2}–{most:.2}"),
                row.per_second,
                row.busy_percent,
                row.p50_ms.map_or("–".to_owned(), |ms| format!("{ms:.3}")),
                row.ns_per_octet.map_or("–".to_owned(), |ns| format!("{ns:.3}")),
                row.errors
            )?;
        }
        self.skipped.iter().try_for_each(|why| writeln!(out, "{why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(cpu_us: f64) -> Figure {
        Figure {
            cpu_us,
            per_second: 1e6 / cpu_us,
            busy_percent: 99.0,
            p50_ms: Some(0.5),
            ns_per_octet: None,
            errors: 1,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_medians_over_the_rounds() {
        // The machine was twice as slow in the second round: absolute times say little, ratios say it all.
        let all = |us: [f64; 3]| us.into_iter().map(figure).collect::<Vec<_>>();
        let figures = Figures::from([
            (("pager-udp".to_owned(), Target::Relay), all([7.0, 14.0, 7.2])),
            (("pager-udp".to_owned(), Target::Parlour), all([8.4, 16.8, 8.64])),
        ]);
        let rows = rows(&figures);
        let ours = rows.iter().find(|row| row.target == Target::Parlour).unwrap();
        assert!((ours.ratio.unwrap() - 1.2).abs() < 1e-9);
        assert!((ours.cpu_us - 8.64).abs() < 1e-9);
        assert_eq!((ours.errors, ours.rounds_us.len()), (3, 3));
        let text = Comparison { rows, skipped: vec!["Kamailio is left out".into()] }.text();
        assert!(text.contains("1.20") && text.contains("8.40–16.80") && text.contains("left out"), "{text}");
    }
}
