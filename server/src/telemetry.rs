//! What the house tells about itself: the log with a filter that can be changed, and the metrics' text.
//!
//! `TRACE` follows each message, `DEBUG` a turn off the happy path, `INFO` what an operator did or a user felt, `WARN`
//! what is worth waking for, `ERROR` a promise broken. The log goes to standard error.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// Why a text is no log filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// A piece that is neither a level nor a crate with one.
    #[error("{0:?} is neither a level (off, error, warn, info, debug, trace) nor a crate with one (net=debug)")]
    Piece(String),
    /// What the filter's own parser says.
    #[error("{0}")]
    Parse(String),
    /// A log that is there already.
    #[error("a log is there already")]
    Taken,
}

/// Reads a filter: `info`, `info,net=debug`, `warn,sip[turn]=trace`.
///
/// # Errors
/// Why it is none. A word alone must be a level: a misspelt one would else be taken for the name of a crate.
pub fn parse_filter(text: &str) -> Result<EnvFilter, FilterError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(FilterError::Empty);
    }
    for piece in pieces(text) {
        let (target, level) = piece.rsplit_once('=').map_or((None, piece), |(target, level)| (Some(target), level));
        let named = target.is_none_or(|target| {
            let name = target.split('[').next().unwrap_or(target);
            (!name.is_empty() || target.starts_with('['))
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b))
        });
        if !named || level.parse::<LevelFilter>().is_err() || level.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(FilterError::Piece(piece.to_owned()));
        }
    }
    let without_blanks = pieces(text).collect::<Vec<_>>().join(",");
    // The admin port's library tells of its threads at INFO, which is no operator's business: unless he names it.
    let quiet = if text.contains("actix") { "" } else { "actix_server=warn,actix_http=warn," };
    EnvFilter::builder()
        .parse(format!("{quiet}{without_blanks}"))
        .map_err(|error| FilterError::Parse(error.to_string()))
}

/// Split at commas that stand outside of brackets.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |letter| {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth <= 0
    })
    .map(str::trim)
}

type Swap = Box<dyn Fn(EnvFilter) -> Result<(), FilterError> + Send + Sync>;

/// Connections of the admin port that brought no HTTP.
static GARBAGE: AtomicU64 = AtomicU64::new(0);

/// Counts what the HTTP library complains about.
struct Garbage;

impl<S: Subscriber> Layer<S> for Garbage {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target().starts_with("actix_http") && *metadata.level() == Level::ERROR {
            GARBAGE.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Appends how many connections of the admin port brought no HTTP.
pub fn write_garbage(out: &mut String) {
    let help = "Connections of the admin port that brought no HTTP";
    metric(out, "parlour_admin_garbage_total", "counter", help, GARBAGE.load(Ordering::Relaxed));
}

/// The log, and its filter in force.
pub struct Log {
    text: Mutex<String>,
    swap: Swap,
}

impl Log {
    /// Starts the log of this process.
    ///
    /// # Errors
    /// The filter is none, or there is a log already.
    pub fn start(filter: &str) -> Result<Arc<Self>, FilterError> {
        let (layer, handle) = reload::Layer::<_, Registry>::new(parse_filter(filter)?);
        let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
        // What is no HTTP at the admin port is counted, not told: whoever can reach it could fill the disk with it.
        let lines = lines.with_filter(filter_fn(|metadata| !metadata.target().starts_with("actix_http")));
        tracing_subscriber::registry()
            .with(layer)
            .with(Garbage)
            .with(lines)
            .try_init()
            .map_err(|_| FilterError::Taken)?;
        let swap = move |new| handle.reload(new).map_err(|error| FilterError::Parse(error.to_string()));
        Ok(Arc::new(Self { text: Mutex::new(filter.trim().to_owned()), swap: Box::new(swap) }))
    }

