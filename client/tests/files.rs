//! Files that come in over a session go to the disk as they come (RFC 4975 §7.3.1), and only whole ones stay there.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod support;

use std::path::Path;

use client::{Delivery, Message, Session, SessionOptions};
use sha2::{Digest, Sha256};
use support::talkers::{Msrp, talking};
use support::{Peer, SOON};
use tokio::time::timeout;

#[tokio::test]
async fn a_file_goes_to_the_disk_under_a_safe_name_and_overwrites_nothing() {
    let (_peer, session, mut msrp, dir) = receiving().await;
    let content = pattern(3_000_000);
    for name in ["a.png", "a-2.png"] {
        put(&mut msrp, "file0001", "attachment; filename=\"../../a.png\"", &content, 100_000, '$').await;
        let message = heard(&session).await;
        let file = message.file.clone().unwrap();
        assert_eq!((message.content_type.as_str(), message.bytes(), message.text()), ("image/png", 3_000_000, None));
        assert_eq!((file.path.as_path(), message.body.len()), (dir.path().join(name).as_path(), 0));
        assert!(std::fs::read(&file.path).unwrap() == content, "the file has changed on its way");
        assert_eq!(file.sha256, <[u8; 32]>::from(Sha256::digest(&content)));
        // RFC 4975 §7.1.2: success is reported when the file is there.
        assert!(msrp.frame().await.contains("Byte-Range: 1-3000000/3000000\r\nStatus: 000 200"));
    }
    assert_eq!(names(dir.path()), ["a-2.png", "a.png"]);
}

#[tokio::test]
async fn what_is_to_be_read_stays_in_memory_and_what_is_too_long_for_that_does_not() {
    let (_peer, session, mut msrp, dir) = receiving().await;
    for kind in ["text/plain", "message/cpim", "application/im-iscomposing+xml"] {
        send(&mut msrp, "text0001", "1-5/5", &format!("Content-Type: {kind}\r\n"), b"Hello", '$').await;
        answered(&mut msrp, 200).await;
        let message = heard(&session).await;
        assert_eq!((&message.body[..], &message.file), (&b"Hello"[..], &None), "{kind}");
    }
    assert!(names(dir.path()).is_empty());
    let text = pattern(2_000_000);
    for start in (0..text.len()).step_by(100_000) {
        let range = format!("{}-*/{}", start + 1, text.len());
        let flag = if start + 100_000 == text.len() { '$' } else { '+' };
        let piece = &text[start..start + 100_000];
        send(&mut msrp, "long0001", &range, "Content-Type: text/plain\r\n", piece, flag).await;
        answered(&mut msrp, 200).await;
    }
    let message = heard(&session).await;
    assert_eq!((message.bytes(), message.text(), names(dir.path()).len()), (2_000_000, None, 1));
    // Nobody knows how long this one will be: it is held, and then refused.
    for (start, status) in [(0, 200), (1_000_000, 413)] {
        let range = format!("{}-*/*", start + 1);
        send(&mut msrp, "open0001", &range, "Content-Type: text/plain\r\n", &text[start..start + 100_000], '+').await;
        answered(&mut msrp, status).await;
    }
}

#[tokio::test]
async fn what_does_not_come_whole_leaves_nothing_behind() {
    let (mut peer, session, mut msrp, dir) = receiving().await;
    let png = "Content-Disposition: attachment; filename=b.png\r\nContent-Type: image/png\r\n";
    // RFC 4975 §7.1: given up by its sender.
    send(&mut msrp, "gone0001", "1-*/9", png, b"abcde", '+').await;
    answered(&mut msrp, 200).await;
    assert_eq!(soon(dir.path(), 1).await, [".b.png.part"]);
    send(&mut msrp, "gone0001", "6-*/9", png, b"x", '#').await;
    answered(&mut msrp, 200).await;
    assert!(soon(dir.path(), 0).await.is_empty());
    // Larger than any file may be.
    let max = base::limits::MSRP_FILE_BYTES_MAX;
    send(&mut msrp, "huge0001", &format!("1-*/{}", max + 1), png, b"abcde", '+').await;
    answered(&mut msrp, 413).await;
    send(&mut msrp, "huge0002", &format!("{max}-*/*"), png, b"ab", '+').await;
    answered(&mut msrp, 413).await;
    assert!(soon(dir.path(), 0).await.is_empty());
    // The session ends.
    send(&mut msrp, "half0001", "1-*/9", png, b"abcde", '+').await;
    answered(&mut msrp, 200).await;
    assert_eq!(soon(dir.path(), 1).await.len(), 1);
    drop(msrp);
    let bye = peer.hear().await;
    peer.answer(&bye, 200, "").await;
    session.ended().await;
    assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
}

