//! What the commands say to the person or script that called them: results on standard output, faults on standard error.

use std::io::Write;

/// A line of the result.
pub fn out(text: impl std::fmt::Display) {
    // A reader that has gone (`parlour user list | head`) wants no more.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A line about a fault.
pub fn err(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
