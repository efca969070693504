//! POSIX extended regular expressions (IEEE 1003.1 §9.4), as the ones that match in linear time: whoever owns a number
//! writes them, and whatever he writes costs what its length costs.
//!
//! Where POSIX leaves open what an expression means, it is taken for the sign that stands there: `^+44` means the plus, as
//! it does wherever somebody has forgotten to escape it. Of several ways to match the first one counts, not the longest:
//! that shows only in what `\1` gives of expressions that are not anchored.

/// The most that an interval repeats (IEEE 1003.1, `RE_DUP_MAX`).
const REPEATS_MOST: u32 = 255;
/// Signs that need an escape outside of brackets.
const SPECIAL: &str = r"\.+*?()|[]{}^$";
/// Signs that need one within.
const SPECIAL_IN_BRACKETS: &str = r"\[]^-&~";

/// The same expression in the syntax of `regex_lite`; nothing for what is no expression.
pub(crate) fn translate(ere: &str) -> Option<String> {
    let mut translation =
        Translation { out: String::with_capacity(ere.len() * 2), groups: Vec::new(), atom: Atom::None };
    let mut rest = ere;
    while let Some(sign) = rest.chars().next() {
        rest = translation.take(sign, &rest[sign.len_utf8()..])?;
    }
    translation.groups.is_empty().then_some(translation.out)
}

/// What stands before, and could be repeated.
#[derive(Clone, Copy)]
enum Atom {
    None,
    /// From this place of the output on.
    At(usize),
    /// The same, repeated already.
    Repeated(usize),
}

struct Translation {
    out: String,
    /// Where the open groups begin.
    groups: Vec<usize>,
    atom: Atom,
}

impl Translation {
    /// One sign, and what stands behind it; what is left of that comes back.
    fn take<'a>(&mut self, sign: char, rest: &'a str) -> Option<&'a str> {
        match sign {
            '\\' => {
                let escaped = rest.chars().next().filter(|escaped| !escaped.is_ascii_digit())?;
                self.literal(escaped);
                return Some(&rest[escaped.len_utf8()..]);
            }
            '[' => return self.brackets(rest),
            '(' => {
                self.groups.push(self.out.len());
                self.out.push('(');
                self.atom = Atom::None;
            }
            ')' => {
                let start = self.groups.pop()?;
                self.out.push(')');
                self.atom = Atom::At(start);
            }
            '|' | '^' | '$' => {
                self.out.push(sign);
                self.atom = Atom::None;
            }
            '.' => {
                self.atom = Atom::At(self.out.len());
                self.out.push('.');
            }
            '*' | '+' | '?' => self.repeat(sign.encode_utf8(&mut [0; 4]), sign),
            '{' if matches!(self.atom, Atom::None) => self.literal(sign),
            '{' => {
                let (interval, behind) = rest.split_once('}')?;
                if !is_interval(interval) {
                    return None;
                }
                self.repeat(&format!("{{{interval}}}"), sign);
                return Some(behind);
            }
            _ => self.literal(sign),
        }
        Some(rest)
    }

    fn literal(&mut self, sign: char) {
        self.atom = Atom::At(self.out.len());
        if SPECIAL.contains(sign) {
            self.out.push('\\');
        }
        self.out.push(sign);
    }

    /// A repetition; where nothing could be repeated the sign means itself.
    fn repeat(&mut self, how: &str, sign: char) {
        match self.atom {
            Atom::None => return self.literal(sign),
            Atom::At(start) => self.atom = Atom::Repeated(start),
            // `a*?` is a repetition of a repetition here, and a lazy one there.
            Atom::Repeated(start) => {
                self.out.insert_str(start, "(?:");
                self.out.push(')');
            }
        }
        self.out.push_str(how);
    }

    /// What stands in brackets: the sign behind the bracket is `rest`'s first.
    fn brackets<'a>(&mut self, rest: &'a str) -> Option<&'a str> {
        let start = self.out.len();
        self.out.push('[');
        let mut rest = rest;
        if let Some(behind) = rest.strip_prefix('^') {
            self.out.push('^');
            rest = behind;
        }
        let mut is_first = true;
        loop {
            let sign = rest.chars().next()?;
            let behind = &rest[sign.len_utf8()..];
            if sign == ']' && !is_first {
                self.out.push(']');
                self.atom = Atom::At(start);
                return Some(behind);
            }
            is_first = false;
            rest = match sign {
                '[' if behind.starts_with(':') => {
                    let (class, behind) = behind[1..].split_once(":]")?;
                    if class.is_empty() || !class.bytes().all(|byte| byte.is_ascii_lowercase()) {
                        return None;
                    }
                    self.out.push_str("[:");
                    self.out.push_str(class);
                    self.out.push_str(":]");
                    behind
                }
                // Collating symbols and equivalence classes are no digits of anybody's.
                '[' if behind.starts_with(['.', '=']) => return None,
                _ => {
                    self.in_brackets(sign);
                    let mut signs = behind.chars();
                    match (signs.next(), signs.next()) {
                        (Some('-'), Some(end)) if end != ']' => {
                            if end == '[' {
                                return None;
                            }
                            self.out.push('-');
                            self.in_brackets(end);
                            &behind[1 + end.len_utf8()..]
                        }
                        _ => behind,
                    }
                }
            };
        }
    }

    fn in_brackets(&mut self, sign: char) {
        if SPECIAL_IN_BRACKETS.contains(sign) {
            self.out.push('\\');
        }
        self.out.push(sign);
    }
}

