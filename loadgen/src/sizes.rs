//! How long bodies are: all alike, or between two lengths, short ones far more often than long ones.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crowd::Dice;

/// The longest body that a session message may have: 1 TiB, a film.
const BYTES_MAX: u64 = 1 << 40;

/// Octets of a body: `300`, or `1..1048576`, where each doubling is as likely as the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The shortest.
    pub least: u64,
    /// The longest.
    pub most: u64,
}

impl Sizes {
    /// All of one length.
    pub fn fixed(bytes: u64) -> Self {
        Self { least: bytes, most: bytes }
    }

    /// The length of the next body.
    pub fn draw(self, dice: &mut Dice) -> u64 {
        if self.least == self.most {
            return self.most;
        }
        let (low, high) = ((self.least.max(1) as f64).ln(), (self.most as f64 + 1.0).ln());
        let share = dice.below(1 << 32) as f64 / (1_u64 << 32) as f64;
        ((low + share * (high - low)).exp() as u64).clamp(self.least, self.most)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let text = text.trim();
            text.parse::<u64>().ok().filter(|bytes| *bytes <= BYTES_MAX).ok_or_else(|| format!("{text:?} is no length"))
        };
        let sizes = match text.split_once("..") {
            Some((least, most)) => Self { least: number(least)?, most: number(most)? },
            None => Self::fixed(number(text)?),
        };
        if sizes.least > sizes.most {
            return Err(format!("{text:?} ends before it begins"));
        }
        Ok(sizes)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most { write!(f, "{}", self.most) } else { write!(f, "{}..{}", self.least, self.most) }
    }
}

impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.least == self.most { serializer.serialize_u64(self.most) } else { serializer.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(bytes) => bytes.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_or_a_range_is_read_and_written_as_it_was() {
        for text in ["300", "1..1048576"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        for bad in ["", "x", "-1", "5..3", "1..", "9999999999999999"] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_drawn_lies_in_the_range_and_each_doubling_is_as_likely() {
        let (sizes, mut dice) = (Sizes { least: 1, most: 1_048_576 }, Dice::new(7));
        let drawn: Vec<u64> = (0..20_000).map(|_| sizes.draw(&mut dice)).collect();
        assert!(drawn.iter().all(|bytes| (1..=1_048_576).contains(bytes)));
        let short = drawn.iter().filter(|bytes| **bytes <= 1_024).count();
        assert!((9_000..11_000).contains(&short), "{short} of 20000 in the lower ten of twenty doublings");
        assert_eq!(Sizes::fixed(9).draw(&mut dice), 9);
    }
}
