//! Reads keys one by one: each with the kind of value it must be, each fault with its place.

use std::collections::BTreeSet;

use toml::Value;

use super::fault::Fault;
use super::keys::{self, Preset, SECTIONS, Stage};
use super::kinds;
use super::source::{Sets, one_value};

/// What a kind makes of a value, or everything that is wrong with it.
pub type Read<T> = Result<T, Vec<String>>;

/// What is set, what is not, and what was wrong so far.
pub struct Reader {
    sets: Sets,
    faults: Vec<Fault>,
    read: BTreeSet<String>,
    /// Place of faults of keys that nobody set: the file.
    file: String,
}

impl Reader {
    /// Over what the file and the environment gave, with the faults found there.
    pub fn new(file: &str, sets: Sets, faults: Vec<Fault>) -> Self {
        Self { sets, faults, read: BTreeSet::new(), file: file.to_owned() }
    }

    /// The key's value; its preset where nobody set it, or what was set is a fault (which is noted).
    ///
    /// # Panics
    /// Where the key does not stand in [`SECTIONS`] or its preset is not of the kind: a test reads them all.
    pub fn get<T>(&mut self, path: &str, kind: impl Fn(&Value) -> Read<T>) -> T {
        if let Some(value) = self.set(path, &kind) {
            return value;
        }
        kind(&preset(path)).unwrap_or_else(|faults| unreachable!("preset of {path}: {faults:?}"))
    }

    /// The key's value where somebody set it and it is no fault.
    pub fn set<T>(&mut self, path: &str, kind: impl Fn(&Value) -> Read<T>) -> Option<T> {
        self.read.insert(path.to_owned());
        match kind(&self.sets.get(path)?.value) {
            Ok(value) => Some(value),
            Err(reasons) => {
                for reason in reasons {
                    self.fault(path, reason);
                }
                None
            }
        }
    }

    /// The elements of a list; its preset's where nobody set it. Each faulty one is noted and left out: what the others
    /// say is still checked.
    ///
    /// # Panics
    /// As [`Reader::get`].
    pub fn list<T>(&mut self, path: &str, kind: impl Fn(&Value) -> Read<T>) -> Vec<T> {
        if self.is_set(path) {
            return self.set_list(path, kind).unwrap_or_default();
        }
        self.read.insert(path.to_owned());
        let preset = kinds::elements(&preset(path)).unwrap_or_default();
        let read = |one| kind(one).unwrap_or_else(|faults| unreachable!("preset of {path}: {faults:?}"));
        preset.iter().map(read).collect()
    }

    /// As [`Reader::list`] where somebody set it and something of it is no fault; a list of nothing is one.
    pub fn set_list<T>(&mut self, path: &str, kind: impl Fn(&Value) -> Read<T>) -> Option<Vec<T>> {
        let items = self.set(path, kinds::elements)?;
        let mut good = Vec::with_capacity(items.len());
        for item in &items {
            match kind(item) {
                Ok(item) => good.push(item),
                Err(reasons) => reasons.into_iter().for_each(|reason| self.fault(path, reason)),
            }
        }
        (items.is_empty() || !good.is_empty()).then_some(good)
    }

    /// Whether the key has been found at fault: then its value is another than what somebody set.
    pub fn is_faulty(&self, path: &str) -> bool {
        self.faults.iter().any(|fault| fault.key == path)
    }

    /// Whether somebody set the key, rightly or wrongly.
    pub fn is_set(&self, path: &str) -> bool {
        self.sets.contains_key(path)
    }

    /// Whether the key has another value than its preset.
    pub fn departs(&self, path: &str) -> bool {
        let preset = keys::find(path).map(|key| key.preset);
        match (self.sets.get(path), preset) {
            (Some(set), Some(Preset::Toml(text))) => Some(&set.value) != one_value(text).as_ref(),
            (Some(set), Some(Preset::Number(number))) => set.value.as_integer() != i64::try_from(number).ok(),
            (set, _) => set.is_some(),
        }
    }

    /// Notes a fault of this key, at the place where it was set.
    pub fn fault(&mut self, path: &str, reason: impl Into<String>) {
        let place = self.sets.get(path).map_or(&self.file, |set| &set.place).clone();
        self.faults.push(Fault { place, key: path.to_owned(), reason: reason.into() });
    }

    /// Keys that ask for what is not built become faults; those that tune it, notices.
    pub fn absent_things(&mut self) -> Vec<String> {
        let mut notices = Vec::new();
        for section in SECTIONS {
            for key in section.keys {
                let path = section.path(key);
                match key.stage {
                    Stage::Built => {}
                    _ if !self.departs(&path) => {}
                    Stage::Later => {
                        notices.push(format!("{path} is read and checked, but nothing in this version uses it yet"));
                    }
                    Stage::Asks(what) => {
                        self.fault(&path, format!("asks for {what}, not built into this version (leave the key out)"));
                    }
                }
            }
        }
        notices
    }

    /// What was wrong, place by place.
    pub fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| {
            let (file, line) = fault.place.rsplit_once(':').unwrap_or((&fault.place, "0"));
            (file.to_owned(), line.parse::<usize>().unwrap_or(0))
        });
        self.faults
    }

    /// Names of the keys that were read.
    #[cfg(test)]
    pub fn read_so_far(&self) -> &BTreeSet<String> {
        &self.read
    }
}

fn preset(path: &str) -> Value {
    match keys::find(path).expect("every key that is read stands in the table").preset {
        Preset::Toml(text) => one_value(text).expect("every preset is TOML"),
        Preset::Number(number) => Value::Integer(number.try_into().expect("every preset fits")),
        Preset::Derived(_) => unreachable!("derived keys are read with `set`"),
    }
}
