//! Who may come in: connections are counted, all together and by source.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Counts connections, for all listeners of a process.
#[derive(Debug)]
pub struct Gate {
    all: usize,
    per_source: usize,
    inside: Mutex<Inside>,
    /// Connections taken so far.
    pub accepted: AtomicU64,
    /// Connections turned away so far.
    pub refused: AtomicU64,
    /// Connections cut off for a bad beginning, for silence, or for a head without end.
    pub cut_off: AtomicU64,
}

#[derive(Debug, Default)]
struct Inside {
    count: usize,
    sources: HashMap<IpAddr, u32>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Gate {
    /// With room for `all` connections, of these `per_source` from one address.
    pub fn new(all: usize, per_source: usize) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self { all, per_source, inside: Mutex::default(), accepted: zero(), refused: zero(), cut_off: zero() })
    }

    /// A place for a connection from `source`; nothing when there is none.
    pub fn enter(self: &Arc<Self>, source: IpAddr) -> Option<Pass> {
        let source = source.to_canonical();
        let mut inside = self.inside.lock();
        let inside = &mut *inside;
        let has_room = inside.count < self.all;
        let count = inside.sources.entry(source).or_insert(0);
        if !has_room || *count as usize >= self.per_source {
            if *count == 0 {
                inside.sources.remove(&source);
            }
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        inside.count += 1;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Pass { gate: self.clone(), source })
    }

    /// Connections now.
    pub fn count(&self) -> usize {
        self.inside.lock().count
    }

    /// Prometheus text.
    pub fn write(&self, out: &mut String) {
        use std::fmt::Write as _;
        let rows = [
            ("parlour_connections_accepted_total", "Connections taken", self.accepted.load(Ordering::Relaxed)),
            ("parlour_connections_refused_total", "Connections turned away", self.refused.load(Ordering::Relaxed)),
            ("parlour_connections_cut_off_total", "Connections cut off", self.cut_off.load(Ordering::Relaxed)),
        ];
        for (name, help, value) in rows {
            let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} counter\n{name} {value}");
        }
        let (name, help) = ("parlour_connections", "Connections open now");
        let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {}", self.count());
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.inside.lock();
        inside.count -= 1;
        if let Some(count) = inside.sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                inside.sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_for_all_and_for_each_and_come_back() {
        let gate = Gate::new(3, 2);
        let (one, other): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert!(gate.enter(one).is_none(), "a source has two places");
        let _third = gate.enter(other).unwrap();
        assert!(gate.enter(other).is_none(), "there are three in all");
        drop(first);
        assert!(gate.enter(other).is_some());
        assert_eq!((gate.count(), gate.refused.load(Ordering::Relaxed)), (2, 2));
        let mut text = String::new();
        gate.write(&mut text);
        assert!(text.contains("parlour_connections_refused_total 2\n"));
    }
}
