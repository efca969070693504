//! What a process costs, read from `/proc` while it runs: processor time to the nanosecond, and memory.
//!
//! Processor time is the first number of `/proc/PID/task/TID/schedstat`, of every thread of the process and of its
//! descendants (a peer that forks workers pays for them too). A thread that ends between two looks takes with it what
//! it spent since the first.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// A thread, by process and thread id.
type Thread = (u32, u32);

/// One look at a process and its descendants.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    threads: BTreeMap<Thread, (String, u64)>,
    /// Resident memory of all of them, octets; pages that they share are counted for each.
    pub rss_bytes: u64,
}

/// Processor time between two looks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Spent {
    /// Of all threads, nanoseconds.
    pub cpu_ns: u64,
    /// The same by the name of the thread, the dearest first.
    pub by_name: Vec<(String, u64)>,
}

impl Usage {
    /// Looks at process `pid` and all that it started.
    ///
    /// # Errors
    /// There is no such process, or the kernel keeps no `schedstat`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut usage = Self::default();
        usage.add(pid)?;
        for child in descendants(pid)? {
            // It may have ended meanwhile.
            let _ = usage.add(child);
        }
        Ok(usage)
    }

    /// Looks at this process alone.
    ///
    /// # Errors
    /// The kernel keeps no `schedstat`.
    pub fn own() -> io::Result<Self> {
        let mut usage = Self::default();
        usage.add(std::process::id())?;
        Ok(usage)
    }

    fn add(&mut self, pid: u32) -> io::Result<()> {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            let Some(tid) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(path.join("schedstat")) else { continue };
            let ns = stat.split(' ').next().and_then(|ns| ns.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            self.threads.insert((pid, tid), (name.trim_end().to_owned(), ns));
        }
        self.rss_bytes += rss_bytes(pid)?;
        Ok(())
    }

    /// What was spent since an `earlier` look.
    pub fn since(&self, earlier: &Self) -> Spent {
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (thread, (name, ns)) in &self.threads {
            let before = earlier.threads.get(thread).map_or(0, |(_, ns)| *ns);
            *by_name.entry(name).or_default() += ns.saturating_sub(before);
        }
        let mut by_name: Vec<_> =
            by_name.into_iter().filter(|(_, ns)| *ns > 0).map(|(name, ns)| (name.to_owned(), ns)).collect();
        by_name.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        Spent { cpu_ns: by_name.iter().map(|(_, ns)| ns).sum(), by_name }
    }
}

/// Resident memory of one process, octets.
///
/// # Errors
/// There is no such process.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024)
}

/// Children, their children and so on.
///
/// # Errors
/// There is no `/proc`.
pub fn descendants(root: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // proc(5): pid (comm) state ppid …; comm may hold anything, so the last parenthesis counts.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let (mut found, mut at) = (vec![root], 0);
    while let Some(&one) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    Ok(found)
}

/// Whether a directory lies in memory: nothing that is synced there waits for a disk.
pub fn is_in_memory(dir: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // proc_pid_mounts(5): device, place, kind; of those above the directory the longest holds, and of equals the last.
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        dir.starts_with(place).then_some((place.len(), kind))
    });
    above.max_by_key(|(length, _)| *length).is_some_and(|(_, kind)| matches!(kind, "tmpfs" | "ramfs"))
}

/// Pins all threads of this process that are started from now on, and the calling one, to a core.
///
/// # Errors
/// There is no such core, or we may not use it.
pub fn pin_to(core: usize) -> io::Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

/// Asks for as many open files as we may have: a connection each.
pub fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, opening the one too many says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Lets the calling thread sleep to the microsecond: the kernel's default is to wake it up to 50 µs late.
pub fn sleep_precisely() {
    // Where it is refused, arrivals come a little later, and the latency shows it.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    struct Busy(Child);

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn spent_in(child: &Busy, time: Duration) -> (Spent, Duration) {
        let (before, begun) = (Usage::of(child.0.id()).unwrap(), Instant::now());
        std::thread::sleep(time);
        (Usage::of(child.0.id()).unwrap().since(&before), begun.elapsed())
    }

    #[test]
    fn a_busy_child_costs_time_and_an_idle_one_none() {
        let busy = Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
        let idle = Busy(Command::new("sleep").arg("60").spawn().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        let (spent, time) = spent_in(&busy, Duration::from_millis(400));
        assert!(spent.cpu_ns > 20_000_000, "{spent:?}");
        assert!(spent.cpu_ns <= u64::try_from(time.as_nanos()).unwrap() + 20_000_000, "{spent:?} in {time:?}");
        assert_eq!(spent.by_name[0].0, "sh");
        assert!(spent_in(&idle, Duration::from_millis(50)).0.cpu_ns < 1_000_000);
        let usage = Usage::of(idle.0.id()).unwrap();
        assert!((100_000..100_000_000).contains(&usage.rss_bytes), "{}", usage.rss_bytes);
    }

    #[test]
    fn what_a_child_started_is_counted_with_it() {
        let parent =
            Busy(Command::new("sh").args(["-c", "timeout 20 sh -c 'while :; do :; done' 2>&-; true"]).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(descendants(parent.0.id()).unwrap().len(), 2);
        let (spent, _) = spent_in(&parent, Duration::from_millis(300));
        assert!(spent.cpu_ns > 20_000_000, "{spent:?}");
        // Ends the loop at once, not after its 20 s.
        for child in descendants(parent.0.id()).unwrap() {
            let _ = Command::new("kill").arg(child.to_string()).stderr(std::process::Stdio::null()).status();
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Usage::of(u32::MAX).is_err());
    }

    #[test]
    fn what_lies_in_memory_is_no_disk() {
        assert!(!is_in_memory(Path::new("/proc")));
        if fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| mounts.contains(" /dev/shm tmpfs ")) {
            assert!(is_in_memory(Path::new("/dev/shm")));
        }
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error() {
        assert!(pin_to(1_000).is_err());
        assert!(pin_to(usize::MAX).is_err());
    }
}
