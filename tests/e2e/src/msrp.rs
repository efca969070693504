//! MSRP through the real server: what is no MSRP, who lies, who stalls and who never reads, while others talk on; how
//! sessions end; and an independent dissector on all of it.

use std::process::Command;
use std::time::{Duration, Instant};

use support::Node;
use support::programs;

use crate::house::{PATIENCE, count, house, wait_until};
use crate::talkers::{Line, Talk, msrp_door};

const MIB: u64 = 1 << 20;
const EVERYBODY: [&str; 4] = ["alice", "bob", "carol", "dave"];

#[test]
fn what_is_no_msrp_closes_its_connection_and_is_counted_and_nobody_else_notices() {
    let node = house(&[], &EVERYBODY);
    let mut talk = Talk::between(&node, "alice", "bob");
    let (before, rss) = (count(&node, "parlour_connections_cut_off_total"), node.rss_bytes());
    let to = talk.caller.to.clone();
    let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
    let mut octet = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 56) as u8
    };
    let garbage = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        (0..70_000).map(|_| octet()).collect(),
        b"MSRP \r\n\r\n".to_vec(),
        format!("MSRP abcd SEND\nTo-Path: {to}\n\n").into_bytes(),
        format!("MSRP abcd SEND\r\nTo-Path: {to}\r\nMessage-ID: m\r\n-------abcd$\r\n").into_bytes(),
        [b"MSRP abcd SEND\r\nTo-Path: ".to_vec(), vec![b'x'; 40_000]].concat(),
        [b"MSRP abcd SEND\r\n".to_vec(), b"X: y\r\n".repeat(20_000)].concat(),
    ];
    for (number, octets) in garbage.iter().enumerate() {
        let mut line = Line::to(msrp_door(&node));
        line.write(octets);
        assert!(line.is_closed(PATIENCE), "garbage {number}");
        talk.says("still here");
    }
    let wanted = before + garbage.len() as f64;
    wait_until("each is counted", || count(&node, "parlour_connections_cut_off_total") >= wanted);
    assert!(node.rss_bytes() < rss + 32 * MIB, "from {rss} to {}", node.rss_bytes());
    talk.replies("and here");
}

#[test]
fn heads_without_end_and_silence_are_cut_off_in_time() {
    let sets = [("limits.head_seconds", "1"), ("limits.silent_connection_seconds", "1")];
    let node = house(&sets, &EVERYBODY);
    let mut talk = Talk::between(&node, "alice", "bob");
    let before = count(&node, "parlour_connections_cut_off_total");
    let (mut silent, mut slow) = (Line::to(msrp_door(&node)), Line::to(msrp_door(&node)));
    let began = Instant::now();
    slow.write(b"MSRP abcd SEND\r\nTo-Path: msrp://");
    assert!(slow.is_closed(PATIENCE) && silent.is_closed(PATIENCE));
    assert!(began.elapsed() < Duration::from_secs(8), "after {:?}", began.elapsed());
    wait_until("both are counted", || count(&node, "parlour_connections_cut_off_total") >= before + 2.0);
    talk.says("who has said something stays");
}

#[test]
fn a_chunk_that_stalls_holds_up_nothing_that_comes_the_other_way() {
    let node = house(&[], &EVERYBODY);
    let mut talk = Talk::between(&node, "alice", "bob");
    let whole = talk.caller.send("stall123", "Byte-Range: 1-*/*\r\n", Some(&"s".repeat(3_000)), '$');
    talk.caller.line.write(&whole.as_bytes()[..2_000]);
    talk.callee.line.wait_for("ssss");
    let began = Instant::now();
    let frame = talk.callee.send("other123", "", Some("other way"), '$');
    talk.callee.line.write(frame.as_bytes());
    let heard = talk.caller.line.frame(PATIENCE);
    assert!(heard.contains("\r\n\r\nother way\r\n"), "{heard}");
    // The chunk under way is ended for the 200, and goes on behind it.
    let (part, response) = (talk.callee.line.frame(PATIENCE), talk.callee.line.frame(PATIENCE));
    assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
    assert!(part.contains(" SEND\r\n") && part.ends_with("+\r\n"), "{part}");
    assert!(response.starts_with("MSRP other123 200"), "{response}");
    talk.caller.line.write(&whole.as_bytes()[2_000..]);
    let rest = talk.callee.line.frame(PATIENCE);
    let body =
        |frame: &str| frame.matches('s').count() - frame.split("\r\n\r\n").next().unwrap_or("").matches('s').count();
    assert_eq!(body(&part) + body(&rest), 3_000);
}

