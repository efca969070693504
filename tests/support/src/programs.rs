//! Programs of others that tests meet: sipp, linphonec, baresip, tshark.

use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where a program is. Nothing when the test has to be skipped, which is said loudly on standard error.
///
/// With `PARLOUR_FAST=1` (`cargo xtask test --fast`) there are no programs.
///
/// # Panics
/// When it is missing and `CI=true`: a skipped test proves nothing there.
pub fn find(program: &str) -> Option<PathBuf> {
    let is_set = |name: &str| std::env::var(name).is_ok_and(|value| value == "1" || value == "true");
    if is_set("PARLOUR_FAST") {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        assert!(!is_set("CI"), "{program} is not installed; `cargo xtask test` as root installs it");
        eprintln_loudly(program);
    }
    found
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// Nothing when its time was over and it was killed.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end, or kills it when its time is over. What it writes goes through files: a full pipe stops
/// nobody.
///
/// # Panics
/// When it does not start.
pub fn run(command: &mut Command, within: Duration) -> Finished {
    let (mut out, mut err) = (file(), file());
    let clone = |file: &std::fs::File| Stdio::from(file.try_clone().expect("a file has a second handle"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(clone(&out))
        .stderr(clone(&err))
        .spawn()
        .unwrap_or_else(|fault| panic!("{}: {fault}", command.get_program().to_string_lossy()));
    let end = Instant::now() + within;
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break Some(status),
            None if Instant::now() > end => {
                let _ = child.kill(); // it may have ended just now
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    Finished { status, stdout: text(&mut out), stderr: text(&mut err) }
}

fn file() -> std::fs::File {
    tempfile::tempfile().expect("the temporary folder takes a file")
}

fn text(file: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what was written can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[allow(clippy::print_stderr, reason = "who reads the test's output must see what was not tried")]
fn eprintln_loudly(program: &str) {
    eprintln!("\n==== SKIPPED: {program} is not installed (`cargo xtask test` as root installs it) ====\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_run_to_its_end_or_to_the_end_of_its_time() {
        let done = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), Duration::from_secs(10));
        assert_eq!(
            (done.status.unwrap().code(), done.stdout.as_str(), done.stderr.as_str()),
            (Some(3), "out\n", "err\n")
        );
        let killed = run(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert!(killed.status.is_none());
    }
}
