//! Whose a telephone number is: ENUM (RFC 6116), as a machine that says which rules it wants to see.
//!
//! ```text
//! +44 … ──> NAPTR of 8.4. … .e164.arpa ──> by order, preference ──┬─ flag u ──> substitution ──> a URI
//!                     ▲                                           └─ no flag ─┐
//!                     └────────────── the rules of the replacement ───────────┘  at most five in a row, none twice
//! ```
//! As in [`crate::next_hop`] there is no state but the answers: after each of them the rules are walked again. What a rule
//! makes of the number is worked out once, when it comes.

use std::time::Duration;

use base::limits::{
    DNS_FAILURE_TTL, DNS_NEGATIVE_TTL_MAX, DNS_RECORDS_MAX, DNS_TTL_MAX, ENUM_CHAIN_MAX, ENUM_QUESTIONS_MAX,
    ENUM_URIS_MAX,
};
use hashbrown::HashMap;
use sip::{Scheme, Uri};

use crate::number::Number;
use crate::place::{Service, is_name};
use crate::question::{Answer, Kind, Naptr, Question, Record};
use crate::search::{Failure, Outcome, Output, Search};
use crate::substitution::Substitution;

/// One of the ways to whoever has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumUri {
    /// Whose URI it is.
    pub service: Service,
    /// The URI, as its rule made it.
    pub uri: String,
}

/// The URIs of one number, best first; one at least.
pub type Uris = Vec<EnumUri>;

/// The search for the owner of one number.
#[derive(Debug)]
pub struct EnumNumber {
    number: String,
    start: String,
    rules: HashMap<String, Vec<Rule>>,
    ttl: Duration,
    is_unsure: bool,
    asked: Option<Question>,
    outputs: Vec<Output<Uris>>,
}

/// A rule that can be used.
#[derive(Debug)]
enum Rule {
    /// It gives this.
    Gives(EnumUri),
    /// It leads to the rules of this name.
    LeadsTo(String),
}

/// A name whose rules must be seen first.
struct Wants(String);

impl EnumNumber {
    /// Begins to look for a number in the zone of this name.
    pub fn start(number: &Number, suffix: &str) -> Self {
        let (start, number) = (number.domain(&suffix.to_ascii_lowercase()), number.to_string());
        let (asked, outputs) = (None, Vec::new());
        let mut search =
            Self { number, start, rules: HashMap::new(), ttl: DNS_TTL_MAX, is_unsure: false, asked, outputs };
        search.walk();
        search
    }

    /// The rules of a name that can be used, in their order: by order, then preference, equal ones as they came (RFC 6116
    /// §5.2). One that cannot be used is passed over.
    fn read(&mut self, answer: Answer) -> Vec<Rule> {
        let (records, ttl) = match answer {
            Answer::Records { records, ttl } => (records, ttl),
            Answer::Nothing { ttl } => (Vec::new(), ttl.min(DNS_NEGATIVE_TTL_MAX)),
            Answer::Unknown => {
                self.is_unsure = true;
                (Vec::new(), DNS_FAILURE_TTL)
            }
        };
        self.ttl = self.ttl.min(ttl);
        let naptr = |record| match record {
            Record::Naptr(naptr) => Some(naptr),
            Record::Srv(_) | Record::Address(_) => None,
        };
        let mut rules: Vec<Naptr> = records.into_iter().filter_map(naptr).collect();
        rules.sort_by_key(|rule| (rule.order, rule.preference));
        rules.truncate(DNS_RECORDS_MAX);
        let usable = rules.into_iter().filter_map(|rule| {
            if rule.flags.eq_ignore_ascii_case("u") {
                self.uri_of(&rule).map(Rule::Gives)
            } else if rule.flags.is_empty() && is_name(&rule.replacement) {
                Some(Rule::LeadsTo(rule.replacement.to_ascii_lowercase()))
            } else {
                None
            }
        });
        usable.collect()
    }

