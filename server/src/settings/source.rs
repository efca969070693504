//! Where values come from: the file, then the environment over it. Every value remembers its place.

use std::collections::BTreeMap;
use std::ffi::OsString;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use super::keys::{self, Preset, SECTIONS};

/// What every variable of ours begins with.
pub const ENV_PREFIX: &str = "PARLOUR__";

/// A value that somebody set.
#[derive(Debug, Clone)]
pub struct Set {
    /// As TOML.
    pub value: Value,
    /// `parlour.toml:3`, or the name of the variable.
    pub place: String,
}

/// All that somebody set, by whole name; all names in it are in [`SECTIONS`].
pub type Sets = BTreeMap<String, Set>;

/// The file's text becomes sets; what is no TOML or no key of ours becomes faults.
pub fn read_file(name: &str, text: &str, sets: &mut Sets, faults: &mut Vec<Fault>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = error.span().map_or_else(|| name.to_owned(), |span| at_line(name, text, span.start));
        faults.push(Fault {
            place,
            key: String::new(),
            reason: format!("this is no TOML: {}", one_line(error.message())),
        });
    }
    for (key, value) in document.get_ref() {
        let place = at_line(name, text, key.span().start);
        match (value.get_ref(), section(key.get_ref())) {
            (DeValue::Table(table), Some(section)) => {
                for (inner, value) in table {
                    let place = at_line(name, text, inner.span().start);
                    let path = format!("{}.{}", section.name, inner.get_ref());
                    take(path, value.get_ref(), place, sets, faults);
                }
            }
            (_, Some(section)) => faults.push(Fault {
                place,
                key: section.name.to_owned(),
                reason: format!("is a table, not a value (write [{}] on a line of its own)", section.name),
            }),
            (value, None) => take(key.get_ref().to_string(), value, place, sets, faults),
        }
    }
}

/// Variables that begin with [`ENV_PREFIX`] become sets, over those of the file.
pub fn read_env(env: impl Iterator<Item = (OsString, OsString)>, sets: &mut Sets, faults: &mut Vec<Fault>) {
    for (variable, value) in env {
        let Some(variable) = variable.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else { continue };
        let path = variable[ENV_PREFIX.len()..].to_ascii_lowercase().replacen("__", ".", 1);
        let Some(raw) = value.to_str() else {
            faults.push(Fault { place: variable.to_owned(), key: path, reason: "the value is not UTF-8".to_owned() });
            continue;
        };
        match keys::find(&path) {
            Some(key) => {
                let set = Set { value: env_value(raw, &key.preset), place: variable.to_owned() };
                sets.insert(path, set);
            }
            None => faults.push(unknown_variable(path, variable.to_owned())),
        }
    }
}

/// A variable that names no key: as [`unknown`], and what else only a variable can get wrong.
fn unknown_variable(path: String, place: String) -> Fault {
    let name = path.trim_end_matches('.');
    let reason = match section(name) {
        Some(section) => match section.keys.first() {
            Some(key) => {
                let example = section.path(key).replacen('.', "__", 1).to_ascii_uppercase();
                format!("is a section, not a key (name a key of it, such as {ENV_PREFIX}{example})")
            }
            None => "is a section, and has no keys in this version (take the variable out)".to_owned(),
        },
        None if name.is_empty() || path.starts_with('.') => {
            format!("names no key (write {ENV_PREFIX}SECTION__KEY, or {ENV_PREFIX}KEY for a key above the sections)")
        }
        None => return unknown(path, place),
    };
    Fault { place, key: name.to_owned(), reason }
}

/// As TOML where it is TOML; else, and where a text is wanted, as the text that it is.
fn env_value(raw: &str, preset: &Preset) -> Value {
    let wants_text = matches!(preset, Preset::Toml(text) if text.starts_with('"'))
        || matches!(preset, Preset::Derived(text) if text.starts_with('"'));
    match one_value(raw) {
        Some(value) if value.is_str() || !wants_text => value,
        _ => Value::String(raw.to_owned()),
    }
}

/// A single TOML value; nothing where the text is none, or more than one.
pub fn one_value(raw: &str) -> Option<Value> {
    let mut table = format!("value = {raw}").parse::<toml::Table>().ok()?;
    if table.len() == 1 { table.remove("value") } else { None }
}

