//! Running other programs: each command is shown before it runs, and a failure names it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a task ends: nothing, or the sentence that the user reads.
pub type Done = Result<(), String>;

/// Runs a command in sight of the user; its output is the user's too.
pub fn run(command: &mut Command) -> Done {
    let line = line(command);
    say(&format!("$ {line}"));
    let status = command.status().map_err(|fault| format!("`{line}` does not start: {fault}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed ({status})")) }
}

/// Runs a command out of sight and gives what it wrote.
pub fn output(command: &mut Command) -> Result<String, String> {
    let line = line(command);
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|fault| format!("`{line}` does not start: {fault}"))?;
    if !output.status.success() {
        return Err(format!("`{line}` failed ({})", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{line}` wrote what is not UTF-8"))
}

/// Whether a command can be run and succeeds, out of sight.
pub fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Where `PATH` has a program of this name.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_program(file))
}

/// A line to the user, on standard error: `cargo xtask env` keeps standard output for itself.
pub fn say(line: &str) {
    let mut to = std::io::stderr().lock();
    let _ = writeln!(to, "{line}"); // a closed terminal is no reason to stop
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_in_the_fault() {
        let fault = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(fault.contains("sh -c exit 3") && fault.contains('3'), "{fault}");
        let fault = run(&mut Command::new("/nowhere/no-such-program")).unwrap_err();
        assert!(fault.contains("/nowhere/no-such-program"), "{fault}");
    }

    #[test]
    fn programs_are_found_on_the_path_and_nothing_else_is() {
        assert!(which("sh").is_some());
        assert_eq!(which("no-such-program-as-this"), None);
    }
}
