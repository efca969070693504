//! Writes the default configuration, every key with its doc, from the table of keys.

use std::fmt::Write;

use super::keys::{Key, Preset, SECTIONS, Stage};

/// Where a comment is folded.
const WIDTH: usize = 110;

const HEAD: &str = "\
# Parlour's configuration. Every key stands here with its default: a file of two lines, `domain` and `data_dir`, is
# enough. Relative paths start at the working directory. The environment overrides the file: PARLOUR__SIP__UDP is
# sip.udp, PARLOUR__DOMAIN is domain. `parlour check` names every fault of a file, with key and reason.
#
# This file is written by `parlour check --defaults`.
";

/// The text of `config/parlour.toml`.
pub fn render_default_config() -> String {
    let mut out = HEAD.to_owned();
    for section in SECTIONS {
        out.push('\n');
        if !section.name.is_empty() {
            comment(&mut out, section.doc);
            _ = writeln!(out, "[{}]", section.name);
        }
        for key in section.keys {
            comment(&mut out, &doc_of(key));
            _ = match key.preset {
                Preset::Toml(text) => writeln!(out, "{} = {text}", key.name),
                Preset::Number(number) => writeln!(out, "{} = {}", key.name, grouped(number)),
                Preset::Derived(example) => writeln!(out, "# {} = {example}", key.name),
            };
        }
    }
    out
}

fn doc_of(key: &Key) -> String {
    let mut doc = key.doc.to_owned();
    if !key.unit.is_empty() {
        _ = write!(doc, " Unit: {}.", key.unit);
    }
    if let Stage::Asks(what) = key.stage {
        _ = write!(doc, " Not in this version: {what}.");
    }
    doc
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + word.len() >= WIDTH {
            _ = writeln!(out, "{line}");
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    _ = writeln!(out, "{line}");
}

/// `10_485_760`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}