#[test]
fn ranges_that_lie_and_sessions_that_are_not_there_are_answered() {
    let node = house(&[], &EVERYBODY);
    let mut talk = Talk::between(&node, "alice", "bob");
    for range in ["9-3/2", "0-5/5", "1-18446744073709551616/*", "x-y/z", "1-5"] {
        let frame = talk.caller.send("liar1234", &format!("Byte-Range: {range}\r\n"), Some("hello"), '$');
        talk.caller.line.write(frame.as_bytes());
        let response = talk.caller.line.frame(PATIENCE);
        assert!(response.starts_with("MSRP liar1234 400"), "{range}: {response}");
    }
    // Numbers that can be, and are not so: the octets pass, and who puts them together sees it.
    for range in ["1-5/5", "1-4000000000/4000000000", "18446744073709551615-*/*"] {
        let frame = talk.caller.send("liar1234", &format!("Byte-Range: {range}\r\n"), Some("thirteen octets"), '$');
        talk.caller.line.write(frame.as_bytes());
        let heard = talk.callee.line.frame(PATIENCE);
        assert!(heard.contains("\r\n\r\nthirteen octets\r\n"), "{range}: {heard}");
        talk.callee.answer(&heard, 200);
        assert!(talk.caller.line.frame(PATIENCE).starts_with("MSRP liar1234 200"));
    }
    let mut stranger = Line::to(msrp_door(&node));
    let whose = talk.caller.to.clone();
    let unknown = whose.replace(&whose[whose.len() - 12..whose.len() - 4], "00000000");
    for (to, status) in [(&unknown, "481"), (&whose, "506")] {
        let from = format!("msrp://{}/x;tcp", stranger.local());
        let frame = format!(
            "MSRP thief123 SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: mess1\r\nContent-Type: text/plain\r\n\r\nmine?\r\n-------thief123$\r\n"
        );
        stranger.write(frame.as_bytes());
        let response = stranger.frame(PATIENCE);
        assert!(response.starts_with(&format!("MSRP thief123 {status}")), "{to}: {response}");
    }
    talk.says("only this is heard");
}

#[test]
fn who_never_reads_holds_up_his_own_sender_alone_and_costs_no_memory() {
    let node = house(&[], &EVERYBODY);
    let (mut stuck, mut free) = (Talk::between(&node, "alice", "bob"), Talk::between(&node, "carol", "dave"));
    free.says("warm");
    let rss = node.rss_bytes();
    let total = 64 * MIB as usize;
    let head = stuck.caller.send("film1234", &format!("Byte-Range: 1-*/{total}\r\n"), Some(""), '$');
    let head = head.trim_end_matches("\r\n-------film1234$\r\n");
    let film = [head.as_bytes(), &vec![b'f'; total]].concat();
    let taken = stuck.caller.line.write_within(&film, Duration::from_secs(2));
    assert!(taken < total, "the kernel's buffers and one turn are all that is taken, not {taken}");
    let grown = node.rss_bytes().saturating_sub(rss);
    assert!(grown < 16 * MIB, "{grown} octets for {taken} that wait");
    let began = Instant::now();
    free.says("nobody else notices");
    free.replies("not at all");
    assert!(began.elapsed() < Duration::from_secs(2), "after {:?}", began.elapsed());
    // The connection of who never reads is lost: both hear that the session is over, the other session goes on.
    drop(stuck.callee.line);
    stuck.caller.expect_bye();
    wait_until("one session is left", || count(&node, "parlour_sessions") == 1.0);
    free.says("and on");
}

