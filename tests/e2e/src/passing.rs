//! What the server knows nothing of passes through it (RFC 3261 §16): strange methods, subscriptions between devices, talks
//! by voice. Both sides are scripted, and the one that is called from behind a NAT has a Contact that leads nowhere.

use std::time::Duration;

use support::{Heard, Node, Phone};

use crate::house::{PATIENCE, aor, count, house, password};

const QUIET: Duration = Duration::from_millis(300);

/// A request in the words of a test.
#[derive(Clone, Default)]
struct Words {
    method: &'static str,
    uri: String,
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
    lines: String,
    body: Vec<u8>,
}

/// A device and its person.
struct Device {
    phone: Phone,
    user: &'static str,
    branches: u32,
}

impl Device {
    fn online(node: &Node, user: &'static str, phone: fn(&Node, &str, &str) -> Phone) -> Self {
        let mut phone = phone(node, user, &password(user));
        phone.register();
        Self { phone, user, branches: 0 }
    }

    /// A Contact behind a NAT.
    fn contact(&self) -> String {
        format!("<sip:{}@10.255.255.1:5060>", self.user)
    }

    fn write(&mut self, words: &Words, more: &str) -> String {
        self.branches += 1;
        let branch = format!("z9hG4bK{}{}{}", self.user, self.phone.peer.local().port(), self.branches);
        self.write_as(words, more, &branch);
        branch
    }

