//! What became of what was said.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts of a run's sessions. Each message sent ends in one of delivered, failed, lost or missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Messages begun.
    pub sent: u64,
    /// SENDs written: chunks of them.
    pub sends: u64,
    /// Messages that came whole, in order, octet for octet, and were answered where an answer was due.
    pub delivered: u64,
    /// Messages that were refused or reported failed.
    pub failed: u64,
    /// Messages under way when a connection was lost.
    pub lost: u64,
    /// Messages of which nothing was heard though their connections live, or that were passed over.
    pub missing: u64,
    /// Pieces of body that are not what was sent.
    pub corrupt: u64,
    /// Chunks that were not the next of their sender.
    pub misordered: u64,
    /// Messages that ended before their time: `#`, or `$` too early.
    pub cut: u64,
    /// Octets of body heard.
    pub octets: u64,
    /// Responses, by status.
    pub responses: BTreeMap<u16, u64>,
    /// REPORTs, by status.
    pub reports: BTreeMap<u16, u64>,
    /// Connections that could not say whose they are.
    pub refused_hellos: u64,
    /// Connections that were closed on us.
    pub closed: u64,
    /// Frames that are none.
    pub garbled: u64,
    /// Responses and REPORTs to nothing that is under way.
    pub strays: u64,
    /// Requests that are none of this run.
    pub foreign: u64,
    /// BYEs that the callees received.
    pub byes: u64,
}

impl Tally {
    /// What should not have been.
    pub fn errors(&self) -> u64 {
        self.failed
            + self.lost
            + self.corrupt
            + self.misordered
            + self.cut
            + self.garbled
            + self.refused_hellos
            + self.closed
    }

    /// For a person.
    pub fn text(&self) -> String {
        let by_status = |counts: &BTreeMap<u16, u64>| {
            let all: Vec<String> = counts.iter().map(|(status, count)| format!("{status}: {count}")).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        format!(
            "messages sent {} in {} SENDs, delivered {}, failed {}, lost with their connection {}, missing {}\n\
             octets heard {}, corrupt {}, out of order {}, cut short {}; responses {}; reports {}\n\
             hellos refused {}, connections closed {}, garbled {}, strays {}, foreign {}, BYEs received {}\n",
            self.sent,
            self.sends,
            self.delivered,
            self.failed,
            self.lost,
            self.missing,
            self.octets,
            self.corrupt,
            self.misordered,
            self.cut,
            by_status(&self.responses),
            by_status(&self.reports),
            self.refused_hellos,
            self.closed,
            self.garbled,
            self.strays,
            self.foreign,
            self.byes
        )
    }
}
