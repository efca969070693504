//! A run that is told to end leaves nothing behind: no folder, no server (the program itself, over real processes).

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_comparison_that_is_ended_removes_its_folder_and_ends_its_servers() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlour-load"));
        command.args(["compare", "--targets", "relay", "--jobs", "pager-udp", "--rounds", "100"]);
        command.args(["--server-core", "0", "--driver-core", "0", "--dir"]).arg(folder.path());
        let mut program = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("a folder and a server", || !entries(folder.path()).is_empty() && !relays(&program).is_empty());
        let servers = relays(&program);
        assert!(Command::new("kill").args([signal, &program.id().to_string()]).status().unwrap().success());
        wait_for("its end", || program.try_wait().unwrap().is_some());
        let said = std::io::read_to_string(program.stderr.take().unwrap()).unwrap();
        assert_eq!(program.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.contains("ended by a signal"), "{said}");
        assert!(entries(folder.path()).is_empty(), "{:?}", entries(folder.path()));
        for server in servers {
            assert!(!Path::new(&format!("/proc/{server}")).exists(), "server {server} goes on");
        }
    }
}

fn entries(dir: &Path) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn relays(program: &Child) -> Vec<u32> {
    loadgen::measure::descendants(program.id()).unwrap()
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_there() {
        assert!(begun.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
