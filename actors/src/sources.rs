//! How fast each source address asks without credentials: a fixed table, one window of a second a source.
//!
//! It comes before any expensive work. A source that shares its place with a busier one may be counted with it for the
//! rest of that second; nothing is allocated, whoever sends.

use std::net::IpAddr;

use base::limits::SOURCES_MAX;
use base::{KeyedHash, Now};
use parking_lot::Mutex;

const STRIPES: usize = 64;

#[derive(Clone, Copy, Default)]
struct Window {
    second: u64,
    count: u32,
}

/// The table.
pub struct Sources {
    hash: KeyedHash,
    per_second: u32,
    stripes: Box<[Mutex<Box<[Window]>>]>,
}

impl Sources {
    /// `per_second` requests a source; 0: no limit.
    pub fn new(hash: KeyedHash, per_second: u32) -> Self {
        let windows = || Mutex::new(vec![Window::default(); SOURCES_MAX / STRIPES].into_boxed_slice());
        Self { hash, per_second, stripes: (0..STRIPES).map(|_| windows()).collect() }
    }

    /// Counts one request; `false` when its source has had its share of this second.
    pub fn allows(&self, source: IpAddr, now: Now) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let hash = match source.to_canonical() {
            IpAddr::V4(ip) => self.hash.of(&[&ip.octets()]),
            IpAddr::V6(ip) => self.hash.of(&[&ip.octets()[..8]]), // a /64 is one subscriber
        };
        self.has_room(hash, now)
    }

    /// The same for a domain, in lower case.
    pub fn allows_domain(&self, domain: &str, now: Now) -> bool {
        self.per_second == 0 || self.has_room(self.hash.of(&[domain.as_bytes()]), now)
    }

    fn has_room(&self, hash: u64, now: Now) -> bool {
        let mut windows = self.stripes[hash as usize % STRIPES].lock();
        let place = (hash >> 32) as usize % windows.len();
        let (window, second) = (&mut windows[place], now.unix_s());
        if window.second != second {
            *window = Window { second, count: 0 };
        }
        window.count += 1;
        window.count <= self.per_second
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_source_has_its_share_of_each_second_and_others_have_theirs() {
        let sources = Sources::new(KeyedHash::new([3; 16]), 5);
        let (loud, quiet) = ("127.0.0.9".parse().unwrap(), "127.0.0.1".parse().unwrap());
        let now = Now::read();
        assert_eq!((0..20).filter(|_| sources.allows(loud, now)).count(), 5);
        assert!(sources.allows(quiet, now));
        assert!(sources.allows(loud, now.later(Duration::from_secs(1))));
        assert_eq!((0..20).filter(|_| sources.allows_domain("loud.example", now)).count(), 5);
        assert!(sources.allows_domain("quiet.example", now));
        let unlimited = Sources::new(KeyedHash::new([3; 16]), 0);
        assert!((0..1_000).all(|_| unlimited.allows(loud, now) && unlimited.allows_domain("a.example", now)));
    }
}
