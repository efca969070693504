//! A client of an MSRP relay (RFC 4976): asks it for a URI of its own, before anything is measured.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use msrp::{Flag, Kind, Scanner, Step, Tid};
use sip::digest::{Answer, Challenge, Ha1};

/// A relay that says nothing within this time says nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// AUTHs at a relay as `user`, answering one challenge (RFC 4976 §5.1); the URIs of Use-Path: how others reach us.
///
/// # Errors
/// The relay refuses, or says what cannot be understood.
pub fn use_path(socket: &mut TcpStream, relay: &str, own: &str, user: &str, password: &str) -> io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let asked = ask(socket, "pauth0001", relay, own, "")?;
    let challenge = match asked {
        Said { status: 200, use_path: Some(path), .. } => return Ok(path),
        Said { status: 401, challenge: Some(challenge), .. } => challenge,
        Said { status, .. } => return Err(refused(status)),
    };
    let found = Challenge::first_known(std::iter::once(challenge.as_bytes())).map_err(|_| refused(401))?;
    let ha1 = Ha1::of(user, &found.realm, password);
    let mut lines = b"Authorization: ".to_vec();
    found.write_answer(&mut lines, &Answer { user, ha1: &ha1, method: b"AUTH", uri: relay, nc: 1, cnonce: "0a4f113b" });
    lines.extend_from_slice(b"\r\n");
    match ask(socket, "pauth0002", relay, own, &String::from_utf8_lossy(&lines))? {
        Said { status: 200, use_path: Some(path), .. } => Ok(path),
        Said { status, .. } => Err(refused(status)),
    }
}

fn refused(status: u16) -> io::Error {
    io::Error::other(format!("the relay answers AUTH with {status}"))
}

struct Said {
    status: u16,
    challenge: Option<String>,
    use_path: Option<String>,
}

fn ask(socket: &mut TcpStream, tid: &str, relay: &str, own: &str, lines: &str) -> io::Result<Said> {
    let tid = Tid::parse(tid.as_bytes()).ok_or(io::ErrorKind::InvalidInput)?;
    let mut out = Vec::new();
    msrp::request_head(&mut out, "AUTH", &tid, relay.as_bytes(), own.as_bytes(), lines.as_bytes());
    msrp::end_line(&mut out, &tid, Flag::Complete, false);
    socket.write_all(&out)?;
    let (mut scanner, mut bytes, mut piece) = (Scanner::default(), Vec::new(), [0; 4_096]);
    loop {
        let taken = socket.read(&mut piece)?;
        if taken == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..taken]);
        // A response has no body: its end-line comes in the same read, and nothing behind it.
        if let Step::Head(spans) = scanner.scan(&bytes).map_err(io::Error::other)? {
            let head = spans.view(&bytes);
            let Kind::Response(status) = head.kind() else { return Err(io::ErrorKind::InvalidData.into()) };
            let text = |name: &str| head.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
            return Ok(Said { status, challenge: text("WWW-Authenticate"), use_path: text("Use-Path") });
        }
    }
}
