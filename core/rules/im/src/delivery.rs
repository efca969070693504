//! Which disposition notifications the house owes to the sender of a message (RFC 5438 §8, §12.2).
//!
//! A server in between tells two things: that a message is stored, when `processing` was asked for, and that it failed,
//! when `negative-delivery` was, and only after it had answered 2xx itself. It never says `delivered`: a 2xx from the
//! receiver's side proves no delivery. Never two notices of one kind, never one about a notice.

use base::mime::MediaType;
use base::{Aor, Now};
use body::imdn::{Kind, Notice, Status};
use body::{Asked, Cpim, Wants};
use bytes::Bytes;

use crate::entry::{self, Entry, EntryId};

/// What became of a message after the house answered 2xx for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It waits for its receiver.
    Stored,
    /// It was not delivered, and never will be: its time is over, or it was refused.
    Failed,
}

/// A notice that is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// Which kind.
    pub kind: Kind,
    /// What it tells.
    pub status: Status,
}

/// What is owed at this turn, of a message that still wants to hear `wants`, and what it will want to hear after that.
/// The second is what to write down with a letter: no notice comes twice then.
pub fn owed(wants: Wants, fate: Fate) -> (Option<Owed>, Wants) {
    let (flag, owed) = match fate {
        Fate::Stored => (Wants::PROCESSING, Owed { kind: Kind::Processing, status: Status::Stored }),
        Fate::Failed => (Wants::NEGATIVE_DELIVERY, Owed { kind: Kind::Delivery, status: Status::Failed }),
    };
    (wants.contains(flag).then_some(owed), wants - flag)
}

/// What a stored message asked for, read again from its body; `wants` is what was written down with it ([`owed`]).
pub fn asked_again(content_type: &str, body: &[u8], wants: Wants) -> Option<Asked> {
    let is_envelope = MediaType::parse(content_type.as_bytes()).is_some_and(|kind| kind.is("message/cpim"));
    let asked = if is_envelope { Asked::of(&Cpim::parse(body).ok()?) } else { None };
    asked.map(|asked| Asked { wants, ..asked })
}

/// Whom a notice is about, and who says it.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// Who was to get the message: in the envelope the notice is from this one, as if from the recipient (RFC 5438
    /// §12.2).
    pub recipient: &'a Aor,
    /// Who sent the message, and gets the notice.
    pub sender: &'a Aor,
    /// In whose name the house sends it.
    pub system: &'a Aor,
}

/// The notice as a message of its own, ready to be relayed or stored like any other. `token` gives new unpredictable
/// texts: for Call-ID, tag and Message-ID.
pub fn notice(
    parties: Parties<'_>,
    about: &Asked,
    owed: Owed,
    expiry_s: u64,
    now: Now,
    mut token: impl FnMut() -> String,
) -> Entry {
    let (call_id, tag, id) = (token(), token(), token());
    let envelope = Notice {
        from: parties.recipient.as_str(),
        to: parties.sender.as_str(),
        id: &id,
        now_unix_s: now.unix_s(),
        about,
        kind: owed.kind,
        status: owed.status,
    };
    Entry {
        id: EntryId::of(parties.system, call_id.as_bytes(), 1, tag.as_bytes(), id.as_bytes()),
        sender: parties.system.clone(),
        from: format!("<{}>;tag={tag}", parties.system),
        to: format!("<{}>", parties.sender),
        cseq: 1,
        date: entry::sip_date(now.unix_s()),
        expires_unix_s: now.unix_s().saturating_add(expiry_s),
        content_type: "message/cpim".into(),
        lines: String::new(),
        body: Bytes::from(envelope.write()),
        asked: None,
        kind: entry::Kind::Notification,
        may_wait: true,
        call_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use body::imdn::Told;

    const STORED: Owed = Owed { kind: Kind::Processing, status: Status::Stored };
    const FAILED: Owed = Owed { kind: Kind::Delivery, status: Status::Failed };

    #[test]
    fn storing_is_told_to_who_asked_for_processing_and_failure_to_who_asked_for_it() {
        // RFC 5438 §8.1, §8.2
        assert_eq!(owed(Wants::all(), Fate::Stored).0, Some(STORED));
        assert_eq!(owed(Wants::all(), Fate::Failed).0, Some(FAILED));
        for (wants, fate) in [
            (Wants::all() - Wants::PROCESSING, Fate::Stored),
            (Wants::all() - Wants::NEGATIVE_DELIVERY, Fate::Failed),
            (Wants::empty(), Fate::Stored),
            (Wants::POSITIVE_DELIVERY | Wants::DISPLAY, Fate::Failed),
        ] {
            assert_eq!(owed(wants, fate), (None, wants), "{wants:?} {fate:?}");
        }
    }

    #[test]
    fn no_kind_is_told_twice_whatever_happens_in_whatever_order() {
        for bits in 0..16 {
            let (mut wants, mut told) = (Wants::from_bits_truncate(bits), Vec::new());
            for fate in [Fate::Stored, Fate::Failed, Fate::Stored, Fate::Failed] {
                let (owed, left) = owed(wants, fate);
                told.extend(owed.map(|owed| owed.kind));
                wants = left;
            }
            let kinds: std::collections::HashSet<_> = told.iter().collect();
            assert_eq!(kinds.len(), told.len(), "{told:?}");
        }
    }

    #[test]
    fn what_a_letter_still_wants_to_hear_is_what_was_written_down() {
        let body = b"To: <sip:b@c>\r\nNS: i <urn:ietf:params:imdn>\r\ni.Message-ID: m\r\n\
            i.Disposition-Notification: processing, negative-delivery\r\n\r\nContent-Type: text/plain\r\n\r\nhi";
        let (told, left) = owed(Wants::PROCESSING | Wants::NEGATIVE_DELIVERY, Fate::Stored);
        let asked = asked_again("Message/CPIM", body, left).unwrap();
        assert_eq!((told, asked.wants, asked.message_id.as_str()), (Some(STORED), Wants::NEGATIVE_DELIVERY, "m"));
        assert_eq!(asked_again("text/plain", body, left), None);
    }

    #[test]
    fn a_notice_goes_to_the_sender_says_what_happened_and_asks_for_nothing() {
        let [bob, alice, system] = ["bob", "alice", "im-system"].map(|user| Aor::new(user, "example.com").unwrap());
        let now = Now { at: std::time::Instant::now(), unix_ms: 1_000_000 };
        let about = Asked { message_id: "m1".into(), date_time: "2026-11-22T09:00:00Z".into(), ..Asked::default() };
        let mut count = 0;
        let token = || {
            count += 1;
            format!("t{count}")
        };
        let parties = Parties { recipient: &bob, sender: &alice, system: &system };
        let entry = notice(parties, &about, FAILED, 60, now, token);
        assert_eq!((entry.kind, &entry.asked, entry.expires_unix_s), (entry::Kind::Notification, &None, 1_060));
        assert_eq!(
            (entry.from.as_str(), entry.to.as_str()),
            ("<sip:im-system@example.com>;tag=t2", "<sip:alice@example.com>")
        );
        let envelope = Cpim::parse(&entry.body).unwrap();
        assert_eq!(envelope.from().unwrap().uri, "sip:bob@example.com");
        assert!(body::imdn::is_notice(&envelope) && Asked::of(&envelope).is_none());
        let told = Told::parse(envelope.content()).unwrap();
        assert_eq!(
            (told.message_id.as_str(), told.status, told.recipient.as_str()),
            ("m1", Some(Status::Failed), "sip:bob@example.com")
        );
    }
}
