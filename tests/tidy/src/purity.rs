//! Machines decide, shells act: no socket, disk, thread, clock or dice in `core/`; no socket in `actors/`; `unsafe` only
//! around the system calls that have no safe face (decision 25); nothing left to do.

use crate::source;
use crate::tree::File;

/// A word that a room may not have.
struct Ban {
    rooms: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const BANS: [Ban; 5] = [
    Ban {
        rooms: &["core/"],
        words: &["std::fs", "std::thread", "std::process", "std::env", "tokio", "actix", "mio", "socket2", "rand"],
        why: "core is sans-IO",
    },
    Ban {
        rooms: &["core/"],
        words: &["Instant::now", "SystemTime::now", "UtcDateTime::now", "OffsetDateTime::now_utc", "getrandom"],
        why: "time and chance come in as arguments",
    },
    Ban {
        rooms: &["core/", "actors/"],
        words: &["UdpSocket", "TcpStream", "TcpListener", "UnixStream", "ToSocketAddrs", "tokio::net", "socket2"],
        why: "sockets are net's",
    },
    Ban { rooms: &[""], words: &["unsafe", "unsafe_code"], why: "`unsafe` is for the mmsg calls alone" },
    Ban { rooms: &[""], words: &["todo!", "unimplemented!", "dbg!"], why: "nothing is left half done" },
];

/// Exceptions: file, word, reason.
const EXCEPTIONS: [(&str, &str, &str); 4] = [
    ("core/base/src/time.rs", "Instant::now", "Now::read, for shells: the one look at the clock"),
    ("core/base/src/time.rs", "SystemTime::now", "Now::read, for shells: the one look at the clock"),
    ("core/base/src/id.rs", "getrandom", "IdMaker::from_os, for shells: the one throw of the dice"),
    ("net/src/sip_udp.rs", "unsafe", "recvmmsg and sendmmsg, and the errors that they meet (decision 25)"),
];

/// Words that stand where they may not.
pub fn faults(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    let for_tests: Vec<String> = files.iter().flat_map(|file| source::test_modules(&file.path, &file.text)).collect();
    for file in files {
        let code = source::code(&file.text);
        let is_folder = file.path.contains("/tests/") && !file.path.starts_with("tests/");
        let is_test = is_folder || for_tests.contains(&file.path);
        for ban in BANS.iter().filter(|ban| ban.rooms.iter().any(|room| file.path.starts_with(room))) {
            let everywhere = ban.rooms == [""];
            if is_test && !everywhere {
                continue; // a test may read its fixtures
            }
            let code = if everywhere { &code } else { source::shipped(&code) };
            for word in ban.words.iter().filter(|word| !is_exception(&file.path, word)) {
                let lines = source::lines_with(code, word);
                faults.extend(lines.iter().map(|line| format!("{}:{line}: `{word}`: {}", file.path, ban.why)));
            }
        }
    }
    faults
}

fn is_exception(path: &str, word: &str) -> bool {
    // The mmsg file of the load generator needs what the server's has: the blind relay is as good as what it limits.
    let mmsg = path == "net/src/sip_udp.rs" || path.starts_with("loadgen/src/") && path.ends_with("mmsg.rs");
    mmsg && word.starts_with("unsafe") || EXCEPTIONS.iter().any(|(file, known, _)| *file == path && *known == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn every_room_keeps_to_what_it_is() {
        tree::none(&faults(&tree::files("rs")));
    }

    #[test]
    fn a_clock_in_core_a_socket_in_actors_and_unsafe_anywhere_are_seen() {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let bad = [
            file("core/rules/im/src/a.rs", "let t = Instant::now();"),
            file("actors/src/b.rs", "use std::net::{SocketAddr, TcpStream};"),
            file("server/src/c.rs", "unsafe { f() }"),
        ];
        assert_eq!(faults(&bad).len(), 3, "{:?}", faults(&bad));
        let good = [
            file(
                "core/rules/im/src/a.rs",
                "// Instant::now\nuse std::net::SocketAddr;\n#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }",
            ),
            file("core/proto/sip/tests/c.rs", "std::fs::read(path)"),
            file("net/src/b.rs", "use std::net::TcpStream;"),
            file("core/rules/im/src/d.rs", "#[cfg(test)]\nmod d_tests;"),
            file("core/rules/im/src/d_tests.rs", "fn now() { Instant::now(); }"),
        ];
        assert_eq!(faults(&good), Vec::<String>::new());
    }
}
