//! Who waits for the answer to a request of ours, as its branch says: so that what cannot be delivered finds back.

use crate::message::SessionKey;
use crate::transactions::Slot;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A transaction of page mode's.
    Page(Slot),
    /// A session's, in its transaction of this number.
    Session(SessionKey, u32),
}

impl Asker {
    /// By the branch of a Via; nothing when it is none of ours.
    pub fn of_branch(branch: &[u8]) -> Option<Self> {
        let session = || SessionKey::of_branch(branch).map(|(key, transaction)| Self::Session(key, transaction));
        Slot::of_branch(branch).map(Self::Page).or_else(session)
    }

    /// By a request as we have sent it, or its beginning: an ICMP error gives back no more (RFC 1812 §4.3.2.3). Our Via
    /// is its first line.
    pub fn of_request(text: &[u8]) -> Option<Self> {
        let via = behind(text, b"\r\n")?.strip_prefix(b"Via: ")?;
        let via = via.split(|octet| *octet == b'\r').next()?;
        let branch = behind(via, b";branch=")?;
        Self::of_branch(branch.split(|octet| b";, ".contains(octet)).next()?)
    }
}

/// What stands behind the first `mark`.
fn behind<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(mark.len()).position(|octets| octets == mark)?;
    Some(&text[at + mark.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot { stripe: 3, index: 77, generation: 0xdead_beef };

    fn sent(branch: &str) -> String {
        format!(
            "MESSAGE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch={branch}\r\nVia: x;branch=z9\r\n\r\n"
        )
    }

    #[test]
    fn a_request_of_ours_names_its_asker_and_its_first_octets_do_too() {
        let page = sent(std::str::from_utf8(&SLOT.branch()).unwrap());
        let key = SessionKey { shard: 1, number: 2, secret: 3 };
        let session = sent(&key.branch(9));
        assert_eq!(Asker::of_request(page.as_bytes()), Some(Asker::Page(SLOT)));
        assert_eq!(Asker::of_request(session.as_bytes()), Some(Asker::Session(key, 9)));
        let whole = page.find("\r\nVia: x").unwrap();
        for end in 0..page.len() {
            let said = Asker::of_request(&page.as_bytes()[..end]);
            assert_eq!(said, (end >= whole).then_some(Asker::Page(SLOT)), "{end} octets");
        }
    }

    #[test]
    fn what_is_no_request_of_ours_names_nobody() {
        let branch = SLOT.branch();
        let branch = std::str::from_utf8(&branch).unwrap();
        for text in [
            "",
            "\r\n",
            "\r\n\r\n",
            &sent("z9hG4bK1"),
            &sent(&format!("{branch}0")),
            &sent(branch).replace("Via: SIP", "From: SIP"),
            &format!("SIP/2.0 200 OK\r\nFrom: x\r\nVia: SIP/2.0/UDP h;branch={branch}\r\n\r\n"),
        ] {
            assert_eq!(Asker::of_request(text.as_bytes()), None, "{text}");
        }
    }
}
