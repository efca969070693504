//! Documents of delivery and typing notices: reading ends, and what was read is written and read again the same.

use body::imdn::Told;
use body::is_composing::Composing;

/// The target.
///
/// # Panics
/// When a promise is broken.
pub fn run(bytes: &[u8]) {
    let _ = Told::parse(bytes);
    if let Ok(composing) = Composing::parse(bytes) {
        let again = Composing::parse(&composing.write()).unwrap_or_else(|fault| panic!("{fault}: {composing:?}"));
        assert_eq!(again.active, composing.active);
        assert_eq!(kept(&again.content_type), kept(&composing.content_type));
    }
}

/// What XML can carry: no control characters, and nothing at the ends.
fn kept(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use crate::corpus;

    #[test]
    fn the_corpus_breaks_no_promise() {
        corpus::replay(&corpus::of("imdn"), super::run);
    }
}
