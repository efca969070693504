//! The one place where `parlour-client` writes: events to standard output, faults to standard error.
//!
//! For people, what a stranger sent is made safe to look at ([`visible()`]); scripts get it as it came.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::SystemTime;

use client::visible;
use serde_json::json;
use time::{OffsetDateTime, UtcOffset};

use super::report::Report;

/// Where a person or a script reads.
pub struct Screen {
    json: bool,
    offset: UtcOffset,
    gone: Cell<bool>,
}

impl Screen {
    /// To be made before any thread is started: only then does the system tell the local time zone.
    pub fn new(json: bool) -> Self {
        Self { json, offset: UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC), gone: Cell::new(false) }
    }

    /// Whether a script reads.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether nobody reads any more (a closed pipe): time to leave.
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Shows an event: a line for people, a JSON object for scripts.
    pub fn show(&self, report: &Report<'_>) {
        if self.json {
            if let Some(object) = report.object() {
                self.line(&object.to_string());
            }
        } else {
            self.line(&format!("{} {}", self.clock(SystemTime::now()), visible(&report.line(|at| self.stamp(at)))));
        }
    }

    /// Shows help, to people only.
    pub fn say(&self, text: &str) {
        if !self.json {
            self.line(text);
        }
    }

    /// Shows a fault: on standard error, and as an event for scripts.
    pub fn fault(&self, fault: &dyn Display) {
        if self.json {
            self.line(&json!({ "event": "error", "message": fault.to_string() }).to_string());
        }
        self.complain(fault);
    }

    /// Shows on standard error alone what scripts know from another event.
    pub fn complain(&self, fault: &dyn Display) {
        // Where standard error is closed too there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "parlour-client: {}", visible(&fault.to_string()));
    }

    fn line(&self, line: &str) {
        let mut out = io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            self.gone.set(true);
        }
    }

    /// `14:03:05`
    fn clock(&self, at: SystemTime) -> String {
        let at = OffsetDateTime::from(at).to_offset(self.offset);
        format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
    }

    /// `2026-01-31 14:03:05`
    fn stamp(&self, at: SystemTime) -> String {
        let day = OffsetDateTime::from(at).to_offset(self.offset).date();
        format!("{:04}-{:02}-{:02} {}", day.year(), u8::from(day.month()), day.day(), self.clock(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_all_their_digits() {
        let screen = Screen { json: false, offset: UtcOffset::from_hms(1, 0, 0).unwrap(), gone: Cell::new(false) };
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(3_723);
        assert_eq!(screen.stamp(at), "1970-01-01 02:02:03");
    }
}
