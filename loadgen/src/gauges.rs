//! What the server says of itself while it is pressed: how much waits in its queues, and its memory, read from the
//! `/metrics` of its admin port beside each look at its memory.
//!
//! A thread of its own asks: the crowd waits for no answer. Which gauges there are the page says: those of queues are
//! known by their names.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use serde::Serialize;

use crate::report::median;

/// How long the admin port may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks that are asked for and not answered; further ones are missed.
const ASKED: usize = 4;
/// Octets of a page that are read.
const PAGE: u64 = 4 << 20;

/// What gauges say of memory.
const MEMORY: [&str; 2] = ["parlour_store_memory_bytes", "process_resident_memory_bytes"];

/// One reading of the page.
struct Look {
    at_s: f64,
    /// Nothing where nobody answered.
    values: Option<Vec<(String, f64)>>,
}

/// Who asks.
pub struct Asker {
    ask: SyncSender<f64>,
    told: Receiver<Look>,
    gauges: Gauges,
}

/// All readings of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Gauges {
    /// When each was taken, seconds since the run began.
    pub at_s: Vec<f64>,
    /// How often nobody answered in time.
    pub missed: u64,
    /// A line for each gauge, by name.
    pub series: Vec<Series>,
}

/// One gauge over a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Its name with its labels, as the page has it.
    pub name: String,
    /// What it was first.
    pub first: f64,
    /// What it was last.
    pub last: f64,
    /// The most that it was.
    pub max: f64,
    /// What it was each time; nothing where the page did not have it.
    pub values: Vec<Option<f64>>,
}

/// `HOST:PORT` of an admin port, as people write it.
///
/// # Errors
/// Why it is none.
pub fn place_of(url: &str) -> Result<String, String> {
    if url.starts_with("https://") {
        return Err(format!("{url:?} is HTTPS: the admin port speaks HTTP"));
    }
    let place = url.strip_prefix("http://").unwrap_or(url);
    let place = place.split('/').next().unwrap_or_default();
    match place.to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(_)) => Ok(place.to_owned()),
        Ok(None) => Err(format!("{place:?} has no address")),
        Err(error) => Err(format!("{url:?} is no http://HOST:PORT ({error})")),
    }
}

