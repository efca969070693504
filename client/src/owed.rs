//! Notifications that we owe to who asked for them (RFC 5438 §7.2.1), and how many are still to be sent.

use std::sync::Arc;

use base::{Aor, Now};
use body::cpim;
use body::imdn::{Asked, Kind, Notice, Status, Wants};
use tokio::sync::{mpsc, watch};

use crate::account::Account;
use crate::pager::{Incoming, Outgoing};

/// Notifications that wait to be sent; then their senders are not told.
const OWED: usize = 1_024;

/// Which notification is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owing {
    Delivered,
    Displayed,
}

/// A notification that is owed to who asked for it.
#[derive(Debug, Clone)]
pub(crate) struct Owed {
    /// The Request-URI of the MESSAGE that carries it.
    pub to: Aor,
    pub about: Asked,
    pub owing: Owing,
    /// URI for the envelope's To.
    envelope_to: String,
}

impl Owed {
    /// Nothing where the sender did not ask, or gave no address that can be written to.
    pub(crate) fn of(message: &Incoming, owing: Owing) -> Option<Self> {
        let envelope = message.cpim.as_ref()?;
        let about = envelope.asked.as_ref()?;
        let wanted = match owing {
            Owing::Delivered => Wants::POSITIVE_DELIVERY,
            Owing::Displayed => Wants::DISPLAY,
        };
        if !about.wants.contains(wanted) {
            return None;
        }
        // RFC 5438 §7.2.1: to the topmost recorded route, else to the From of the envelope.
        let route = about.routes.first().and_then(|route| cpim::Address::parse(route)).map(|route| route.uri);
        let to = reachable(route.unwrap_or(&envelope.from))?;
        Some(Self { to, about: about.clone(), owing, envelope_to: envelope.from.clone() })
    }

    /// The message that carries it.
    pub(crate) fn write(&self, account: &Account, id: &str, now: Now) -> Outgoing {
        let (kind, status) = match self.owing {
            Owing::Delivered => (Kind::Delivery, Status::Delivered),
            Owing::Displayed => (Kind::Display, Status::Displayed),
        };
        let notice = Notice {
            from: account.aor.as_str(),
            to: &self.envelope_to,
            id,
            now_unix_s: now.unix_s(),
            about: &self.about,
            kind,
            status,
        };
        Outgoing::of_type("message/cpim", notice.write())
    }
}

/// What is owed and not yet paid. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Debts {
    waiting: mpsc::Sender<Owed>,
    open: Arc<watch::Sender<usize>>,
}

impl Debts {
    /// With the end from which it is paid.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Owed>) {
        let (waiting, owing) = mpsc::channel(OWED);
        (Self { waiting, open: Arc::new(watch::Sender::new(0)) }, owing)
    }

    /// Writes it down; when too many are open already, this one is forgiven.
    pub(crate) fn owe(&self, owed: Owed) {
        self.open.send_modify(|open| *open += 1);
        if self.waiting.try_send(owed).is_err() {
            self.paid();
        }
    }

    /// One that was written down has been sent, or has failed for good.
    pub(crate) fn paid(&self) {
        self.open.send_modify(|open| *open = open.saturating_sub(1));
    }

    /// Waits until nothing is owed.
    pub(crate) async fn settled(&self) {
        // The sender lives as long as `self`: this cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// RFC 3428 §5: an `im:` URI is written to by the SIP URI of the same name.
fn reachable(uri: &str) -> Option<Aor> {
    let sip = uri.get(..3).filter(|scheme| scheme.eq_ignore_ascii_case("im:")).map(|_| format!("sip:{}", &uri[3..]));
    Aor::parse(sip.as_deref().unwrap_or(uri)).ok()
}

#[cfg(test)]
mod tests {
    use sip::{Layout, parse_datagram};

    use super::*;
    use crate::pager::{self, Content, Receipt};

    fn request(content_type: &str, body: &[u8]) -> Content {
        let mut text = format!(
            "MESSAGE sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:alice@example.com>;tag=1\r\n\
             To: <sip:bob@example.com>\r\nCall-ID: c1\r\nCSeq: 7 MESSAGE\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        text.extend_from_slice(body);
        let mut layout = Layout::default();
        parse_datagram(&text, &mut layout).unwrap();
        pager::read(layout.view(&text)).unwrap()
    }

    fn message(content_type: &str, body: &[u8]) -> Incoming {
        match request(content_type, body) {
            Content::Message(message) => *message,
            other => panic!("{other:?}"),
        }
    }

    fn account() -> Account {
        let aor = Aor::parse("sip:alice@example.com").unwrap();
        Account::new(aor, "", ([127, 0, 0, 1], 5060).into(), crate::Transport::Udp)
    }

    #[test]
    fn what_asks_for_notifications_is_answered_by_notices_that_are_read_again() {
        // RFC 5438 §7.1.1.3, §7.2.1.1
        let bob = Aor::parse("sip:bob@example.com").unwrap();
        let now = Now::read();
        let outgoing = Outgoing::text("Hello").with_receipts();
        let (content_type, body, id) = outgoing.write(&account(), &bob, "id-1".to_owned(), now);
        let message = message(&content_type, &body);
        assert_eq!((id.as_deref(), message.text.as_deref()), (Some("id-1"), Some("Hello")));
        for (owing, word) in [(Owing::Delivered, "delivered"), (Owing::Displayed, "displayed")] {
            let owed = Owed::of(&message, owing).unwrap();
            assert_eq!(owed.to.as_str(), "sip:alice@example.com");
            let (content_type, body, _) =
                owed.write(&account(), "id-2", now).write(&account(), &owed.to, String::new(), now);
            let told = request(&content_type, &body);
            let from = "sip:alice@example.com".to_owned();
            let receipt = Receipt { from, message_id: "id-1".to_owned(), status: word.to_owned() };
            assert_eq!(told, Content::Receipt(receipt));
        }
    }

    #[test]
    fn who_did_not_ask_is_told_nothing() {
        let bob = Aor::parse("sip:bob@example.com").unwrap();
        let outgoing = Outgoing::text("Hello").asking_for(Wants::NEGATIVE_DELIVERY);
        let (_, body, _) = outgoing.write(&account(), &bob, "id".to_owned(), Now::read());
        let asked = message("message/cpim", &body);
        assert!(Owed::of(&asked, Owing::Delivered).is_none() && Owed::of(&asked, Owing::Displayed).is_none());
        assert!(Owed::of(&message("text/plain", b"Hello"), Owing::Delivered).is_none());
    }

    #[test]
    fn an_im_address_is_written_to_by_sip() {
        assert_eq!(reachable("im:alice@example.com").unwrap().as_str(), "sip:alice@example.com");
        assert_eq!(reachable("IM:alice@example.com").unwrap().as_str(), "sip:alice@example.com");
        assert_eq!(reachable("mailto:alice@example.com"), None);
        assert_eq!(reachable("é"), None);
    }

    #[tokio::test]
    async fn debts_are_settled_when_each_is_paid_and_forgiven_beyond_the_bound() {
        let (debts, mut owing) = Debts::new();
        debts.settled().await;
        let about = Asked::default();
        let to = Aor::parse("sip:bob@example.com").unwrap();
        let owed = Owed { to, about, owing: Owing::Delivered, envelope_to: String::new() };
        for _ in 0..OWED + 5 {
            debts.owe(owed.clone());
        }
        assert_eq!(*debts.open.borrow(), OWED);
        while owing.try_recv().is_ok() {
            debts.paid();
        }
        debts.settled().await;
        drop(owing);
        debts.owe(owed);
        debts.settled().await;
    }
}
