//! What a line from standard input asks for: a text, a word that begins with `/`, or a JSON object.

use std::path::PathBuf;

use base::Aor;
use base::aor::AorError;
use serde_json::Value;

/// What `/help` shows.
pub const HELP: &str = "\
  TEXT                   send it to whom /to named
  /to ADDRESS            who gets the lines that follow: sip:bob@example.com, or bob of your own domain
  /message ADDRESS TEXT  send one text, whoever /to named
  /accept, /refuse       take the session that somebody invites to, or refuse it
  /receipts on|off       ask for delivery and display notifications
  //TEXT                 send a text that begins with /
  /help                  this
  /quit                  unregister and leave (so does the end of standard input)";

/// What `/help` shows within a session.
pub const CHAT_HELP: &str = "\
  TEXT                   send it
  /send FILE             send a file
  //TEXT                 send a text that begins with /
  /bye                   hang up
  /help                  this
  /quit                  hang up and leave";

/// One order.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Send this; to the chosen one, if none is named.
    Say {
        /// To whom, if named.
        to: Option<Aor>,
        /// What.
        text: String,
        /// Whether notifications are asked for, if said.
        receipts: Option<bool>,
    },
    /// Choose who gets the lines that follow.
    To(Aor),
    /// Send a file within the session.
    SendFile(PathBuf),
    /// End the session.
    Bye,
    /// Take the session that somebody invites to.
    Accept,
    /// Refuse it.
    Refuse,
    /// Ask for notifications from now on, or no longer.
    Receipts(bool),
    /// Show what can be typed.
    Help,
    /// Leave.
    Quit,
    /// An empty line.
    Nothing,
}

/// Why a line is no order.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// An unknown word.
    #[error("there is no /{0}; /help shows what there is, // sends a text that begins with /")]
    Unknown(String),
    /// No or a bad address.
    #[error("{text:?} is no address: {reason}; write sip:name@domain")]
    Address {
        /// As typed.
        text: String,
        /// What is wrong with it.
        reason: AorError,
    },
    /// Something is missing.
    #[error("{0} is missing; {1}")]
    Missing(&'static str, &'static str),
    /// Neither `on` nor `off`.
    #[error("write /receipts on or /receipts off")]
    Switch,
    /// A line that begins with `{` and is no JSON object that we know.
    #[error(
        "this JSON is no command: {0}; write {{\"command\":\"message\",\"to\":…,\"text\":…}}, send, bye, accept, refuse, to, receipts or quit"
    )]
    Json(String),
}

