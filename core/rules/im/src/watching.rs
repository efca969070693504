//! What became of a user's contacts, as who watches the registration is told (RFC 3680 §5.3): the bindings that were shown and
//! those that stand now give the changes.

use base::Now;
use sha2::{Digest, Sha256};

use crate::registrar::Binding;

/// Why a contact is as it is now (RFC 3680 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Bound by a REGISTER.
    Registered,
    /// Renewed to a later end.
    Refreshed,
    /// Renewed to an earlier end.
    Shortened,
    /// Its time is over.
    Expired,
    /// Taken away by a REGISTER.
    Unregistered,
    /// Ended by the house: its flow is gone; the client may come back at once.
    Deactivated,
    /// Ended by the house: the user is no subscriber any more.
    Rejected,
}

impl Event {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Refreshed => "refreshed",
            Self::Shortened => "shortened",
            Self::Expired => "expired",
            Self::Unregistered => "unregistered",
            Self::Deactivated => "deactivated",
            Self::Rejected => "rejected",
        }
    }

    /// Whether the contact stands.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Registered | Self::Refreshed | Self::Shortened)
    }
}

/// One contact and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The contact as it stands, or as it stood last.
    pub binding: Binding,
    /// What happened.
    pub event: Event,
}

/// What is different between what was shown and what stands. `gone`: why contacts whose time is not over are there no more.
pub fn changes(shown: &[Binding], standing: &[Binding], gone: Event, now: Now) -> Vec<Change> {
    let mut changes = Vec::new();
    for old in shown.iter().filter(|old| !standing.iter().any(|new| id(new) == id(old))) {
        let event = if old.is_over(now) { Event::Expired } else { gone };
        changes.push(Change { binding: old.clone(), event });
    }
    for new in standing {
        let event = match shown.iter().find(|old| id(old) == id(new)) {
            None => Event::Registered,
            Some(old) if old == new => continue,
            Some(old) if new.expires_unix_s < old.expires_unix_s => Event::Shortened,
            Some(_) => Event::Refreshed,
        };
        changes.push(Change { binding: new.clone(), event });
    }
    changes
}

/// What a contact is called as long as it stands (RFC 3680 §5.3 `id`): of a flow the device and its number, else the URI.
pub fn id(binding: &Binding) -> String {
    let digest = match binding.flow_key() {
        Some(flow) => Sha256::digest(format!("{} {}", flow.instance, flow.reg_id)),
        None => Sha256::digest(&binding.contact),
    };
    digest[..8].iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::registrar::{Transport, Way};

    fn binding(contact: &str, params: &str, expires_unix_s: u64) -> Binding {
        Binding {
            contact: contact.into(),
            params: params.into(),
            q: 1_000,
            call_id: "c".into(),
            cseq: 1,
            expires_unix_s,
            way: Way {
                transport: Transport::Udp,
                listener: 0,
                source: ([192, 0, 2, 1], 5060).into(),
                connection: None,
            },
            path: Vec::new(),
        }
    }

    fn told(shown: &[Binding], standing: &[Binding], gone: Event) -> Vec<(String, &'static str)> {
        let now = Now { at: Instant::now(), unix_ms: 100_000 };
        let changes = changes(shown, standing, gone, now);
        changes.into_iter().map(|change| (change.binding.contact, change.event.as_str())).collect()
    }

    #[test]
    fn every_way_of_coming_and_going_has_its_word() {
        let (one, two) = (|until| binding("sip:one", "", until), |until| binding("sip:two", "", until));
        let said = |contact: &str, event| vec![(contact.to_owned(), event)];
        assert_eq!(told(&[], &[one(200)], Event::Unregistered), said("sip:one", "registered"));
        assert_eq!(told(&[one(200)], &[one(300)], Event::Unregistered), said("sip:one", "refreshed"));
        assert_eq!(told(&[one(200)], &[one(150)], Event::Unregistered), said("sip:one", "shortened"));
        assert_eq!(told(&[one(200), two(200)], &[two(200)], Event::Unregistered), said("sip:one", "unregistered"));
        assert_eq!(told(&[one(200)], &[], Event::Deactivated), said("sip:one", "deactivated"));
        assert_eq!(told(&[one(100)], &[], Event::Unregistered), said("sip:one", "expired"));
        assert_eq!(told(&[one(200)], &[one(200)], Event::Unregistered), []);
    }

    #[test]
    fn a_flow_that_came_back_from_elsewhere_is_the_same_contact() {
        const FLOW: &str = ";reg-id=1;+sip.instance=\"<urn:uuid:1>\"";
        let (here, there) = (binding("sip:here", FLOW, 200), binding("sip:there", FLOW, 200));
        assert_eq!(told(&[here], &[there], Event::Unregistered), [("sip:there".to_owned(), "refreshed")]);
    }
}