fn section(name: &str) -> Option<&'static keys::Section> {
    SECTIONS.iter().find(|section| section.name == name && !name.is_empty())
}

fn take(path: String, value: &DeValue<'_>, place: String, sets: &mut Sets, faults: &mut Vec<Fault>) {
    if keys::find(&path).is_none() {
        faults.push(unknown(path, place));
        return;
    }
    match owned(value) {
        Some(value) => {
            sets.insert(path, Set { value, place });
        }
        None => faults.push(Fault { place, key: path, reason: "the number is out of range".to_owned() }),
    }
}

fn owned(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
        DeValue::Float(number) => Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| owned(item.get_ref())).collect::<Option<Vec<_>>>()?)
        }
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), owned(value.get_ref())?)))
                .collect::<Option<toml::Table>>()?,
        ),
    })
}

/// A key that nobody knows, and the nearest one that somebody does.
fn unknown(path: String, place: String) -> Fault {
    let whole = || SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| section.path(key)));
    let section = path.split_once('.').map(|(section, _)| section);
    let tables = SECTIONS.iter().map(|section| section.name.to_owned());
    let tables = tables.filter(|name| section.is_none() && !name.is_empty());
    let nearest = whole().chain(tables).map(|each| (distance(&each, &path), each)).min();
    let reason = match nearest {
        Some((far, name)) if far <= 2.max(path.len() / 4) => format!("there is no such key (did you mean {name}?)"),
        // The right name in the wrong table.
        _ => match whole().find(|each| each.rsplit('.').next() == path.rsplit('.').next()) {
            Some(name) => format!("there is no such key (did you mean {name}?)"),
            None => "there is no such key (`parlour check --defaults` shows all there are)".to_owned(),
        },
    };
    Fault { place, key: path, reason }
}

/// Letters to add, drop or change (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (column, other) in right.iter().enumerate() {
            let kept = corner + usize::from(letter != *other);
            corner = row[column + 1];
            row[column + 1] = kept.min(row[column] + 1).min(corner + 1);
        }
    }
    row[right.len()]
}

fn at_line(name: &str, text: &str, offset: usize) -> String {
    let line = text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
    format!("{name}:{line}")
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_told_its_neighbour() {
        for (wrong, right) in [
            ("sip.upd", "sip.udp"),
            ("sipp.udp", "sip.udp"),
            ("domian", "domain"),
            ("limit", "limits"),
            ("storage.message_bytes", "limits.message_bytes"),
        ] {
            let fault = unknown(wrong.to_owned(), "x".to_owned());
            assert!(fault.reason.contains(&format!("did you mean {right}?")), "{wrong}: {}", fault.reason);
        }
        assert!(unknown("sip.entirely_else".to_owned(), "x".to_owned()).reason.contains("--defaults"));
    }

    #[test]
    fn the_environment_takes_toml_and_bare_text() {
        let text = Preset::Toml(r#""""#);
        let list = Preset::Toml("[]");
        assert_eq!(env_value("example.org", &text), Value::String("example.org".to_owned()));
        assert_eq!(env_value(r#""example.org""#, &text), Value::String("example.org".to_owned()));
        assert_eq!(env_value("49", &text), Value::String("49".to_owned()), "a number where a text is wanted");
        assert_eq!(env_value("49", &Preset::Number(0)), Value::Integer(49));
        assert_eq!(env_value("[1, 2]", &list), Value::Array(vec![1.into(), 2.into()]));
        assert_eq!(
            env_value("1\nother = 2", &list),
            Value::String("1\nother = 2".to_owned()),
            "no second key slips in"
        );
    }

    #[test]
    fn every_error_of_syntax_is_told_with_its_line() {
        let (mut sets, mut faults) = (Sets::new(), Vec::new());
        read_file("p.toml", "domain = \n[sip]\nudp = [\"127.0.0.1:1\"]\ntcp = nonsense\n", &mut sets, &mut faults);
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert!(places.contains(&"p.toml:1") && places.contains(&"p.toml:4"), "{faults:?}");
        assert!(sets.contains_key("sip.udp"), "what could be read is read");
    }
}