    fn walk(&mut self) {
        let (mut found, mut been) = (Vec::new(), Vec::new());
        let output = match self.follow(&self.start, 0, &mut been, &mut found) {
            // What is best is known; what else there would be is not worth a question.
            Err(Wants(name)) if found.is_empty() && self.rules.len() < ENUM_QUESTIONS_MAX => {
                let question = Question::new(name, Kind::Naptr);
                self.asked = Some(question.clone());
                Output::Ask(question)
            }
            _ => Output::Done(self.outcome(found)),
        };
        self.outputs.push(output);
    }

    fn outcome(&self, mut found: Vec<EnumUri>) -> Outcome<Uris> {
        found.truncate(ENUM_URIS_MAX);
        let failure = if self.is_unsure { Failure::Unknown } else { Failure::Nothing };
        Outcome { found: if found.is_empty() { Err(failure) } else { Ok(found) }, ttl: self.ttl }
    }

    /// The rules of a name; those that lead on are followed where they stand (RFC 6116 §5.2.1). A loop, or a chain that is
    /// as long as one, is passed over, and no name is followed twice.
    fn follow<'a>(
        &'a self,
        name: &'a str,
        depth: usize,
        been: &mut Vec<&'a str>,
        found: &mut Vec<EnumUri>,
    ) -> Result<(), Wants> {
        if depth > ENUM_CHAIN_MAX || been.contains(&name) {
            return Ok(());
        }
        been.push(name);
        for rule in self.rules.get(name).ok_or_else(|| Wants(name.to_owned()))? {
            match rule {
                Rule::Gives(uri) => found.push(uri.clone()),
                Rule::LeadsTo(name) => self.follow(name, depth + 1, been, found)?,
            }
        }
        Ok(())
    }

    /// What a terminal rule makes of the number, if that is a service of ours.
    fn uri_of(&self, rule: &Naptr) -> Option<EnumUri> {
        // RFC 3403 §4.1: a rule has one or the other.
        if !rule.replacement.is_empty() {
            return None;
        }
        let services: Vec<Service> = services(&rule.services).collect();
        let uri = Substitution::parse(&rule.regexp)?.apply(&self.number).filter(|_| !services.is_empty())?;
        let of_scheme = service_of(&Uri::parse(uri.as_bytes()).ok()?)?;
        // RFC 6116 §3.4.3.2: the leftmost of those that the URI can be. A SIP URI serves any of them.
        let service = services.into_iter().find(|service| *service == of_scheme || of_scheme == Service::Sip)?;
        Some(EnumUri { service, uri })
    }
}

impl Search for EnumNumber {
    type Found = Uris;

    fn handle(&mut self, question: &Question, answer: Answer) {
        if self.asked.as_ref() == Some(question) {
            self.asked = None;
            let rules = self.read(answer);
            self.rules.insert(question.name.clone(), rules);
            self.walk();
        }
    }

    fn poll_output(&mut self) -> Option<Output<Uris>> {
        self.outputs.pop()
    }
}

/// The enumservices that lead to messages: `E2U+sip` (RFC 3764), `E2U+im` (RFC 5028), `E2U+pres` (RFC 3953), several of
/// them (RFC 6116 §3.4.3), and the older spelling `sip+E2U` (§5.2).
fn services(field: &str) -> impl Iterator<Item = Service> {
    let mut words: Vec<&str> = field.split('+').collect();
    let is_enum = |word: &&str| word.eq_ignore_ascii_case("E2U");
    match (words.first().is_some_and(is_enum), words.last().is_some_and(is_enum)) {
        (true, _) => _ = words.remove(0),
        (false, true) => _ = words.pop(),
        (false, false) => words.clear(), // of another application
    }
    words.into_iter().filter_map(|word| {
        let kind = word.split(':').next().unwrap_or_default();
        let known = [("sip", Service::Sip), ("im", Service::Im), ("pres", Service::Pres)];
        known.into_iter().find(|(name, _)| kind.eq_ignore_ascii_case(name)).map(|(_, service)| service)
    })
}

