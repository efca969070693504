//! What the machine lacks: found out by looking, installed from Debian's packages, each command shown before it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::shell::{self, Done, say};

/// A thing that a task cannot do without, the Debian package that has it, and how it shows.
struct Need {
    package: &'static str,
    is_there: fn() -> bool,
}

/// To compile RocksDB and its bindings.
const BUILD: [Need; 3] = [
    Need { package: "g++", is_there: || shell::which("c++").is_some() || shell::which("g++").is_some() },
    Need { package: "clang", is_there: || shell::which("clang").is_some() },
    Need { package: "libclang-dev", is_there: has_libclang },
];

/// The programs of others that `tests/e2e` meets.
const PEERS: [Need; 5] = [
    Need { package: "sip-tester", is_there: || shell::which("sipp").is_some() },
    Need { package: "linphone-cli", is_there: || shell::which("linphonec").is_some() },
    Need { package: "baresip", is_there: || shell::which("baresip").is_some() },
    Need { package: "tshark", is_there: || shell::which("tshark").is_some() },
    // The program alone: nothing is started by its installation.
    Need { package: "dnsmasq-base", is_there: || Path::new("/usr/sbin/dnsmasq").exists() },
];

/// Installs what building needs, or says why it cannot.
pub fn ready_to_build() -> Done {
    install(&missing(&BUILD)).map_err(|fault| format!("the build needs more than this machine has: {fault}"))
}

/// Installs the peers of `tests/e2e`. Without them those tests skip, loudly, or fail where `CI=true`: so a failure
/// here is told and left to them.
pub fn ready_for_peers() {
    if let Err(fault) = install(&missing(&PEERS)) {
        say(&format!("programs of others are missing, their tests will be skipped: {fault}"));
    }
}

/// Format and lints need two components that a bare toolchain lacks.
pub fn ready_to_check(cache: &Cache) -> Done {
    let lacks =
        |tool: &str| !cache.bare_cargo(&format!("{tool} --version")).output().is_ok_and(|out| out.status.success());
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(tool, _)| lacks(tool))
        .map(|(_, c)| c)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if shell::which("rustup").is_none() {
        return Err(format!("this Rust has no {}: install it beside cargo", missing.join(" and no ")));
    }
    say(&format!("this Rust has no {}", missing.join(" and no ")));
    shell::run(Command::new("rustup").args(["component", "add"]).args(missing).current_dir(&cache.root))
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    needs.iter().filter(|need| !(need.is_there)()).map(|need| need.package).collect()
}

fn install(packages: &[&str]) -> Done {
    if packages.is_empty() {
        return Ok(());
    }
    let wanted = packages.join(" ");
    if shell::which("apt-get").is_none() {
        return Err(format!("no apt-get here; install by hand what Debian calls {wanted}"));
    }
    let sudo: &[&str] = match (is_root(), shell::which("sudo")) {
        (true, _) => &[],
        (false, Some(_)) => &["sudo"],
        (false, None) => return Err(format!("neither root nor sudo; as root: apt-get install {wanted}")),
    };
    say(&format!("missing here: {wanted}"));
    let _quiet = Quiet::new(sudo.is_empty());
    apt(sudo, &["update"])?;
    apt(sudo, &[&["install", "--yes", "--no-install-recommends"], packages].concat())
}

fn apt(sudo: &[&str], arguments: &[&str]) -> Done {
    let words = [sudo, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2"], arguments].concat();
    shell::run(Command::new(words[0]).args(&words[1..]))
}

/// While this lives, a package that is installed starts no service (Debian's `policy-rc.d`): nobody asked for one.
struct Quiet(Option<PathBuf>);

impl Quiet {
    fn new(is_root: bool) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let file = Path::new("/usr/sbin/policy-rc.d");
        if !is_root || file.exists() {
            return Self(None); // without root we cannot; where there is a policy, it is the owner's
        }
        let written = fs::write(file, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(file, fs::Permissions::from_mode(0o755)));
        Self(written.is_ok().then(|| file.to_path_buf()))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(file) = &self.0
            && let Err(fault) = fs::remove_file(file)
        {
            say(&format!("{} stays behind and keeps services from starting: {fault}", file.display()));
        }
    }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective =
        status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1));
    effective == Some("0")
}

/// bindgen opens libclang at run time, where clang-sys looks for it.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let mut folders: Vec<PathBuf> =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
            .map(PathBuf::from)
            .to_vec();
    let llvms = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders
        .extend(llvms.filter(|e| e.file_name().to_string_lossy().starts_with("llvm-")).map(|e| e.path().join("lib")));
    folders.iter().any(|folder| holds_libclang(folder))
}

fn holds_libclang(folder: &Path) -> bool {
    let is_libclang = |name: &str| name == "libclang.so" || name.starts_with("libclang-") && name.contains(".so");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| is_libclang(&entry.file_name().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing() {
        let needs = [Need { package: "here", is_there: || true }, Need { package: "gone", is_there: || false }];
        assert_eq!(missing(&needs), ["gone"]);
    }

    #[test]
    fn nothing_missing_runs_nothing() {
        assert_eq!(install(&[]), Ok(()));
    }
}
