//! Contacts that are called by a name, over a table of records: whom a message goes to, and what happens when that fails.

use std::sync::Arc;
use std::time::Duration;

use locate::Zone;
use storage::Store;

use crate::switch::Place;
use crate::testing::{Ask, Living, account, status};

const ALICE: u16 = 5090;
const BOB: u16 = 5091;

fn zone() -> Zone {
    Zone::new(Duration::from_secs(60))
        .address("host.test", "127.0.0.1")
        .srv("_sip._udp.two.test", 10, 0, 5095, "host.test")
        .srv("_sip._udp.two.test", 20, 0, 5096, "host.test")
        .naptr("mixed.test", (1, 0), "s", "SIP+D2T", "_sip._tcp.mixed.test")
        .naptr("mixed.test", (2, 0), "s", "SIP+D2U", "_sip._udp.mixed.test")
        .srv("_sip._tcp.mixed.test", 0, 0, 5097, "host.test")
        .srv("_sip._udp.mixed.test", 0, 0, 5098, "host.test")
        .srv("_sip._udp.far.test", 0, 0, 5060, "behind-a-nat.test")
        .address("behind-a-nat.test", "10.1.2.3")
}

/// Bob registers this contact; what Alice writes then is read by whoever it comes to.
async fn registered(contact: &str) -> Living {
    let msrp = Some(Place { host: "127.0.0.1".into(), port: 2855 });
    let living = Living::with(&["alice", "bob"], |config| config.msrp = msrp).await;
    living.house.locator.introduce(Arc::new(zone()));
    let ask = Ask::register("bob", &format!("<{contact}>;expires=3600"));
    assert_eq!(status(&living.ask(BOB, &ask, "bob").await), 200, "{contact}");
    living
}

async fn write(living: &Living, text: &str) {
    living.send(ALICE, &Ask::message("alice", "bob", text), "alice").await;
}

#[actix::test]
async fn a_contact_goes_where_its_name_leads() {
    for (contact, port) in [
        ("sip:bob@two.test", 5095),
        ("sip:bob@host.test:5099", 5099),
        ("sip:bob@TWO.test.", 5095),
        // What cannot be found, or leads behind a NAT, is called where it was heard from.
        ("sip:bob@gone.test", BOB),
        ("sip:bob@phone.invalid", BOB),
        ("sip:bob@far.test", BOB),
        // A name of ours is not looked for. Without this port it would be refused: it leads back here.
        ("sip:bob@example.com:5094", BOB),
        ("sip:bob@127.0.0.1:5094", 5094),
    ] {
        let living = registered(contact).await;
        write(&living, "hello").await;
        let heard = living.take(port, 200).await;
        assert!(heard.starts_with(&format!("MESSAGE {contact} SIP/2.0\r\n")) && heard.ends_with("hello"), "{heard}");
        assert_eq!(status(&living.wire.next(ALICE).await), 200, "{contact}");
    }
}

#[actix::test]
async fn a_path_that_names_a_host_is_followed() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    living.house.locator.introduce(Arc::new(zone()));
    let ask = Ask::register("bob", "<sip:bob@10.9.9.9:5060>").line("Path: <sip:two.test;lr>").line("Supported: path");
    assert_eq!(status(&living.ask(BOB, &ask, "bob").await), 200);
    write(&living, "hello").await;
    let heard = living.take(5095, 200).await;
    assert!(heard.contains("\r\nRoute: <sip:two.test;lr>\r\n"), "{heard}");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
}

#[actix::test]
async fn when_a_server_says_503_the_next_one_hears_it_and_is_the_first_from_then_on() {
    let living = registered("sip:bob@two.test").await;
    write(&living, "one").await;
    let first = living.take(5095, 503).await;
    let second = living.take(5096, 200).await;
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    // RFC 3263 §4.3: the same request, but for its branch.
    let branch = |text: &str| text.lines().find(|line| line.starts_with("Via: ")).map(str::to_owned);
    assert_ne!(branch(&first), branch(&second));
    let rest = |text: &str| text.replacen(&branch(text).unwrap(), "", 1);
    assert_eq!(rest(&first), rest(&second));
    write(&living, "two").await;
    assert!(living.take(5096, 200).await.ends_with("two"));
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
}

#[actix::test]
async fn when_the_last_server_says_503_the_message_is_kept() {
    let living = registered("sip:bob@two.test").await;
    write(&living, "one").await;
    living.take(5095, 503).await;
    living.take(5096, 503).await;
    assert_eq!(status(&living.wire.next(ALICE).await), 202);
}

#[actix::test]
async fn a_server_that_cannot_be_reached_is_passed_over() {
    // Nobody opens connections here.
    let living = registered("sip:bob@mixed.test").await;
    write(&living, "hello").await;
    assert!(living.take(5098, 200).await.ends_with("hello"));
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
}

#[actix::test]
async fn a_session_rings_where_a_name_leads() {
    let living = registered("sip:bob@two.test").await;
    let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=message 2855 TCP/MSRP *\r\na=accept-types:text/plain\r\na=path:msrp://127.0.0.1:2855/abc;tcp\r\n";
    let invite = Ask {
        method: "INVITE",
        lines: format!(
            "Max-Forwards: 70\r\nContact: <sip:alice@127.0.0.1:{ALICE}>\r\nContent-Type: application/sdp\r\n"
        ),
        body: offer.into(),
        ..Ask::message("alice", "bob", "call")
    };
    living.send(ALICE, &invite, "alice").await;
    let next = living.take(5095, 503).await;
    assert!(next.starts_with("INVITE sip:bob@two.test SIP/2.0\r\n"), "{next}");
    // The ACK of the refusal, and the next server.
    assert!(living.wire.next(5095).await.starts_with("ACK "));
    assert!(living.take(5096, 486).await.starts_with("INVITE sip:bob@two.test SIP/2.0\r\n"));
    let heard = loop {
        let heard = living.wire.next(ALICE).await;
        if status(&heard) >= 200 {
            break heard;
        }
    };
    assert_eq!(status(&heard), 486);
}

#[actix::test]
async fn however_a_number_or_an_im_address_is_written_it_is_one_user() {
    let store = Store::in_memory();
    store.put_account(account("alice"), true).await.unwrap();
    let bob =
        storage::accounts::Account { aliases: vec![base::Aor::parse("tel:+4940123456").unwrap()], ..account("bob") };
    store.put_account(bob, true).await.unwrap();
    let living = Living::over(store, |config| config.dns.country = "49".into()).await;
    assert_eq!(living.register("bob", BOB).await, 200);
    for (n, uri) in ["tel:+49-40-123456", "tel:040-123456", "tel:040123456;phone-context=+49", "im:bob@example.com"]
        .iter()
        .enumerate()
    {
        let ask = Ask { uri: (*uri).into(), ..Ask::message("alice", "bob", &format!("{n}")) };
        living.send(ALICE, &ask, "alice").await;
        assert!(living.take(BOB, 200).await.ends_with(&format!("\r\n{n}")));
        assert_eq!(status(&living.wire.next(ALICE).await), 200, "{uri}");
    }
}
