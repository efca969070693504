//! The torture messages of RFC 4475, as that document has them in its appendix.

use std::path::Path;

/// One message: its name in the RFC (`wsinv`) and its octets.
pub type Torture = (String, Vec<u8>);

/// All of them, by name.
///
/// # Panics
/// When the files are not where the parser's tests keep them.
pub fn all() -> Vec<Torture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../core/proto/sip/tests/rfc4475");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
    let mut messages: Vec<Torture> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "dat"))
        .map(|entry| {
            let name = entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a listed file can be read"))
        })
        .collect();
    messages.sort();
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forty_nine_messages_are_there() {
        let messages = all();
        assert_eq!(messages.len(), 49);
        assert!(messages.iter().all(|(_, bytes)| !bytes.is_empty()));
        assert!(messages.iter().any(|(name, _)| name == "wsinv"));
    }
}
