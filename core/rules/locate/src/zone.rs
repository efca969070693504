//! Names from a table: for worlds without a name server, and for tests of whoever asks.

use std::time::Duration;

use hashbrown::HashMap;

use crate::question::{Answer, Kind, Naptr, Question, Record, Srv};

/// A table of records.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    records: HashMap<Question, Vec<Record>>,
    unknown: Vec<Question>,
    ttl: Duration,
}

impl Zone {
    /// Empty: every name is denied. Answers are to be believed for `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, ..Self::default() }
    }

    /// One more address of a host.
    #[must_use]
    pub fn address(mut self, name: &str, address: &str) -> Self {
        if let Ok(address) = address.parse::<std::net::IpAddr>() {
            let kind = if address.is_ipv4() { Kind::A } else { Kind::Aaaa };
            self.put(name, kind, Record::Address(address));
        }
        self
    }

    /// One more server: priority, weight, port and host.
    #[must_use]
    pub fn srv(mut self, name: &str, priority: u16, weight: u16, port: u16, target: &str) -> Self {
        self.put(name, Kind::Srv, Record::Srv(Srv { priority, weight, port, target: target.into() }));
        self
    }

    /// One more rule that leads to another name.
    #[must_use]
    pub fn naptr(mut self, name: &str, order: (u16, u16), flags: &str, services: &str, replacement: &str) -> Self {
        let (order, preference) = order;
        let (flags, services, replacement) = (flags.into(), services.into(), replacement.into());
        let naptr = Naptr { order, preference, flags, services, regexp: String::new(), replacement };
        self.put(name, Kind::Naptr, Record::Naptr(naptr));
        self
    }

    /// One more rule that gives a URI (RFC 6116).
    #[must_use]
    pub fn rule(mut self, name: &str, order: (u16, u16), services: &str, regexp: &str) -> Self {
        let (order, preference) = order;
        let (services, regexp) = (services.into(), regexp.into());
        let naptr = Naptr { order, preference, flags: "u".into(), services, regexp, replacement: String::new() };
        self.put(name, Kind::Naptr, Record::Naptr(naptr));
        self
    }

    /// A question that nobody can answer.
    #[must_use]
    pub fn unknown(mut self, name: &str, kind: Kind) -> Self {
        self.unknown.push(Question::new(name, kind));
        self
    }

    fn put(&mut self, name: &str, kind: Kind, record: Record) {
        self.records.entry(Question::new(name.to_ascii_lowercase(), kind)).or_default().push(record);
    }

    /// What it says.
    pub fn answer(&self, question: &Question) -> Answer {
        if self.unknown.contains(question) {
            return Answer::Unknown;
        }
        match self.records.get(question) {
            Some(records) => Answer::Records { records: records.clone(), ttl: self.ttl },
            None => Answer::Nothing { ttl: self.ttl },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_answers_what_it_has_denies_the_rest_and_knows_what_nobody_knows() {
        let ttl = Duration::from_secs(9);
        let zone = Zone::new(ttl).address("H.test", "192.0.2.1").address("h.test", "::1").unknown("x", Kind::Srv);
        let one = |text: &str| Answer::Records { records: vec![Record::Address(text.parse().unwrap())], ttl };
        assert_eq!(zone.answer(&Question::new("h.test", Kind::A)), one("192.0.2.1"));
        assert_eq!(zone.answer(&Question::new("h.test", Kind::Aaaa)), one("::1"));
        assert_eq!(zone.answer(&Question::new("h.test", Kind::Srv)), Answer::Nothing { ttl });
        assert_eq!(zone.answer(&Question::new("x", Kind::Srv)), Answer::Unknown);
    }
}
