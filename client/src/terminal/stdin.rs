//! Lines of standard input, read by a thread of their own: a person who thinks does not hold up the network.

use std::io::{self, BufRead, Read};

use tokio::sync::mpsc;

/// A line longer than any message may be.
const LINE_BYTES: u64 = base::limits::SIP_MESSAGE_BYTES_MAX as u64;
/// Lines read ahead; then the reading thread waits.
const LINES_AHEAD: usize = 64;

/// One line, or why it is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its end.
    Text(String),
    /// Longer than [`LINE_BYTES`]; it is passed over to its end.
    TooLong,
    /// Octets that are no UTF-8.
    NotUtf8,
}

impl Line {
    /// The text, or what is to be said about a line that is none.
    pub fn text(self) -> Result<String, &'static str> {
        match self {
            Self::Text(line) => Ok(line),
            Self::TooLong => Err("a line is longer than any message may be; it was passed over"),
            Self::NotUtf8 => Err("a line is not UTF-8; it was passed over"),
        }
    }
}

/// Starts the thread. The receiver ends with standard input.
pub fn lines() -> io::Result<mpsc::Receiver<Line>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(line)) = next(&mut input) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

fn next(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    if input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 == LINE_BYTES && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    while line.ends_with(b"\n") || line.ends_with(b"\r") {
        line.pop();
    }
    Ok(Some(String::from_utf8(line).map_or(Line::NotUtf8, Line::Text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_and_the_last_needs_no_end() {
        let long = vec![b'x'; 70_000];
        let input = [b"one\r\n\n\xff\n".as_slice(), &long, b"\nlast"].concat();
        let mut input = input.as_slice();
        let mut heard = Vec::new();
        while let Some(line) = next(&mut input).unwrap() {
            heard.push(line);
        }
        let text = |text: &str| Line::Text(text.to_owned());
        assert_eq!(heard, [text("one"), text(""), Line::NotUtf8, Line::TooLong, text("last")]);
    }
}
