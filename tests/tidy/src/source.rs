//! Rust text without what is not code: comments and literals become blanks, so that a rule that looks for a word finds
//! the word and not its mention. Lines keep their numbers.

/// Text with comments blanked, and with the contents of strings and characters blanked.
pub fn code(text: &str) -> String {
    let mut reader = Reader { rest: text, out: String::with_capacity(text.len()), before: ' ' };
    while !reader.rest.is_empty() {
        reader.step();
    }
    reader.out
}

/// Code up to the file's own test module.
pub fn shipped(code: &str) -> &str {
    let modules = code.match_indices("#[cfg(test)]\nmod ");
    let is_inline = |at: usize| code[at..].lines().nth(1).is_some_and(|line| line.contains('{'));
    modules.map(|(at, _)| at).find(|at| is_inline(*at)).map_or(code, |at| &code[..at])
}

/// Paths of the modules that this file declares for its tests alone: `#[cfg(test)] mod world;`, with or without
/// `#[path = "…"]`.
pub fn test_modules(path: &str, text: &str) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let mut lines = text.lines().map(str::trim);
    let mut found = Vec::new();
    while lines.any(|line| line == "#[cfg(test)]") {
        let next = lines.next().unwrap_or_default();
        let named = next.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]"));
        let declaration = if named.is_some() { lines.next().unwrap_or_default() } else { next };
        let Some(name) = declaration.strip_suffix(';').and_then(|line| line.split("mod ").nth(1)) else { continue };
        match named {
            Some(named) => found.push(format!("{folder}/{named}")),
            // Which of the two it is, the file system knows; one of them is there.
            None => found.extend([format!("{folder}/{name}.rs"), format!("{folder}/{stem}/{name}.rs")]),
        }
    }
    found
}

/// Where `word` stands in `code` as a word of its own: numbers of lines, from 1.
pub fn lines_with(code: &str, word: &str) -> Vec<usize> {
    code.lines().enumerate().filter(|(_, line)| has_word(line, word)).map(|(at, _)| at + 1).collect()
}

/// Whether `line` has `word` with no letter, digit or `_` at either side of it.
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let left = line[..at].chars().next_back();
        let right = line[at + word.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joins(left) && !joins(right)
    })
}

struct Reader<'a> {
    rest: &'a str,
    out: String,
    /// The character before `rest`, to tell `r"` from the end of `for"`.
    before: char,
}

impl Reader<'_> {
    fn step(&mut self) {
        let joined = self.before.is_alphanumeric() || self.before == '_';
        if self.rest.starts_with("//") {
            self.blank(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.blank(comment(self.rest));
        } else if let Some(length) = raw_string(self.rest).filter(|_| !joined) {
            self.blank(length);
        } else if self.rest.starts_with('"') {
            self.blank(string(self.rest));
        } else if let Some(length) = character(self.rest) {
            self.blank(length);
        } else {
            let first = self.rest.chars().next().unwrap_or(' ');
            self.out.push(first);
            self.before = first;
            self.rest = &self.rest[first.len_utf8()..];
        }
    }

    fn blank(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at(length);
        self.out.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.before = ' ';
        self.rest = rest;
    }
}

fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(pair) = text.as_bytes().get(at..at + 2) {
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let (bytes, mut at) = (text.as_bytes(), 1);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let head = text.len() - body.len();
    Some(body.find(&end).map_or(text.len(), |at| head + at + end.len()))
}

/// The length of a character literal; nothing for a lifetime.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if let Some(escaped) = inner.strip_prefix('\\') {
        let first = escaped.chars().next()?.len_utf8(); // it may be a quote
        return escaped[first..].find('\'').map(|at| 2 + first + at + 1);
    }
    let one = inner.chars().next()?.len_utf8();
    inner[one..].starts_with('\'').then_some(one + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text =
            "let a = \"unsafe \\\" unsafe\"; // unsafe\n/* unsafe /* unsafe */ unsafe */ let b = r#\"unsafe \" \"#;\n";
        let code = code(text);
        assert!(!code.contains("unsafe"), "{code}");
        assert_eq!(code.lines().count(), 2);
        assert!(code.contains("let a =") && code.contains("let b ="));
    }

    #[test]
    fn lifetimes_are_code_and_characters_are_not() {
        let code = code("fn f<'a>(c: &'a str) { g('\"', '\\'', '\\u{1F600}', 'x'); unsafe {} }");
        assert!(code.contains("fn f<'a>(c: &'a str)") && code.ends_with("unsafe {} }"), "{code}");
        assert!(!code.contains('x') && !code.contains('"'), "{code}");
    }

    #[test]
    fn words_stand_alone() {
        assert!(has_word("unsafe { }", "unsafe") && has_word("(std::fs::read)", "std::fs"));
        assert!(!has_word("unsafe_code", "unsafe") && !has_word("_todo!", "todo!"));
        assert_eq!(lines_with("a\nb a\n", "a"), [1, 2]);
    }

    #[test]
    fn modules_for_tests_are_known_by_their_declaration() {
        let text = "mod a;\n#[cfg(test)]\nmod world;\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n#[cfg(test)]\nmod c {}\n";
        let wanted = ["core/x/src/world.rs", "core/x/src/machine/world.rs", "core/x/src/b_tests.rs"];
        assert_eq!(test_modules("core/x/src/machine.rs", text), wanted);
        assert!(shipped(text).ends_with("mod tests;\n"), "{}", shipped(text));
    }

    #[test]
    fn what_ships_ends_at_the_test_module() {
        assert_eq!(shipped("a\n#[cfg(test)]\nmod tests { b }"), "a\n");
        assert_eq!(shipped("a\n#[cfg(test)]\nuse x;\nb"), "a\n#[cfg(test)]\nuse x;\nb");
    }
}
