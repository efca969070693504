//! Where a record is, and how our branch says so.

use base::limits::STRIPES;

/// Where a record is: what our branch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Which stripe.
    pub stripe: u8,
    /// Which place in it.
    pub index: u32,
    /// Which tenant of that place; random, so that nobody forges an answer.
    pub generation: u32,
}

/// What our branches begin with: the cookie of RFC 3261 §8.1.1.7 and a letter.
const BRANCH: &[u8; 8] = b"z9hG4bKp";

impl Slot {
    /// Our branch for this record, 26 octets.
    pub fn branch(self) -> [u8; 26] {
        let mut text = [0; 26];
        text[..8].copy_from_slice(BRANCH);
        hex(&mut text[8..10], u32::from(self.stripe));
        hex(&mut text[10..18], self.index);
        hex(&mut text[18..26], self.generation);
        text
    }

    /// The record that a branch names, if it is one of ours. What stands behind it (the mark of a loop) is not looked at.
    pub fn of_branch(branch: &[u8]) -> Option<Self> {
        let rest = branch.strip_prefix(BRANCH)?;
        if rest.len() < 18 || rest.get(18).is_some_and(|octet| *octet != b'.') {
            return None;
        }
        let rest = &rest[..18];
        let stripe = u8::try_from(unhex(&rest[..2])?).ok().filter(|stripe| usize::from(*stripe) < STRIPES)?;
        Some(Self { stripe, index: unhex(&rest[2..10])?, generation: unhex(&rest[10..])? })
    }
}

fn hex(out: &mut [u8], mut value: u32) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn unhex(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u32::from(digit))
    })
}