    fn write_as(&mut self, words: &Words, more: &str, branch: &str) {
        let (via, at) = (self.phone.peer.transport(), self.phone.peer.local());
        let Words { method, uri, from, to, call_id, cseq, lines, body } = words;
        let head = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via} {at};rport;branch={branch}\r\nMax-Forwards: 70\r\nFrom: {from}\r\n\
             To: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{lines}{more}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.phone.peer.send(&[head.as_bytes(), body].concat());
    }

    /// Says it, is asked who it is, and says it again; the branch of that.
    fn say(&mut self, words: &Words) -> String {
        self.write(words, "");
        let asked = self.phone.peer.expect_status(407);
        let credentials = self.phone.credentials_for(&asked, words.method, &words.uri);
        self.write(words, &credentials)
    }

    fn reply(&mut self, request: &Heard, status: u16, lines: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status} Said\r\n");
        for name in ["Via", "Record-Route", "From", "Call-ID", "CSeq"] {
            for value in request.headers(name) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let to = request.header("to");
        let tag = if to.contains("tag=") { String::new() } else { format!(";tag={}", self.phone.peer.local().port()) };
        let contact = self.contact();
        text.push_str(&format!(
            "To: {to}{tag}\r\nContact: {contact}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        self.phone.peer.send(text.as_bytes());
    }

    fn hears(&mut self, method: &str) -> Heard {
        self.phone.peer.expect_request(method)
    }

    fn hears_status(&mut self, status: u16) -> Heard {
        let wanted = |heard: &Heard| heard.status() == Some(status);
        self.phone.peer.hear_where(PATIENCE, wanted).unwrap_or_else(|| panic!("{status} was due"))
    }
}

fn first(method: &'static str, from: &Device, to: &str, lines: &str) -> Words {
    Words {
        method,
        uri: aor(to),
        from: format!("<{}>;tag=first", aor(from.user)),
        to: format!("<{}>", aor(to)),
        call_id: format!("{method}-{}", from.phone.peer.local().port()),
        cseq: 1,
        lines: format!("Contact: {}\r\n{lines}", from.contact()),
        body: Vec::new(),
    }
}

/// What the caller says in the dialog that this answer made.
fn onward(method: &'static str, answer: &Heard, cseq: u32) -> Words {
    let contact = answer.header("contact");
    let routes: String =
        answer.headers("record-route").iter().rev().map(|route| format!("Route: {route}\r\n")).collect();
    Words {
        method,
        uri: contact.trim_matches(['<', '>']).to_owned(),
        from: answer.header("from"),
        to: answer.header("to"),
        call_id: answer.header("call-id"),
        cseq,
        lines: routes,
        body: Vec::new(),
    }
}

/// What the callee says in the dialog that it made of this request.
fn backward(method: &'static str, callee: &Device, request: &Heard, cseq: u32) -> Words {
    let contact = request.header("contact");
    let routes: String = request.headers("record-route").iter().map(|route| format!("Route: {route}\r\n")).collect();
    Words {
        method,
        uri: contact.trim_matches(['<', '>']).to_owned(),
        from: format!("{};tag={}", request.header("to"), callee.phone.peer.local().port()),
        to: request.header("from"),
        call_id: request.header("call-id"),
        cseq,
        lines: routes,
        body: Vec::new(),
    }
}

#[test]
fn a_strange_method_goes_to_the_device_with_all_that_it_says_and_its_answer_back() {
    let node = house(&[], &["alice", "bob"]);
    let (mut alice, mut bob) = (Device::online(&node, "alice", Phone::udp), Device::online(&node, "bob", Phone::tcp));
    let body: Vec<u8> = (0..=255).collect();
    let words = Words { body: body.clone(), ..first("FROBNICATE", &alice, "bob", "X-Strange: a;b=\"c, d\"\r\n") };
    alice.say(&words);
    let heard = bob.hears("FROBNICATE");
    assert_eq!((heard.header("x-strange"), heard.body()), ("a;b=\"c, d\"".to_owned(), &body[..]));
    assert_eq!(heard.uri(), bob.phone.contact());
    bob.reply(&heard, 299, "X-Back: e\r\n", "and back");
    let answer = alice.hears_status(299);
    assert_eq!((answer.header("x-back"), answer.text()), ("e".to_owned(), "and back".to_owned()));
    alice.say(&first("FROBNICATE", &alice, "nobody", ""));
    alice.hears_status(404);
    assert!(count(&node, "parlour_sip_passed_total") >= 1.0);
}

#[test]
fn a_subscription_lives_between_two_devices_by_two_transports() {
    let node = house(&[], &["alice", "bob"]);
    let (mut alice, mut bob) = (Device::online(&node, "alice", Phone::udp), Device::online(&node, "bob", Phone::tcp));
    alice.say(&first("SUBSCRIBE", &alice, "bob", "Event: presence\r\nExpires: 600\r\n"));
    let subscribe = bob.hears("SUBSCRIBE");
    let routes = subscribe.headers("record-route");
    assert!(routes.len() == 2 && routes[0].contains("transport=tcp") && !routes[1].contains("transport"), "{routes:?}");
    bob.reply(&subscribe, 200, "Expires: 600\r\n", "");
    let accepted = alice.hears_status(200);

    let mut notify = backward("NOTIFY", &bob, &subscribe, 1);
    notify.lines.push_str("Event: presence\r\nSubscription-State: active\r\n");
    bob.say(&notify);
    let heard = alice.hears("NOTIFY");
    assert_eq!((heard.uri(), heard.headers("route").len()), ("sip:alice@10.255.255.1:5060", 0), "{heard}");
    alice.reply(&heard, 200, "", "");
    bob.hears_status(200);

    let mut refresh = onward("SUBSCRIBE", &accepted, 2);
    refresh.lines.push_str("Event: presence\r\nExpires: 0\r\n");
    alice.say(&refresh);
    let heard = bob.hears("SUBSCRIBE");
    assert_eq!((heard.uri(), heard.header("expires")), ("sip:bob@10.255.255.1:5060", "0".to_owned()), "{heard}");
    bob.reply(&heard, 200, "", "");
    alice.hears_status(200);
}

#[test]
fn a_talk_by_voice_rings_everywhere_is_taken_once_and_ends_along_its_way() {
    let node = house(&[], &["alice", "bob"]);
    let (mut alice, mut desk) = (Device::online(&node, "alice", Phone::udp), Device::online(&node, "bob", Phone::udp));
    let mut mobile = Device::online(&node, "bob", Phone::tcp);
    let sdp = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let mut invite = first("INVITE", &alice, "bob", "Content-Type: application/sdp\r\nRequire: 100rel\r\n");
    invite.body = sdp.into();
    alice.say(&invite);
    let (at_desk, at_mobile) = (desk.hears("INVITE"), mobile.hears("INVITE"));
    assert_eq!((at_desk.text().as_str(), at_desk.header("require").as_str()), (sdp, "100rel"));
    for (device, heard) in [(&mut desk, &at_desk), (&mut mobile, &at_mobile)] {
        device.reply(heard, 180, "", "");
        alice.hears_status(180);
    }
    mobile.reply(&at_mobile, 200, "Content-Type: application/sdp\r\n", sdp);
    let taken = alice.hears_status(200);
    let cancel = desk.hears("CANCEL");
    assert!(cancel.header("reason").contains("cause=200"), "{cancel}");
    desk.reply(&cancel, 200, "", "");
    desk.reply(&at_desk, 487, "", "");
    desk.hears("ACK");
    alice.write(&onward("ACK", &taken, 1), "");
    assert_eq!(mobile.hears("ACK").uri(), "sip:bob@10.255.255.1:5060");

    alice.say(&onward("INFO", &taken, 2));
    let info = mobile.hears("INFO");
    mobile.reply(&info, 200, "", "");
    alice.hears_status(200);
    mobile.say(&backward("BYE", &mobile, &at_mobile, 1));
    let bye = alice.hears("BYE");
    alice.reply(&bye, 200, "", "");
    mobile.hears_status(200);
    desk.phone.peer.expect_silence(QUIET);
}

#[test]
fn who_gives_up_before_anybody_answers_is_rung_no_more() {
    let node = house(&[], &["alice", "bob"]);
    let (mut alice, mut bob) = (Device::online(&node, "alice", Phone::udp), Device::online(&node, "bob", Phone::udp));
    let mut invite = first("INVITE", &alice, "bob", "Content-Type: application/sdp\r\n");
    invite.body = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n".to_vec();
    let branch = alice.say(&invite);
    let heard = bob.hears("INVITE");
    bob.reply(&heard, 180, "", "");
    alice.hears_status(180);
    alice.write_as(&Words { method: "CANCEL", body: Vec::new(), lines: String::new(), ..invite.clone() }, "", &branch);
    alice.hears_status(200);
    let cancel = bob.hears("CANCEL");
    bob.reply(&cancel, 200, "", "");
    bob.reply(&heard, 487, "", "");
    bob.hears("ACK");
    let refused = alice.hears_status(487);
    let ack = Words { method: "ACK", to: refused.header("to"), body: Vec::new(), lines: String::new(), ..invite };
    alice.write_as(&ack, "", &branch);
    bob.phone.peer.expect_silence(QUIET);
}