#[tokio::test]
async fn a_file_that_comes_whole_just_before_the_end_is_there() {
    let (mut peer, session, mut msrp, dir) = receiving().await;
    let content = pattern(1_000_000);
    put(&mut msrp, "last0001", "attachment; filename=last.png", &content, 1_000_000, '$').await;
    let invite = msrp.invite.clone().unwrap();
    peer.within(&invite, true, "BYE", 7, "", "").await;
    assert_eq!(peer.hear().await.view().status(), 200);
    drop(msrp);
    assert_eq!(heard(&session).await.bytes(), 1_000_000);
    assert_eq!((names(dir.path()), session.recv().await), (vec!["last.png".to_owned()], None));
}

#[tokio::test]
async fn a_disk_that_takes_no_file_is_told_to_the_sender_and_the_session_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "no directory").unwrap();
    let options = SessionOptions { download_dir: Some(taken), ..SessionOptions::default() };
    let (_peer, session, mut msrp) = talking(options).await;
    let png = "Success-Report: yes\r\nContent-Type: image/png\r\n";
    // Whole in one chunk: its 200 is out before the disk has spoken, so a report takes that back.
    send(&mut msrp, "file0001", "1-5/5", png, b"abcde", '$').await;
    answered(&mut msrp, 200).await;
    let report = msrp.frame().await;
    assert!(report.contains("Message-ID: file0001") && report.contains("Status: 000 413"), "{report}");
    // In more than one, the next is refused (RFC 4975 §10.5).
    send(&mut msrp, "file0002", "1-*/9", png, b"abcde", '+').await;
    answered(&mut msrp, 200).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    send(&mut msrp, "file0002", "6-9/9", png, b"efgh", '$').await;
    answered(&mut msrp, 413).await;
    send(&mut msrp, "text0001", "1-5/5", "Content-Type: text/plain\r\n", b"Hello", '$').await;
    answered(&mut msrp, 200).await;
    assert_eq!(heard(&session).await.text(), Some("Hello"));
}

#[tokio::test]
async fn a_file_that_is_sent_says_what_it_is_called() {
    let (_peer, session, mut msrp, _dir) = receiving().await;
    let path = Path::new("/home/alice/my \"picture\".png");
    let (delivery, ()) = tokio::join!(session.send_file(path, "image/png", "abc"), async {
        let frame = msrp.frame().await;
        let lines =
            "Content-Disposition: attachment; filename=\"my _picture_.png\"\r\nContent-Type: image/png\r\n\r\nabc";
        assert!(frame.contains(lines), "{frame}");
        msrp.respond(&frame, "200 OK").await;
        msrp.report(&frame, "1-3/3", "000 200 OK").await;
    });
    assert_eq!(delivery, Delivery::Delivered);
}

async fn receiving() -> (Peer, Session, Msrp, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = SessionOptions { download_dir: Some(dir.path().to_owned()), ..SessionOptions::default() };
    let (peer, session, msrp) = talking(options).await;
    (peer, session, msrp, dir)
}

/// A whole file in chunks of a size, each answered 200.
async fn put(msrp: &mut Msrp, id: &str, disposition: &str, content: &[u8], size: usize, end: char) {
    let lines = format!("Success-Report: yes\r\nContent-Disposition: {disposition}\r\nContent-Type: image/png\r\n");
    for (number, piece) in content.chunks(size).enumerate() {
        let start = number * size;
        let flag = if start + piece.len() == content.len() { end } else { '+' };
        send(msrp, id, &format!("{}-*/{}", start + 1, content.len()), &lines, piece, flag).await;
        answered(msrp, 200).await;
    }
}

async fn send(msrp: &mut Msrp, id: &str, range: &str, lines: &str, body: &[u8], flag: char) {
    let (to, from) = (msrp.theirs.clone(), msrp.ours.clone());
    let head = format!(
        "MSRP tid00001 SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: {id}\r\nByte-Range: {range}\r\n{lines}\r\n"
    );
    msrp.say_octets(&[head.as_bytes(), body, format!("\r\n-------tid00001{flag}\r\n").as_bytes()].concat()).await;
}

async fn answered(msrp: &mut Msrp, status: u16) {
    let frame = msrp.frame().await;
    assert!(frame.starts_with(&format!("MSRP tid00001 {status}")), "{status}: {frame}");
}

async fn heard(session: &Session) -> Message {
    timeout(SOON, session.recv()).await.expect("nothing is heard").expect("the session is over")
}

fn names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

/// The names, as soon as there are so many: the thread that writes is not asked.
async fn soon(dir: &Path, count: usize) -> Vec<String> {
    let wait = async {
        loop {
            let seen = names(dir);
            if seen.len() == count {
                return seen;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{:?}", names(dir)))
}

/// Octets among which no end-line is.
fn pattern(count: u32) -> Vec<u8> {
    (0..count).map(|n| b'a' + ((n ^ (n >> 7)) % 26) as u8).collect()
}
