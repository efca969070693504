//! What a process costs, as the kernel tells it.

use std::fs;
use std::time::Duration;

/// Resident memory, in bytes.
///
/// # Panics
/// When there is no such process.
pub fn rss_bytes(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{path}: {fault}"));
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("{path} tells no VmRSS")) * 1024
}

/// CPU time of all its threads that still live, from the scheduler's own count (finer than ticks).
///
/// # Panics
/// When there is no such process.
pub fn cpu(pid: u32) -> Duration {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).unwrap_or_else(|fault| panic!("{path}: {fault}"));
    let spent = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?; // a thread may end meanwhile
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.flatten().filter_map(spent).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_to_work_and_to_grow() {
        let us = std::process::id();
        let (cpu_before, rss_before) = (cpu(us), rss_bytes(us));
        let mut block = vec![0u8; 64 << 20];
        for round in 0..8u8 {
            block.iter_mut().for_each(|byte| *byte = byte.wrapping_add(round | 1));
        }
        assert!(rss_bytes(us) >= rss_before + (60 << 20), "{} bytes", block.len());
        assert!(cpu(us) > cpu_before);
    }
}