impl Asker {
    /// Of the admin port at `place`, `HOST:PORT`. With `must_answer` it is asked once before it starts.
    ///
    /// # Errors
    /// Nobody answers as an admin port does.
    pub fn new(place: &str, must_answer: bool) -> io::Result<Self> {
        if must_answer {
            read(place).map_err(|error| {
                let what = format!("http://{place}/metrics: {error} (admin is the address of [admin] listen)");
                io::Error::new(error.kind(), what)
            })?;
        }
        let (ask, asked) = sync_channel(ASKED);
        let (tell, told) = channel();
        let place = place.to_owned();
        std::thread::Builder::new().name("gauges".to_owned()).spawn(move || {
            while let Ok(at_s) = asked.recv() {
                let values = read(&place).ok();
                if tell.send(Look { at_s, values }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, told, gauges: Gauges::default() })
    }

    /// Asks now.
    pub fn ask(&mut self, at_s: f64) {
        while let Ok(look) = self.told.try_recv() {
            self.gauges.add(look);
        }
        if self.ask.try_send(at_s).is_err() {
            self.gauges.missed += 1;
        }
    }

    /// What was heard, the last answer too.
    pub fn finish(self) -> Gauges {
        let Self { ask, told, mut gauges } = self;
        drop(ask);
        // The thread ends with its last answer.
        for look in told {
            gauges.add(look);
        }
        gauges
    }
}

impl Gauges {
    fn add(&mut self, Look { at_s, values }: Look) {
        let Some(values) = values else {
            self.missed += 1;
            return;
        };
        let before = self.at_s.len();
        self.at_s.push(at_s);
        for (name, value) in values {
            let at = match self.series.binary_search_by(|series| series.name.cmp(&name)) {
                Ok(at) => at,
                Err(at) => {
                    self.series.insert(at, Series::new(name, value, before));
                    at
                }
            };
            let series = &mut self.series[at];
            series.values.resize(before, None);
            series.values.push(Some(value));
            (series.last, series.max) = (value, series.max.max(value));
        }
    }

    /// Whether anything was heard.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// By how much the queue that has grown most is deeper in the last tenth of the run than in its first: medians.
    /// Nothing with fewer than ten looks.
    pub fn queue_growth(&self) -> Option<f64> {
        let tenth = self.at_s.len() / 10;
        if tenth == 0 {
            return None;
        }
        let depth = |values: &[Option<f64>]| median(values.iter().flatten().copied());
        let grown = self.series.iter().filter(|series| is_queue(&series.name)).map(|series| {
            let late = series.values.get(self.at_s.len() - tenth..).unwrap_or_default();
            depth(late) - depth(&series.values[..tenth.min(series.values.len())])
        });
        grown.max_by(f64::total_cmp).map(|most| most.max(0.0))
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut out = format!("the server's own gauges, {} looks", self.at_s.len());
        if self.missed > 0 {
            let _ = write!(out, " ({} without an answer)", self.missed);
        }
        let _ = writeln!(out, "{:>24} {:>10} {:>10}", "first", "last", "max");
        for series in &self.series {
            let mib = series.name.contains("_bytes");
            let shown = |value: f64| if mib { format!("{:.1} MiB", value / 1_048_576.0) } else { format!("{value}") };
            let (first, last, max) = (shown(series.first), shown(series.last), shown(series.max));
            // Writing to a String does not fail.
            let _ = writeln!(out, "  {:<52} {first:>10} {last:>10} {max:>10}", series.name);
        }
        out
    }
}

impl Series {
    fn new(name: String, value: f64, before: usize) -> Self {
        Self { name, first: value, last: value, max: value, values: vec![None; before] }
    }
}

fn is_queue(name: &str) -> bool {
    let name = name.split('{').next().unwrap_or_default();
    name.starts_with("parlour_") && (name.contains("_depth") || name.contains("_queue"))
}

/// Reads the page once.
fn read(place: &str) -> io::Result<Vec<(String, f64)>> {
    let address = place.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {place}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(PAGE).read_to_string(&mut answer)?;
    let fault = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (head, page) = answer.split_once("\r\n\r\n").ok_or_else(|| fault("no HTTP answer"))?;
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(fault(&format!("it answered {first:?}")));
    }
    let values = gauges_of(page);
    if values.is_empty() { Err(fault("no gauges of queues or memory there")) } else { Ok(values) }
}

/// The gauges of queues and memory of a page in the text format of Prometheus.
fn gauges_of(page: &str) -> Vec<(String, f64)> {
    let mut is_gauge = false;
    page.lines()
        .filter_map(|line| {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                is_gauge = kind.ends_with(" gauge");
            }
            if !is_gauge || line.starts_with('#') {
                return None;
            }
            // A label may hold blanks; a number does not.
            let (name, value) = line.rsplit_once(' ')?;
            let bare = name.split('{').next().unwrap_or_default();
            (is_queue(name) || MEMORY.contains(&bare)).then(|| Some((name.to_owned(), value.parse().ok()?)))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc::TryRecvError;

    const PAGE: &str = "# HELP parlour_store_commit_queue Commits that wait.\n# TYPE parlour_store_commit_queue gauge\n\
        parlour_store_commit_queue 3\n# TYPE parlour_mailbox_depth gauge\nparlour_mailbox_depth{part=\"shard 0 users\"} 2\n\
        # TYPE parlour_queue_full_total counter\nparlour_queue_full_total 9\n# TYPE parlour_users_known gauge\n\
        parlour_users_known 7\n# TYPE parlour_store_memory_bytes gauge\nparlour_store_memory_bytes{part=\"memtables\"} 1048576\n\
        # TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 2.5e7\n";

    fn looks(values: impl IntoIterator<Item = f64>) -> Gauges {
        let mut gauges = Gauges::default();
        for (at, value) in values.into_iter().enumerate() {
            let values = Some(vec![("parlour_mailbox_depth{part=\"a b\"}".to_owned(), value)]);
            gauges.add(Look { at_s: at as f64, values });
        }
        gauges
    }

    #[test]
    fn gauges_of_queues_and_memory_are_known_by_their_names() {
        let names: Vec<_> = gauges_of(PAGE).into_iter().collect();
        let wanted = [
            ("parlour_store_commit_queue", 3.0),
            ("parlour_mailbox_depth{part=\"shard 0 users\"}", 2.0),
            ("parlour_store_memory_bytes{part=\"memtables\"}", 1_048_576.0),
            ("process_resident_memory_bytes", 25_000_000.0),
        ];
        assert_eq!(names, wanted.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn a_queue_that_is_deeper_at_the_end_is_found_and_one_that_had_a_peak_is_not() {
        assert_eq!(looks((0..100).map(f64::from)).queue_growth(), Some(90.0));
        assert_eq!(looks((0..100).map(|n| if n == 50 { 1e6 } else { 4.0 })).queue_growth(), Some(0.0));
        assert_eq!(looks((0..100).rev().map(f64::from)).queue_growth(), Some(0.0));
        assert_eq!(looks((0..9).map(f64::from)).queue_growth(), None, "too few to say");
        // One that comes later is counted from nothing.
        let mut late = looks([0.0; 30]);
        for at in 30..40 {
            late.add(Look { at_s: f64::from(at), values: Some(vec![("parlour_x_queue".to_owned(), 50.0)]) });
        }
        assert_eq!(late.queue_growth(), Some(50.0));
        let memory = Some(vec![("process_resident_memory_bytes".to_owned(), 1e9)]);
        late.add(Look { at_s: 41.0, values: memory });
        assert_eq!(late.queue_growth(), Some(50.0), "memory is no queue");
    }

    #[test]
    fn first_last_and_most_are_shown() {
        let mut gauges = looks([1.0, 9.0, 5.0]);
        gauges.add(Look { at_s: 3.0, values: None });
        let Series { first, last, max, .. } = &gauges.series[0];
        assert_eq!((*first, *last, *max, gauges.missed), (1.0, 5.0, 9.0, 1));
        let text = gauges.text();
        assert!(text.contains("3 looks (1 without an answer)") && text.contains("part=\"a b\"}"), "{text}");
    }

    #[test]
    fn an_admin_port_is_written_in_several_ways() {
        for url in ["http://127.0.0.1:9090", "127.0.0.1:9090", "http://127.0.0.1:9090/metrics"] {
            assert_eq!(place_of(url).as_deref(), Ok("127.0.0.1:9090"), "{url}");
        }
        for url in ["https://127.0.0.1:9090", "nowhere", "http://127.0.0.1"] {
            assert!(place_of(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_page_is_asked_for_beside_the_run_and_who_does_not_answer_is_counted() {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = door.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            for answer in ["200 OK", "200 OK", "503 Service Unavailable"] {
                let (mut stream, _) = door.accept().unwrap();
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    let mut more = [0; 512];
                    let count = stream.read(&mut more).unwrap();
                    asked.extend_from_slice(&more[..count]);
                }
                assert!(asked.starts_with(b"GET /metrics HTTP/1.0\r\n"));
                write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: {}\r\n\r\n{PAGE}", PAGE.len()).unwrap();
            }
        });
        let mut asker = Asker::new(&place, true).unwrap();
        asker.ask(1.0);
        asker.ask(2.0);
        let gauges = asker.finish();
        server.join().unwrap();
        assert_eq!((gauges.at_s.as_slice(), gauges.missed, gauges.series.len()), (&[1.0][..], 1, 4));
        let error = Asker::new(&place, true).err().unwrap().to_string();
        assert!(error.contains(&place) && error.contains("[admin] listen"), "{error}");
    }

    #[test]
    fn who_asks_and_is_told_nothing_waits_for_nobody() {
        let (ask, _asked) = sync_channel(1);
        let (_tell, told) = channel();
        let mut asker = Asker { ask, told, gauges: Gauges::default() };
        (0..3).for_each(|at| asker.ask(f64::from(at)));
        assert_eq!(asker.gauges.missed, 2);
        assert!(matches!(asker.told.try_recv(), Err(TryRecvError::Empty)));
    }
}
