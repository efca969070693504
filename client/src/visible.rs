//! What a stranger wrote, made safe to look at: nothing in it steers the terminal, turns the direction of what stands
//! around it, hides, or passes for a line of ours.

/// Where a line of somebody else's text goes on: our own lines begin with a time of day.
const CONTINUED: &str = "    ";

/// As a person may see it. Control, bidirectional and invisible characters are written as `\u{202e}`; line ends stay,
/// and what follows them is set in.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            // A line end of its own kind: what is written at the wire.
            '\r' if rest.peek() == Some(&'\n') => {}
            '\n' => {
                shown.push('\n');
                shown.push_str(CONTINUED);
            }
            '\t' => shown.push(letter),
            _ if joins(before, letter, rest.peek().copied()) => shown.push(letter),
            _ if letter.is_control() || is_hidden(letter) => shown.extend(letter.escape_unicode()),
            _ => shown.push(letter),
        }
        before = Some(letter);
    }
    shown
}

/// A joiner where words are written with one: between letters of scripts from Hebrew on, or between emoji. Between Latin,
/// Greek or Cyrillic letters it only makes two names that look the same.
fn joins(before: Option<char>, letter: char, after: Option<char>) -> bool {
    let takes_joiners = |near: Option<char>| near.is_some_and(|near| near >= '\u{590}' && !is_hidden(near));
    matches!(letter, '\u{200c}' | '\u{200d}') && takes_joiners(before) && takes_joiners(after)
}

/// What leaves no mark of its own but changes how others are read: the format characters (Unicode 16, Cf, but for the
/// Arabic and Kaithi number signs, which can be seen), line and paragraph separators, and what is ignored by default
/// (UAX #44, Default_Ignorable_Code_Point, but for the variation selectors that emoji are written with).
pub(crate) fn is_hidden(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        // Among them the overrides and isolates of UAX #9.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\u{9b}c\rtd\u{7f}"), r"a\u{1b}[2Jb\u{9b}c\u{d}td\u{7f}");
    }

    #[test]
    fn what_turns_the_direction_or_hides_is_seen() {
        for (text, shown) in [
            ("abc\u{202e}gpj.exe", r"abc\u{202e}gpj.exe"),
            ("\u{2066}x\u{2069}\u{200f}", r"\u{2066}x\u{2069}\u{200f}"),
            ("sip:al\u{200b}ice@example.com", r"sip:al\u{200b}ice@example.com"),
            ("ali\u{200d}ce", r"ali\u{200d}ce"),
            ("\u{feff}\u{ad}\u{3164}\u{e0041}", r"\u{feff}\u{ad}\u{3164}\u{e0041}"),
            ("a\u{2028}b\u{85}c", r"a\u{2028}b\u{85}c"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["שלום, Grüße, \tこんにちは", "e\u{301}", "می\u{200c}خواهم", "👩\u{200d}🔬", "❤\u{fe0f}", r"C:\new"]
        {
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn a_second_line_passes_for_none_of_ours() {
        assert_eq!(visible("one\r\n14:03:05 two\n"), "one\n    14:03:05 two\n    ");
    }
}