fn service_of(uri: &Uri<'_>) -> Option<Service> {
    match uri.scheme {
        Scheme::Sip | Scheme::Sips => Some(Service::Sip),
        Scheme::Tel => None,
        Scheme::Other => crate::Place::of_uri(uri).ok().map(|place| place.service),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Plan;
    use crate::zone::Zone;

    const TTL: Duration = Duration::from_secs(60);
    const AT: &str = "3.8.0.0.6.9.2.3.6.1.4.4.e164.arpa";

    fn search(zone: &Zone) -> (Outcome<Uris>, usize) {
        let plan = Plan { country: "", domains: &[] };
        let number = Number::of_local(b"+441632960083", None, plan).unwrap();
        let (mut machine, mut asked) = (EnumNumber::start(&number, "E164.arpa"), 0);
        loop {
            match machine.poll_output().unwrap() {
                Output::Done(outcome) => return (outcome, asked),
                Output::Ask(question) => {
                    asked += 1;
                    machine.handle(&question, zone.answer(&question));
                }
            }
        }
    }

    fn uris(zone: &Zone) -> Vec<String> {
        let found = search(zone).0.found;
        found.map_or_else(|failure| vec![format!("{failure:?}")], |uris| uris.into_iter().map(|one| one.uri).collect())
    }

    fn zone() -> Zone {
        Zone::new(TTL)
    }

    #[test]
    fn the_example_of_the_standard_leads_to_its_sip_uri() {
        // RFC 6116 §4.
        let zone = zone()
            .rule(AT, (100, 52), "E2U+email:mailto", "!^.*$!mailto:info@example.com!")
            .rule(AT, (100, 51), "E2U+h323", r"!^\+441632960083$!h323:operator@example.com!")
            .rule(AT, (100, 50), "E2U+sip", r"!^(\+441632960083)$!sip:\1@example.com!");
        assert_eq!(uris(&zone), ["sip:+441632960083@example.com"]);
    }

    #[test]
    fn rules_are_taken_by_order_and_then_by_preference() {
        let zone = zone()
            .rule(AT, (20, 1), "E2U+sip", "!^.*$!sip:third@x.test!")
            .rule(AT, (10, 20), "E2U+sip", "!^.*$!sip:second@x.test!")
            .rule(AT, (10, 10), "E2U+sip", "!^.*$!sip:first@x.test!")
            .rule(AT, (20, 1), "E2U+sip", "!^.*$!sip:fourth@x.test!");
        assert_eq!(uris(&zone), ["first", "second", "third", "fourth"].map(|name| format!("sip:{name}@x.test")));
    }

    #[test]
    fn services_are_read_as_they_come() {
        let one = |services: &str, uri: &str| {
            let found = search(&zone().rule(AT, (1, 1), services, &format!("!^.*$!{uri}!"))).0.found;
            found.map(|uris| (uris[0].service, uris[0].uri.clone())).ok()
        };
        for (services, uri, wanted) in [
            ("e2u+SIP", "sip:a@x.test", Some(Service::Sip)),
            ("E2U+sip", "sips:a@x.test", Some(Service::Sip)),
            ("sip+E2U", "sip:a@x.test", Some(Service::Sip)),
            ("E2U+im", "im:a@x.test", Some(Service::Im)),
            ("E2U+pres", "pres:a@x.test", Some(Service::Pres)),
            // Compound ones: what is not known is passed over, the leftmost that fits counts.
            ("E2U+voice:tel+im+sip", "sip:a@x.test", Some(Service::Im)),
            ("E2U+pres+im", "im:a@x.test", Some(Service::Im)),
            ("E2U+sip", "im:a@x.test", None),
            ("E2U+voice:tel", "tel:+49", None),
            ("E2U+sip", "not a uri", None),
            ("E2U+P-sip", "sip:a@x.test", None),
            ("SIP+D2U", "sip:a@x.test", None),
            ("", "sip:a@x.test", None),
        ] {
            assert_eq!(one(services, uri), wanted.map(|service| (service, uri.to_owned())), "{services}");
        }
    }

    #[test]
    fn faulty_rules_are_passed_over() {
        // RFC 6116 §5.2: discarding one does not end the query.
        let zone = zone()
            .rule(AT, (1, 1), "E2U+sip", "!^.*$!sip:a@x.test")
            .rule(AT, (1, 2), "E2U+sip", "!^(.*$!sip:a@x.test!")
            .rule(AT, (1, 3), "E2U+sip", r"!^\+49!sip:a@x.test!")
            .naptr(AT, (1, 4), "u", "E2U+sip", "both.test")
            .naptr(AT, (1, 5), "s", "E2U+sip", "flag.test")
            .rule(AT, (1, 6), "E2U+sip", "!^.*$!sip:good@x.test!");
        assert_eq!(uris(&zone), ["sip:good@x.test"]);
    }

    #[test]
    fn rules_that_lead_on_are_followed_where_they_stand() {
        // RFC 6116 §5.2.1: the order counts within one set of rules; services of such a rule are not looked at.
        let zone = zone()
            .naptr(AT, (1, 1), "", "E2U+h323", "dead.test")
            .naptr(AT, (1, 2), "", "", "next.test")
            .rule(AT, (1, 3), "E2U+sip", "!^.*$!sip:last@x.test!")
            .rule("next.test", (99, 1), "E2U+sip", r"!^\+(.*)$!sip:\1@x.test!");
        assert_eq!(uris(&zone), ["sip:441632960083@x.test", "sip:last@x.test"]);
    }

    #[test]
    fn loops_and_long_chains_end() {
        let looped = zone()
            .naptr(AT, (1, 1), "", "", "one.test")
            .naptr("one.test", (1, 1), "", "", AT)
            .naptr("one.test", (1, 2), "", "", "One.test")
            .rule("one.test", (1, 3), "E2U+sip", "!^.*$!sip:a@x.test!");
        assert_eq!((uris(&looped), search(&looped).1), (vec!["sip:a@x.test".to_owned()], 2));
        let mut long = zone().naptr(AT, (1, 1), "", "", "n0.test").rule(AT, (1, 2), "E2U+sip", "!^.*$!sip:a@x.test!");
        for n in 0..9 {
            long = long.naptr(&format!("n{n}.test"), (1, 1), "", "", &format!("n{}.test", n + 1));
        }
        assert_eq!((uris(&long), search(&long).1), (vec!["sip:a@x.test".to_owned()], 1 + ENUM_CHAIN_MAX));
        // Every rule of every name leads to another one.
        let mut wide = zone();
        for n in 0..40 {
            for name in [AT.to_owned(), format!("w{n}.test")] {
                wide = wide.naptr(&name, (n, 1), "", "", &format!("w{}.test", (n * 7 + 1) % 40));
            }
        }
        let (outcome, asked) = search(&wide);
        assert!(outcome.found == Err(Failure::Nothing) && asked <= ENUM_QUESTIONS_MAX, "{asked}");
    }

    #[test]
    fn what_is_found_is_not_held_up_by_rules_behind_it() {
        let zone = zone().rule(AT, (1, 1), "E2U+sip", "!^.*$!sip:a@x.test!").naptr(AT, (1, 2), "", "", "next.test");
        assert_eq!(search(&zone).1, 1);
    }

    #[test]
    fn nobody_and_nobody_knows_are_two_things() {
        assert_eq!(search(&zone()).0, Outcome { found: Err(Failure::Nothing), ttl: TTL });
        let unknown = zone().unknown(AT, Kind::Naptr);
        assert_eq!(search(&unknown).0, Outcome { found: Err(Failure::Unknown), ttl: DNS_FAILURE_TTL });
    }
}