    /// A filter that filters nothing: for tests, where the process has no log of its own.
    pub fn detached() -> Arc<Self> {
        Arc::new(Self { text: Mutex::new("info".to_owned()), swap: Box::new(|_| Ok(())) })
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        self.text.lock().clone()
    }

    /// Changes the filter, for every thread and from now on.
    ///
    /// # Errors
    /// It is none; the old one stays.
    pub fn set_filter(&self, text: &str) -> Result<(), FilterError> {
        let filter = parse_filter(text)?;
        let mut current = self.text.lock();
        (self.swap)(filter)?;
        *current = text.trim().to_owned();
        Ok(())
    }
}

/// Whoever has metrics: asked at each scrape, off the hot path.
pub trait Source: Send + Sync {
    /// Appends lines of the Prometheus text format. Names begin with `parlour_`; no user's address in a label.
    fn write(&self, out: &mut String);
}

impl<F: Fn(&mut String) + Send + Sync> Source for F {
    fn write(&self, out: &mut String) {
        self(out);
    }
}

/// Appends a metric of one value with its head lines. `kind` is `counter` or `gauge`.
pub fn metric(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    head(out, name, kind, help);
    _ = writeln!(out, "{name} {value}");
}

/// Appends the head lines of a metric; its samples follow.
pub fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Appends one sample with labels.
pub fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    out.push_str(name);
    for (at, (label, text)) in labels.iter().enumerate() {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        _ = write!(out, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
    }
    let close = if labels.is_empty() { "" } else { "}" };
    _ = writeln!(out, "{close} {value}");
}

/// What the kernel knows about this process.
pub struct Process;

/// Linux counts processor time in hundredths of a second towards programs, whatever its own clock does (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

impl Source for Process {
    fn write(&self, out: &mut String) {
        if let Some(bytes) = resident_bytes() {
            metric(out, "process_resident_memory_bytes", "gauge", "Resident memory.", bytes);
        }
        if let Some(seconds) = cpu_seconds() {
            metric(out, "process_cpu_seconds_total", "counter", "Processor time, user and system.", seconds);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // One of them is this directory itself.
            metric(out, "process_open_fds", "gauge", "Open files.", files.count().saturating_sub(1));
        }
        head(out, "parlour_build_info", "gauge", "Which build this is.");
        let labels = [("version", crate::version::VERSION), ("commit", crate::version::COMMIT)];
        sample(out, "parlour_build_info", &labels, 1);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may hold blanks: fields are counted behind its closing parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<f64>().ok()?, fields.next()?.parse::<f64>().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_and_crates_with_levels() {
        for good in
            ["info", "warn", "off", "DEBUG", "info,net=debug", "warn, actors::user=trace", "info,sip[turn{id=7}]=trace"]
        {
            assert!(parse_filter(good).is_ok(), "{good}: {:?}", parse_filter(good).err());
        }
        for bad in ["", " ", "inof", "net", "info,,warn", "net=loud", "=debug", "\0 = no filter =", "info,net=", "3"] {
            assert!(parse_filter(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_filter_that_is_none_leaves_the_old_one() {
        let log = Log::detached();
        log.set_filter("info,net=debug\n").unwrap();
        assert!(log.set_filter("nonsense").is_err());
        assert_eq!(log.filter(), "info,net=debug");
    }

    #[test]
    fn the_process_tells_its_memory_its_time_and_its_files() {
        let mut out = String::new();
        Process.write(&mut out);
        for name in
            ["process_resident_memory_bytes ", "process_cpu_seconds_total ", "process_open_fds ", "parlour_build_info{"]
        {
            assert!(out.lines().any(|line| line.starts_with(name)), "{name} in {out}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut out = String::new();
        sample(&mut out, "parlour_x_total", &[("a", "q\"\\\n"), ("b", "c")], 7);
        assert_eq!(out, "parlour_x_total{a=\"q\\\"\\\\\\n\",b=\"c\"} 7\n");
    }
}
