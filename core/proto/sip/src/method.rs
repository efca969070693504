//! Methods (RFC 3261 §7.1 and its extensions), compared with case.

/// What a request asks for. A method that is not known here is [`Method::Other`]: its text stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 3261 §10.
    Register,
    /// RFC 3428.
    Message,
    /// RFC 3261 §13.
    Invite,
    /// RFC 3261 §17.1.1.3.
    Ack,
    /// RFC 3261 §9.
    Cancel,
    /// RFC 3261 §15.
    Bye,
    /// RFC 3261 §11.
    Options,
    /// RFC 6665.
    Subscribe,
    /// RFC 6665.
    Notify,
    /// RFC 3903.
    Publish,
    /// RFC 3515.
    Refer,
    /// RFC 6086.
    Info,
    /// RFC 3311.
    Update,
    /// RFC 3262.
    Prack,
    /// None of these.
    Other,
}

impl Method {
    /// From the text of a start line or of a CSeq: `invite` and `IN%56ITE` are no INVITE (RFC 4475 §3.1.1.2).
    pub fn from_bytes(text: &[u8]) -> Self {
        match text {
            b"REGISTER" => Self::Register,
            b"MESSAGE" => Self::Message,
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"CANCEL" => Self::Cancel,
            b"BYE" => Self::Bye,
            b"OPTIONS" => Self::Options,
            b"SUBSCRIBE" => Self::Subscribe,
            b"NOTIFY" => Self::Notify,
            b"PUBLISH" => Self::Publish,
            b"REFER" => Self::Refer,
            b"INFO" => Self::Info,
            b"UPDATE" => Self::Update,
            b"PRACK" => Self::Prack,
            _ => Self::Other,
        }
    }

    /// As it is written; nothing for [`Method::Other`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "REGISTER",
            Self::Message => "MESSAGE",
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Cancel => "CANCEL",
            Self::Bye => "BYE",
            Self::Options => "OPTIONS",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Publish => "PUBLISH",
            Self::Refer => "REFER",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Prack => "PRACK",
            Self::Other => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_its_text_and_case_matters() {
        for text in ["REGISTER", "MESSAGE", "INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "SUBSCRIBE", "NOTIFY"] {
            assert_eq!(Method::from_bytes(text.as_bytes()).as_str(), text);
        }
        // RFC 3261 §7.1: methods are compared with case; RFC 4475 §3.1.1.5: a percent sign escapes nothing here.
        for text in ["message", "RE%47IST%45R", "", "INVITE "] {
            assert_eq!(Method::from_bytes(text.as_bytes()), Method::Other, "{text}");
        }
    }
}
