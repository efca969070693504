//! Octets as all text protocols read them: tokens, white space, lists, quotes, numbers.

/// RFC 3261 §25.1 `token`, an entry an octet: parsers ask it of nearly every octet of a head.
const TOKEN: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        byte += 1;
    }
    table
};

/// RFC 3261 §25.1 `token`.
#[inline]
pub fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Space or horizontal tab.
#[inline]
pub fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without white space and line ends at both sides (line ends occur inside folded values, RFC 3261 §7.3.1).
pub fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = bytes.iter().position(|b| !is_space(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !is_space(b)).map_or(start, |at| at + 1);
    &bytes[start..end]
}

/// Where `wanted` stands outside quoted strings; a backslash inside quotes escapes the next octet.
pub fn find_outside_quotes(bytes: &[u8], wanted: u8) -> Option<usize> {
    let (mut quoted, mut at) = (false, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            _ if byte == wanted && !quoted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The pieces of a comma-separated list: commas inside quotes and angle brackets do not count. Pieces are trimmed,
/// empty ones left out.
pub fn commas(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    list(bytes, true)
}

/// As [`commas`]; where the grammar has no angle brackets (`is_angled` false) they are octets like others.
pub fn list(bytes: &[u8], is_angled: bool) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = comma(rest, is_angled).unwrap_or(rest.len());
            let piece = trim(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or(&[]);
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    })
}

fn comma(bytes: &[u8], is_angled: bool) -> Option<usize> {
    let (mut quoted, mut angled, mut at) = (false, false, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' if !angled => quoted = !quoted,
            b'<' if !quoted => angled = is_angled,
            b'>' if !quoted => angled = false,
            b',' if !quoted && !angled => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// A decimal number of digits alone; nothing when it is none or does not fit.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        commas(text.as_bytes()).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
    }

    #[test]
    fn commas_in_quotes_and_brackets_separate_nothing() {
        assert_eq!(split(r#""a, \", b" <sip:a,b@c>;x=1 , <d>,, e"#), [r#""a, \", b" <sip:a,b@c>;x=1"#, "<d>", "e"]);
    }

    #[test]
    fn tokens_are_what_the_grammar_says() {
        let tokens: Vec<u8> = (0..=255).filter(|byte| is_token(*byte)).collect();
        let wanted: Vec<u8> =
            (0..=255u8).filter(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte)).collect();
        assert_eq!(tokens, wanted);
    }

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for none in ["", "18446744073709551616", "+1", "1 ", "-1", "0x1"] {
            assert_eq!(decimal(none.as_bytes()), None, "{none:?}");
        }
    }

    #[test]
    fn white_space_and_folds_are_trimmed() {
        assert_eq!(trim(b"\r\n\t a b \r\n "), b"a b");
        assert_eq!(trim(b" \r\n "), b"");
    }
}
