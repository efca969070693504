//! How a session's key stands in what we send, so that what comes back finds the session without a table: in our tags, in
//! our branches, and as the user part of our Contact.
//!
//! ```text
//!  key      SSNNNNNNNNXXXXXXXX            shard, number, secret, in hex
//!  tag      s + key + 8 random digits     the tag of one leg: who knows the other leg's cannot guess it
//!  branch   z9hG4bKs + key + 8 random digits
//! ```

use crate::message::SessionKey;

/// What our branches begin with: the cookie of RFC 3261 §8.1.1.7 and a letter.
const BRANCH: &[u8] = b"z9hG4bKs";
const TAG: &[u8] = b"s";

impl SessionKey {
    /// 18 hex digits.
    pub fn text(self) -> String {
        format!("{:02x}{:08x}{:08x}", self.shard, self.number, self.secret)
    }

    /// A tag of ours; `leg` is its own for each dialog.
    pub fn tag(self, leg: u32) -> String {
        format!("s{}{leg:08x}", self.text())
    }

    /// A branch of ours; `transaction` is its own for each, but for an INVITE and its CANCEL.
    pub fn branch(self, transaction: u32) -> String {
        format!("z9hG4bKs{}{transaction:08x}", self.text())
    }

    /// The session that a tag names, if it is one of ours.
    pub fn of_tag(tag: &[u8]) -> Option<Self> {
        Some(read(tag.strip_prefix(TAG)?)?.0)
    }

    /// The session and the transaction that a branch names, if it is one of ours. What stands behind them (the mark of a
    /// loop) is not looked at.
    pub fn of_branch(branch: &[u8]) -> Option<(Self, u32)> {
        read(branch.strip_prefix(BRANCH)?.split(|octet| *octet == b'.').next()?)
    }
}

fn read(text: &[u8]) -> Option<(SessionKey, u32)> {
    if text.len() != 26 {
        return None;
    }
    let key = SessionKey {
        shard: u8::try_from(hex(&text[..2])?).ok()?,
        number: hex(&text[2..10])?,
        secret: hex(&text[10..18])?,
    };
    Some((key, hex(&text[18..])?))
}

/// Lower case alone: what differs in case is not ours.
fn hex(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |sum, byte| match byte {
        b'0'..=b'9' => Some(sum << 4 | u32::from(byte - b'0')),
        b'a'..=b'f' => Some(sum << 4 | u32::from(byte - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_branches_lead_back_to_their_session() {
        let key = SessionKey { shard: 3, number: 0x12, secret: 0xdead_beef };
        assert_eq!(key.text(), "0300000012deadbeef");
        assert_eq!(SessionKey::of_tag(key.tag(7).as_bytes()), Some(key));
        let marked = format!("{}.0123456789abcdef", key.branch(5));
        assert_eq!(SessionKey::of_branch(marked.as_bytes()), Some((key, 5)));
        assert_eq!(SessionKey::of_branch(key.branch(0xffff_ffff).as_bytes()), Some((key, 0xffff_ffff)));
    }

    #[test]
    fn what_others_write_is_not_ours() {
        let key = SessionKey { shard: 0, number: 1, secret: 2 };
        for tag in ["", "s", "s0300000012deadbeef", "0300000012deadbeef00000007", "s0300000012DEADBEEF00000007"] {
            assert_eq!(SessionKey::of_tag(tag.as_bytes()), None, "{tag}");
        }
        let long = format!("{}0", key.branch(1));
        for branch in ["z9hG4bKp0300000012deadbeef", "z9hG4bKs", &long, key.tag(1).as_str()] {
            assert_eq!(SessionKey::of_branch(branch.as_bytes()), None, "{branch}");
        }
    }
}
