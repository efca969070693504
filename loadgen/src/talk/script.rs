//! What is said in a session: bodies whose every octet is known from the message's number, so that the receiver checks
//! all of them and no sender keeps any.

use crate::wording::{hex, number_of};

/// Before it repeats, a text is this long; a prime, so that no chunk, read or buffer is a whole number of it.
const PERIOD: usize = 65_521;
/// A piece that is written or compared at once is at most so long.
const PIECE: usize = 65_536;

/// What everybody says, and under which names.
pub struct Script {
    text: Vec<u8>,
    run: [u8; 8],
}

impl Script {
    /// For one run, named so that what another left behind is not taken for ours.
    pub fn new(run: [u8; 8]) -> Self {
        let mut dice = crate::crowd::Dice::new(0x5eed);
        // No letter is a hexadecimal digit, and nothing a hyphen: no transaction id and no end-line can occur in it.
        let period: Vec<u8> =
            (0..PERIOD).map(|_| b"GHIJKLMNOPQRSTUVWXYZghijklmnopqr"[dice.below(32) as usize]).collect();
        let text = period.iter().cycle().take(PERIOD + PIECE).copied().collect();
        Self { text, run }
    }

    /// Octets of message `number` from a position on: a part of it, never nothing, of at most `most` octets.
    pub fn piece(&self, number: u64, from: u64, most: usize) -> &[u8] {
        // Neighbours differ everywhere: another message, or another position, is another text.
        let start = (number.wrapping_mul(7_919).wrapping_add(from) % PERIOD as u64) as usize;
        &self.text[start..start + most.min(PIECE)]
    }

    /// Appends octets of a message.
    pub fn write(&self, out: &mut Vec<u8>, number: u64, mut from: u64, mut length: usize) {
        while length > 0 {
            let piece = self.piece(number, from, length);
            out.extend_from_slice(piece);
            from += piece.len() as u64;
            length -= piece.len();
        }
    }

    /// Whether these are the octets of a message from a position on.
    pub fn is(&self, mut octets: &[u8], number: u64, mut from: u64) -> bool {
        while !octets.is_empty() {
            let piece = self.piece(number, from, octets.len());
            if octets[..piece.len()] != *piece {
                return false;
            }
            from += piece.len() as u64;
            octets = &octets[piece.len()..];
        }
        true
    }

    /// The id of a message: run, leg, number; 32 octets are the most that RFC 4975 §9 allows.
    pub fn id(&self, leg: usize, number: u64) -> [u8; 32] {
        let mut id = [b'-'; 32];
        id[..8].copy_from_slice(&self.run);
        id[9..16].copy_from_slice(&hex(leg as u64)[9..]);
        id[16..].copy_from_slice(&hex(number));
        id[16] = b'm';
        id
    }

    /// The leg and the number of an id; nothing where it is none of this run.
    pub fn of_id(&self, id: &[u8]) -> Option<(usize, u64)> {
        let rest = id.strip_prefix(&self.run)?.strip_prefix(b"-")?;
        let (leg, number) = rest.split_at_checked(7)?;
        Some((usize::try_from(number_of(leg)?).ok()?, number_of(number.strip_prefix(b"m")?)?))
    }

    /// The transaction id of a leg's chunk; they count from 1, 0 is the hello.
    pub fn tid(chunk: u64) -> [u8; 17] {
        let mut tid = [b'p'; 17];
        tid[1..].copy_from_slice(&hex(chunk));
        tid
    }

    /// The chunk of a transaction id of ours.
    pub fn of_tid(tid: &[u8]) -> Option<u64> {
        number_of(tid.strip_prefix(b"p").filter(|digits| digits.len() == 16)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_pieces_is_known_again_in_others() {
        let script = Script::new(*b"0123abcd");
        let mut body = Vec::new();
        script.write(&mut body, 5, 0, 1_000);
        script.write(&mut body, 5, 1_000, 200_000);
        assert_eq!(body.len(), 201_000);
        for cut in [1, 777, 65_536, 131_072] {
            assert!(script.is(&body[..cut], 5, 0) && script.is(&body[cut..], 5, cut as u64), "{cut}");
        }
    }

    #[test]
    fn a_changed_octet_another_message_and_another_place_are_found_out() {
        let script = Script::new(*b"0123abcd");
        let mut body = Vec::new();
        script.write(&mut body, 5, 0, 100_000);
        assert!(!script.is(&body, 6, 0) && !script.is(&body, 5, 1) && !script.is(&body[2_048..], 5, 0));
        body[99_999] ^= 1;
        assert!(!script.is(&body, 5, 0));
    }

    #[test]
    fn names_are_read_again_and_those_of_others_are_not() {
        let script = Script::new(*b"0123abcd");
        assert_eq!(script.of_id(&script.id(17_999, 0x12_3456)), Some((17_999, 0x12_3456)));
        assert_eq!(Script::new(*b"0123abce").of_id(&script.id(1, 2)), None);
        assert_eq!(script.of_id(b"0123abcd-"), None);
        assert_eq!(Script::of_tid(&Script::tid(77)), Some(77));
        assert_eq!(Script::of_tid(b"a0b1c2d3e4f5a6b7c"), None);
        assert!(msrp::Tid::parse(&Script::tid(u64::MAX)).is_some() && msrp::Tid::parse(&script.id(1, 2)).is_some());
    }
}
