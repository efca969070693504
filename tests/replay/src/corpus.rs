//! The inputs that are worth keeping.

use std::path::Path;

/// One input and where it comes from.
pub type Input = (String, Vec<u8>);

/// The files of `fuzz/corpus/TARGET`, by name.
///
/// # Panics
/// When there are none: a target without seeds finds its way in by luck alone.
pub fn of(target: &str) -> Vec<Input> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
    let read = |entry: std::fs::DirEntry| {
        let bytes = std::fs::read(entry.path()).unwrap_or_else(|fault| panic!("{}: {fault}", entry.path().display()));
        (entry.file_name().to_string_lossy().into_owned(), bytes)
    };
    let mut inputs: Vec<Input> = entries.flatten().map(read).collect();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs.sort();
    inputs
}

/// Runs a target over inputs, over every prefix of them, and over each with one octet changed at some places; says
/// which one it was when it panics.
pub fn replay(inputs: &[Input], target: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    for (name, bytes) in inputs {
        let run = |what: &str, bytes: &[u8]| {
            if std::panic::catch_unwind(|| target(bytes)).is_err() {
                panic!("{name}, {what}: {:?}", String::from_utf8_lossy(bytes));
            }
        };
        run("whole", bytes);
        let step = bytes.len() / 200 + 1;
        for cut in (0..bytes.len()).step_by(step) {
            run(&format!("its first {cut} octets"), &bytes[..cut]);
        }
        for at in (0..bytes.len()).step_by(step) {
            for octet in [0, b'\r', b'\n', b' ', b'"', b'<', b'\\', 0xFF] {
                let mut changed = bytes.clone();
                changed[at] = octet;
                run(&format!("octet {at} made {octet}"), &changed);
            }
        }
    }
}
