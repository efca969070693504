//! Programs of others that tests meet: sipp, linphonec, baresip, tshark, dnsmasq.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where a program is. Nothing when the test has to be skipped, which is said loudly on standard error.
///
/// With `PARLOUR_FAST=1` (`cargo xtask test --fast`) there are no programs.
///
/// # Panics
/// When it is missing and `CI=true`: a skipped test proves nothing there.
pub fn find(program: &str) -> Option<PathBuf> {
    if is_set("PARLOUR_FAST") {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where servers stand is not in everybody's path.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.into_iter().map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{program} is not installed (`cargo xtask test` as root installs it)"));
    }
    found
}

/// Says loudly that a test is skipped, and why.
///
/// # Panics
/// Where `CI=true`: a skipped test proves nothing there.
pub fn skip(why: &str) {
    assert!(!is_set("CI"), "{why}");
    eprintln_loudly(why);
}

/// Says loudly that a test is skipped because this user may not do what it needs (mount, capture): no installation
/// changes that, so it is no failure where `CI=true` either.
pub fn not_allowed(why: &str) {
    eprintln_loudly(why);
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value == "1" || value == "true")
}

/// A program that runs beside the test, is spoken to by its standard input, and writes to a file that can be read
/// meanwhile. Dropped, it is killed; when the test has failed, what it wrote is shown.
#[derive(Debug)]
pub struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    output: tempfile::NamedTempFile,
}

impl Talk {
    /// Starts it, line by line: what it writes is to be read before it ends.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(command: &Command) -> Self {
        let output = tempfile::NamedTempFile::new().expect("the temporary folder takes a file");
        let clone = || File::options().append(true).open(output.path()).expect("our own file can be opened");
        let mut lines = Command::new("stdbuf");
        lines.args(["--output=L", "--error=L"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            value.map(|value| lines.env(name, value));
        }
        if let Some(folder) = command.get_current_dir() {
            lines.current_dir(folder);
        }
        let child = lines.stdin(Stdio::piped()).stdout(clone()).stderr(clone()).spawn();
        let mut child = child.unwrap_or_else(|fault| panic!("{}: {fault}", command.get_program().to_string_lossy()));
        let input = child.stdin.take();
        Self { child, input, output }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line.
    ///
    /// # Panics
    /// When it does not read any more.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is open until the end");
        writeln!(input, "{line}")
            .unwrap_or_else(|fault| panic!("it does not hear {line:?}: {fault}\n{}", self.written()));
    }

    /// What it has written so far.
    pub fn written(&self) -> String {
        std::fs::read(self.output.path()).map(|all| String::from_utf8_lossy(&all).into_owned()).unwrap_or_default()
    }

    /// Waits until it has written this.
    ///
    /// # Panics
    /// When it has not in time, or has ended without.
    pub fn wait_for(&mut self, text: &str, within: Duration) {
        let end = Instant::now() + within;
        loop {
            let ended = self.child.try_wait().expect("a child can be waited for");
            if self.written().contains(text) {
                return;
            }
            assert!(ended.is_none(), "it ended ({ended:?}) and never wrote {text:?}");
            assert!(Instant::now() < end, "it did not write {text:?} in {within:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Closes its input and waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        self.input = None;
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < end, "it did not end in {within:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
        if std::thread::panicking() {
            show(&self.written());
        }
    }
}

#[allow(clippy::print_stderr, reason = "who reads a failed test needs what the program said")]
pub(crate) fn show(words: &str) {
    eprintln!("---- what the program wrote\n{words}\n----");
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
    let clone = |file: &File| Stdio::from(file.try_clone().expect("a file has a second handle"));
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

fn file() -> File {
    tempfile::tempfile().expect("the temporary folder takes a file")
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what was written can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[allow(clippy::print_stderr, reason = "who reads the test's output must see what was not tried")]
fn eprintln_loudly(why: &str) {
    eprintln!("\n==== SKIPPED: {why} ====\n");
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

    #[test]
    fn a_program_is_heard_while_it_runs_and_ends_when_nobody_speaks_any_more() {
        let mut cat = Talk::start(&Command::new("cat"));
        cat.say("one");
        cat.wait_for("one\n", Duration::from_secs(10));
        cat.say("two");
        assert!(cat.wait_end(Duration::from_secs(10)).success());
        assert_eq!(cat.written(), "one\ntwo\n");
    }
}