#[test]
fn the_loss_of_one_connection_ends_the_session_on_both_sides_and_leaves_nothing() {
    let node = house(&[], &EVERYBODY);
    for lost in [0, 1] {
        let mut talk = Talk::between(&node, "alice", "bob");
        talk.says("first");
        assert_eq!((count(&node, "parlour_sessions"), count(&node, "parlour_msrp_legs")), (1.0, 2.0));
        let Talk { mut caller, mut callee } = talk;
        let (gone, left) = if lost == 0 { (&mut caller, &mut callee) } else { (&mut callee, &mut caller) };
        // A new line in place of the old one, which is closed by that.
        gone.line = Line::to(msrp_door(&node));
        for talker in [&mut *gone, &mut *left] {
            talker.expect_bye();
        }
        assert!(left.line.is_closed(PATIENCE), "its connection carries no session any more");
        wait_until("the table is empty", || count(&node, "parlour_sessions") == 0.0);
        assert_eq!(count(&node, "parlour_msrp_legs"), 0.0);
    }
    // The actors stay for late copies of the 200 to INVITE (RFC 6026 §8.4: timer M, 32 s), and no longer.
    let end = Instant::now() + Duration::from_secs(60);
    while node.get("/tree").body.contains("\"session\"") {
        assert!(Instant::now() < end, "{}", node.get("/tree").body);
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn tshark_finds_nothing_wrong_in_a_session() {
    let Some(program) = programs::find("tshark") else { return };
    let node = house(&[], &EVERYBODY);
    let (sip, door) = (node.sip().port(), msrp_door(&node).port());
    let file = node.folder().join("session.pcapng");
    let mut command = Command::new(&program);
    command
        .args(["-i", "lo", "-q", "-a", "duration:120", "-f", &format!("port {sip} or port {door}"), "-w"])
        .arg(&file);
    let mut capture = programs::Talk::start(&command);
    let mut denied = false;
    wait_until("tshark captures", || {
        let said = capture.written();
        denied = said.contains("permission") || said.contains("Couldn't run");
        denied || said.contains("Capture started")
    });
    if denied {
        return programs::not_allowed(
            "tshark may not capture on lo: run as root, or `dpkg-reconfigure wireshark-common`",
        );
    }
    capture.wait_for("File:", PATIENCE);
    play(&node);
    end(&node, &mut capture, &file);

    let read = |filter: &str| {
        let mut command = Command::new(&program);
        command.arg("-r").arg(&file).args(["-n", "-Y", filter, "-T", "fields"]);
        command.args(["-d", &format!("tcp.port=={sip},sip"), "-d", &format!("tcp.port=={door},msrp")]);
        for field in ["msrp.method", "msrp.status.code", "sip.Method", "_ws.expert.message", "tcp.payload"] {
            command.args(["-e", field]);
        }
        let read = programs::run(&mut command, Duration::from_secs(60));
        assert!(read.status.is_some_and(|status| status.success()), "tshark -r: {}", read.stderr);
        read.stdout.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let ours = read(&format!("msrp && tcp.srcport == {door}"));
    for what in ["SEND", "REPORT", "200", "400", "481", "501"] {
        let is_there = |packet: &String| packet.split('\t').any(|field| field.split(',').any(|each| each == what));
        assert!(ours.iter().any(is_there), "no {what} in {ours:#?}: the run was to show it");
    }
    assert_eq!(read("_ws.malformed"), Vec::<String>::new());
    // It does not put segments together: one may begin in the middle of a frame, with a CRLF, and one whose chunk is under
    // way has no end-line.
    let (hyphens, line_end) = ("2d2d2d2d2d2d2d", "0d0a");
    let mut foreign = read(&format!("tcp.srcport == {door} && tcp.len > 0 && !msrp"));
    foreign.retain(|packet| packet.contains(hyphens) && !packet.trim_start().starts_with(line_end));
    assert!(foreign.is_empty(), "sent by the server and no MSRP: {foreign:#?}");
    let bye = read(&format!("sip.Method == \"BYE\" && tcp.srcport == {sip}"));
    assert!(bye.len() >= 2, "both hear of the end: {bye:?}");
    let remarked = read(&format!(
        "(sip || msrp) && (tcp.srcport == {sip} || tcp.srcport == {door}) && _ws.expert.severity >= 4194304"
    ));
    assert!(remarked.is_empty(), "remarked: {remarked:#?}");
}

/// A session in which the server writes all kinds of frames.
fn play(node: &Node) {
    let mut talk = Talk::between(node, "alice", "bob");
    for number in 0..5 {
        talk.says(&format!("Grüße {number}"));
        talk.replies(&format!("你好 {number}"));
    }
    // A chunk that another interrupts, so that heads of ours are seen that were written in the middle of a chunk.
    let whole = talk.caller.send("cut12345", "Byte-Range: 1-*/*\r\n", Some(&"c".repeat(3_000)), '$');
    talk.caller.line.write(&whole.as_bytes()[..2_000]);
    talk.callee.line.wait_for("cccc");
    let frame = talk.callee.send("quick123", "", Some("quick"), '$');
    talk.callee.line.write(frame.as_bytes());
    let heard = talk.caller.line.frame(PATIENCE);
    talk.caller.answer(&heard, 200);
    for _ in 0..2 {
        talk.callee.line.frame(PATIENCE);
    }
    talk.caller.line.write(&whole.as_bytes()[2_000..]);
    talk.callee.line.frame(PATIENCE);
    assert!(talk.caller.line.frame(PATIENCE).starts_with("MSRP cut12345 200"));
    // Reports, and refusals of every kind.
    let refused = talk.caller.send("refuse12", "", Some("unwanted"), '$');
    talk.caller.line.write(refused.as_bytes());
    let heard = talk.callee.line.frame(PATIENCE);
    talk.callee.answer(&heard, 413);
    let next = [talk.caller.line.frame(PATIENCE), talk.caller.line.frame(PATIENCE)];
    assert!(next.iter().any(|frame| frame.contains(" REPORT\r\n") && frame.contains("Status: 000 413")), "{next:?}");
    let frame = talk.caller.send("liar1234", "Byte-Range: 9-3/2\r\n", Some("hello"), '$');
    let other = frame.replacen(" SEND\r\n", " DANCE\r\n", 1).replace("Byte-Range: 9-3/2\r\n", "");
    for (frame, status) in [(frame, 400), (other, 501)] {
        talk.caller.line.write(frame.as_bytes());
        assert!(talk.caller.line.frame(PATIENCE).starts_with(&format!("MSRP liar1234 {status}")));
    }
    let mut stranger = Line::to(msrp_door(node));
    let to = talk.caller.to.replace(&talk.caller.to[talk.caller.to.len() - 12..talk.caller.to.len() - 4], "00000000");
    let frame = talk.caller.send("lost1234", "", Some("x"), '$').replacen(&talk.caller.to, &to, 1);
    stranger.write(frame.as_bytes());
    assert!(stranger.frame(PATIENCE).starts_with("MSRP lost1234 481"));
    let Talk { mut caller, mut callee } = talk;
    caller.line = Line::to(msrp_door(node));
    caller.expect_bye();
    callee.expect_bye();
}

/// Ends the capture when its file has the last of what was sent: a request with a name of its own.
fn end(node: &Node, capture: &mut programs::Talk, file: &std::path::Path) {
    let mut last = support::Peer::udp(node.sip());
    let mark = "the-last-of-the-run";
    wait_until("the capture has everything", || {
        last.send(format!("{mark}\r\n\r\n").as_bytes());
        std::thread::sleep(Duration::from_millis(200));
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
    });
    let stop = Command::new("kill").args(["-INT", &capture.pid().to_string()]).status();
    assert!(stop.is_ok_and(|status| status.success()), "tshark can be stopped");
    capture.wait_end(PATIENCE);
}