/// An address as people write it: the scheme may be left out, and the domain, where `domain` is one.
pub fn address(text: &str, domain: &str) -> Result<Aor, AorError> {
    let text = text.trim().trim_start_matches('<').trim_end_matches('>');
    let schemed = ["sip:", "sips:", "tel:"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    if schemed {
        Aor::parse(text)
    } else if text.contains('@') {
        Aor::parse(&format!("sip:{text}"))
    } else if domain.is_empty() {
        Err(AorError::User)
    } else {
        Aor::new(text, domain)
    }
}

/// Reads one line; `json`: a line that begins with `{` is a JSON command.
pub fn read(line: &str, domain: &str, json: bool) -> Result<Order, WordsError> {
    let line = line.trim_end_matches(['\r', '\n']);
    if json && line.trim_start().starts_with('{') {
        return read_json(line, domain);
    }
    if line.trim().is_empty() {
        return Ok(Order::Nothing);
    }
    if let Some(text) = line.strip_prefix("//") {
        return Ok(Order::Say { to: None, text: format!("/{text}"), receipts: None });
    }
    let Some(rest) = line.strip_prefix('/') else {
        return Ok(Order::Say { to: None, text: line.to_owned(), receipts: None });
    };
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim_start();
    match word {
        "to" => Ok(Order::To(named(rest, domain)?)),
        "message" | "msg" => {
            let (to, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let to = named(to, domain)?;
            if text.trim().is_empty() {
                return Err(WordsError::Missing("the text", "write /message ADDRESS TEXT"));
            }
            Ok(Order::Say { to: Some(to), text: text.to_owned(), receipts: None })
        }
        "receipts" => match rest.trim() {
            "on" => Ok(Order::Receipts(true)),
            "off" => Ok(Order::Receipts(false)),
            _ => Err(WordsError::Switch),
        },
        "send" if rest.trim().is_empty() => Err(WordsError::Missing("the file", "write /send FILE")),
        "send" => Ok(Order::SendFile(PathBuf::from(rest.trim_end()))),
        "bye" => Ok(Order::Bye),
        "accept" => Ok(Order::Accept),
        "refuse" => Ok(Order::Refuse),
        "help" | "?" => Ok(Order::Help),
        "quit" | "exit" | "q" => Ok(Order::Quit),
        other => Err(WordsError::Unknown(other.to_owned())),
    }
}

fn read_json(line: &str, domain: &str) -> Result<Order, WordsError> {
    let value: Value = serde_json::from_str(line).map_err(|error| WordsError::Json(error.to_string()))?;
    let text_of = |key: &str| value.get(key).and_then(Value::as_str);
    match text_of("command") {
        Some("message") => {
            let to = text_of("to").map(|to| named(to, domain)).transpose()?;
            let text = text_of("text").ok_or(WordsError::Missing("\"text\"", "a message needs one"))?;
            Ok(Order::Say { to, text: text.to_owned(), receipts: value.get("receipts").and_then(Value::as_bool) })
        }
        Some("to") => Ok(Order::To(named(text_of("to").unwrap_or(""), domain)?)),
        Some("receipts") => value
            .get("on")
            .and_then(Value::as_bool)
            .map(Order::Receipts)
            .ok_or(WordsError::Missing("\"on\"", "true or false")),
        Some("send") => text_of("file")
            .map(|file| Order::SendFile(PathBuf::from(file)))
            .ok_or(WordsError::Missing("\"file\"", "write {\"command\":\"send\",\"file\":…}")),
        Some("bye") => Ok(Order::Bye),
        Some("accept") => Ok(Order::Accept),
        Some("refuse") => Ok(Order::Refuse),
        Some("help") => Ok(Order::Help),
        Some("quit") => Ok(Order::Quit),
        Some(other) => Err(WordsError::Json(format!("there is no command {other:?}"))),
        None => Err(WordsError::Json("\"command\" is missing".to_owned())),
    }
}

fn named(text: &str, domain: &str) -> Result<Aor, WordsError> {
    if text.trim().is_empty() {
        return Err(WordsError::Missing("the address", "write /to ADDRESS"));
    }
    address(text, domain).map_err(|reason| WordsError::Address { text: text.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(to: Option<&str>, text: &str) -> Order {
        Order::Say { to: to.map(|to| Aor::parse(to).unwrap()), text: text.to_owned(), receipts: None }
    }

    #[test]
    fn lines_are_texts_and_words_are_orders() {
        for (line, order) in [
            ("Hello\r\n", said(None, "Hello")),
            ("  indented stays", said(None, "  indented stays")),
            ("//etc/passwd", said(None, "/etc/passwd")),
            ("{not json without --json}", said(None, "{not json without --json}")),
            ("", Order::Nothing),
            ("   ", Order::Nothing),
            ("/to bob", Order::To(Aor::parse("sip:bob@example.com").unwrap())),
            ("/to tel:+44 20", Order::To(Aor::parse("tel:+4420").unwrap())),
            ("/message bob@else.where How do you do", said(Some("sip:bob@else.where"), "How do you do")),
            ("/receipts off", Order::Receipts(false)),
            ("/quit", Order::Quit),
            ("/help", Order::Help),
            ("/send my picture.png", Order::SendFile("my picture.png".into())),
            ("/bye", Order::Bye),
            ("/accept", Order::Accept),
            ("/refuse", Order::Refuse),
        ] {
            assert_eq!(read(line, "example.com", false), Ok(order), "{line}");
        }
    }

    #[test]
    fn json_lines_are_orders_where_they_are_asked_for() {
        let line = r#"{"command":"message","to":"sip:bob@example.com","text":"a\nb","receipts":true}"#;
        let order = Order::Say {
            to: Some(Aor::parse("sip:bob@example.com").unwrap()),
            text: "a\nb".to_owned(),
            receipts: Some(true),
        };
        assert_eq!(read(line, "example.com", true), Ok(order));
        assert_eq!(read(r#"{"command":"quit"}"#, "", true), Ok(Order::Quit));
        let file = Order::SendFile("a.png".into());
        assert_eq!(read(r#"{"command":"send","file":"a.png"}"#, "", true), Ok(file));
        assert_eq!(read(r#"{"command":"bye"}"#, "", true), Ok(Order::Bye));
        assert_eq!(read("/quit", "", true), Ok(Order::Quit));
    }

    #[test]
    fn what_is_no_order_says_what_to_write() {
        for (line, hint) in [
            ("/dance", "/help"),
            ("/to", "/to ADDRESS"),
            ("/to sip:@", "sip:name@domain"),
            ("/message bob", "TEXT"),
            ("/receipts maybe", "on"),
            ("/send", "/send FILE"),
            ("{\"command\":\"send\"}", "file"),
            ("{\"command\":\"message\"}", "text"),
            ("{\"command\":7}", "command"),
            ("{\"command\":\"jump\"}", "jump"),
            ("{", "message"),
        ] {
            let error = read(line, "example.com", true).unwrap_err().to_string();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }
}