/// `3`, `3,` or `3,5`.
fn is_interval(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= REPEATS_MOST);
    match text.split_once(',') {
        None => number(text).is_some(),
        Some((least, "")) => number(least).is_some(),
        Some((least, most)) => matches!((number(least), number(most)), (Some(least), Some(most)) if least <= most),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_lite::Regex;

    use super::*;

    fn matches(ere: &str, text: &str) -> bool {
        Regex::new(&translate(ere).unwrap_or_else(|| panic!("{ere} is none"))).unwrap().is_match(text)
    }

    #[test]
    fn expressions_match_as_posix_says() {
        for (ere, hits, misses) in [
            (r"^\+441632960083$", &["+441632960083"][..], &["441632960083", "+4416329600834"][..]),
            // POSIX leaves this open; who wrote it meant the plus.
            (r"^+44", &["+44"], &["44"]),
            (r"^.*$", &["+44", ""], &[]),
            (r"^\+44(20|131)[0-9]{2,3}$", &["+442012", "+44131123"], &["+442112", "+44201"]),
            (r"[[:digit:]]+", &["7"], &["x"]),
            (r"^[^0-4]$", &["5"], &["4"]),
            (r"^[]a]$", &["]", "a"], &["b"]),
            (r"^[^]a]$", &["b"], &["]"]),
            (r"^[a\]$", &["\\", "a"], &["]"]),
            (r"^[a-]$", &["-", "a"], &["b"]),
            (r"^[a&&b]$", &["&"], &["c"]),
            (r"^[a[]$", &["["], &["b"]),
            (r"^a*?$", &["", "aaa"], &["b"]),
            (r"^a{2}{2}$", &["aaaa"], &["aa"]),
            (r"^(a|b)+c$", &["abac"], &["c"]),
            (r"^(?a)$", &["?a"], &["a"]),
            (r"^\d$", &["d"], &["7"]),
            (r"{2}", &["{2}"], &["2"]),
            ("^é$", &["é"], &["e"]),
        ] {
            for text in hits {
                assert!(matches(ere, text), "{ere} takes {text}");
            }
            for text in misses {
                assert!(!matches(ere, text), "{ere} does not take {text}");
            }
        }
    }

    #[test]
    fn what_is_no_expression_is_none() {
        for ere in [
            "(",
            ")",
            "(a",
            "a)",
            "[",
            "[a",
            "[^]",
            "a\\",
            r"\1",
            "a{",
            "a{x}",
            "a{3,2}",
            "a{256}",
            "[[.a.]]",
            "[[:digit]",
            "[a-[:digit:]]",
        ] {
            assert_eq!(translate(ere), None, "{ere}");
        }
    }

    proptest! {
        /// Whatever stands there: no expression of ours is one that the engine takes for another one's fault.
        #[test]
        fn what_is_translated_is_a_sound_expression_or_too_large(ere in r"[\[\]()|*+?.^$\\{},0-9a:=\-]{0,24}") {
            if let Some(out) = translate(&ere) {
                let built = regex_lite::RegexBuilder::new(&out).size_limit(1 << 16).build();
                if let Err(error) = built {
                    let told = error.to_string();
                    prop_assert!(told.contains("size") || told.contains("range") || told.contains("nest") || told.contains("class"), "{ere} -> {out}: {told}");
                }
            }
        }
    }
}
