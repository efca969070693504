//! The media line of MSRP with its attributes, typed (RFC 4975 §8, 6135, 6714, 7701); what is not known here stays text.

use sdp_types::{Attribute, Media, Session};

use crate::error::SdpError;

/// `a=setup` (RFC 4145 §4, RFC 6135 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// This side connects.
    Active,
    /// This side is connected to.
    Passive,
    /// This side leaves it to the other.
    ActPass,
}

impl Setup {
    /// Nothing for unknown values, and for `holdconn`, which counts as absent (RFC 6135 §4.2.1).
    pub fn parse(value: &str) -> Option<Self> {
        let known = [Self::Active, Self::Passive, Self::ActPass];
        known.into_iter().find(|setup| setup.as_str().eq_ignore_ascii_case(value.trim()))
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
        }
    }
}

/// Which way content flows, seen from the writer (RFC 4975 §8.9): it steers SENDs with content, no reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways; holds without an attribute.
    #[default]
    SendRecv,
    /// The writer only sends.
    SendOnly,
    /// The writer only receives.
    RecvOnly,
    /// Nobody sends.
    Inactive,
}

impl Direction {
    /// Of an attribute's name.
    pub fn parse(name: &str) -> Option<Self> {
        let known = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];
        known.into_iter().find(|direction| direction.as_str().eq_ignore_ascii_case(name))
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// A list of media types: `accept-types` or `accept-wrapped-types` (RFC 4975 §8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types<'a>(&'a str);

impl<'a> Types<'a> {
    /// The entries, parameters and all.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        self.0.split(' ').filter(|entry| !entry.is_empty())
    }

    /// Whether this media type may be sent: `*` and `type/*` count, parameters on either side do not.
    pub fn accepts(self, media_type: &str) -> bool {
        let bare = |text: &'a str| text.split(';').next().unwrap_or_default().trim();
        let wanted = media_type.split(';').next().unwrap_or_default().trim();
        self.iter().map(bare).any(|entry| match entry.strip_suffix('*') {
            Some("") => true,
            Some(kind) => wanted.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)),
            None => entry.eq_ignore_ascii_case(wanted),
        })
    }

    /// The value as it stands.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// An MSRP media line in use, with what it stands in.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    session: &'a Session,
    media: &'a Media,
    index: usize,
}

/// `m=message … TCP/MSRP` or `TCP/TLS/MSRP` (RFC 4975 §8.1).
pub(crate) fn is_msrp(media: &Media) -> bool {
    media.media == "message" && (is_plain(&media.proto) || is_tls(&media.proto))
}

fn is_plain(proto: &str) -> bool {
    proto.eq_ignore_ascii_case("TCP/MSRP")
}

fn is_tls(proto: &str) -> bool {
    proto.eq_ignore_ascii_case("TCP/TLS/MSRP")
}

impl<'a> Message<'a> {
    /// The media line at a place. It must be MSRP, in use, and have a path and accept-types (RFC 4975 §8).
    pub(crate) fn read(session: &'a Session, index: usize) -> Result<Self, SdpError> {
        let media = session.medias.get(index).filter(|media| is_msrp(media) && media.port != 0);
        let message = Self { session, media: media.ok_or(SdpError::NoMessage)?, index };
        let uris = message.attribute("path").unwrap_or_default();
        if uris.is_empty() || !uris.split(' ').all(is_msrp_uri) {
            return Err(SdpError::NoPath);
        }
        if message.accept_types().iter().next().is_none() {
            return Err(SdpError::NoAcceptTypes);
        }
        Ok(message)
    }

    /// Its place among the media lines, from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// The port; 9 from who will connect and cannot be connected to (RFC 6135 §4.2.2).
    pub fn port(self) -> u16 {
        self.media.port
    }

    /// Whether the connection is to be protected: `TCP/TLS/MSRP`.
    pub fn is_tls(self) -> bool {
        is_tls(&self.media.proto)
    }

    /// The address of `c=`, the line's own or the description's. MSRP connects to the path, unless both sides speak
    /// `msrp-cema` (RFC 6714).
    pub fn address(self) -> Option<&'a str> {
        let connection = self.media.connections.first().or(self.session.connection.as_ref())?;
        Some(&connection.connection_address)
    }

    /// The path: URIs with a space between, the next hop first (RFC 4975 §8.2).
    pub fn path(self) -> &'a str {
        self.attribute("path").unwrap_or_default()
    }

    /// What the writer takes as a whole body.
    pub fn accept_types(self) -> Types<'a> {
        Types(self.attribute("accept-types").unwrap_or_default())
    }

    /// What the writer takes only within a container of [`Message::accept_types`].
    pub fn accept_wrapped_types(self) -> Types<'a> {
        Types(self.attribute("accept-wrapped-types").unwrap_or_default())
    }

    /// Octets of the largest whole message that the writer wants; a hint.
    pub fn max_size(self) -> Option<u64> {
        let value = self.attribute("max-size")?;
        base::scan::decimal(value.trim().as_bytes())
    }

    /// Who may connect, from the line or from the description (RFC 4145 §4). Nothing: the offerer connects.
    pub fn setup(self) -> Option<Setup> {
        Setup::parse(self.attribute("setup").or_else(|| value_of(&self.session.attributes, "setup"))?)
    }

    /// The line's direction, else that of the description, else both ways (RFC 8866 §6.7).
    pub fn direction(self) -> Direction {
        direction_of(&self.media.attributes).or_else(|| direction_of(&self.session.attributes)).unwrap_or_default()
    }

    /// Whether the writer can connect to `c=` and `m=` in place of the path (RFC 6714).
    pub fn has_cema(self) -> bool {
        self.has("msrp-cema")
    }

    /// What a chat room or its member can do (RFC 7701 §8): empty when it says only that it is one.
    pub fn chatroom(self) -> Option<&'a str> {
        if self.has("chatroom") { Some(self.attribute("chatroom").unwrap_or_default()) } else { None }
    }

    /// The file that this line is for (RFC 5547 §6), as it stands; its further attributes by [`Message::attribute`].
    pub fn file_selector(self) -> Option<&'a str> {
        if self.has("file-selector") { Some(self.attribute("file-selector").unwrap_or_default()) } else { None }
    }

    /// The value of the line's first attribute of this name; names have no case of their own (RFC 8866 §6), values do.
    pub fn attribute(self, name: &str) -> Option<&'a str> {
        value_of(&self.media.attributes, name)
    }

    /// Whether the line has an attribute, with a value or without.
    pub fn has(self, name: &str) -> bool {
        self.media.attributes.iter().any(|attribute| attribute.attribute.eq_ignore_ascii_case(name))
    }

    pub(crate) fn media(self) -> &'a Media {
        self.media
    }
}

fn value_of<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.attribute.eq_ignore_ascii_case(name))?;
    found.value.as_deref().map(str::trim)
}

fn direction_of(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| Direction::parse(&attribute.attribute))
}

/// The scheme alone: the path is read by who follows it.
fn is_msrp_uri(uri: &str) -> bool {
    ["msrp://", "msrps://"].iter().any(|scheme| {
        uri.len() > scheme.len() && uri.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Description;

    fn described(lines: &str) -> Description {
        let text = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{lines}");
        Description::parse(text.as_bytes()).unwrap()
    }

    const LINE: &str = "m=message 7654 TCP/TLS/MSRP *\r\ni=a picture\r\na=sendonly\r\na=accept-types:message/cpim text/*\r\n\
        a=accept-wrapped-types:*\r\na=setup:actpass\r\na=max-size:8192\r\na=msrp-cema\r\n\
        a=path:msrps://relay.example.com:2855/r;tcp msrps://192.0.2.1:7654/s;tcp\r\na=chatroom:nickname private-messages\r\n\
        a=file-selector:name:\"My cool picture.jpg\" type:image/jpeg size:32349\r\na=file-transfer-id:vBnG916b\r\n";

    #[test]
    fn attributes_have_types_and_the_rest_stays_text() {
        let description = described(LINE);
        let message = description.messages().next().unwrap();
        assert_eq!((message.index(), message.port(), message.is_tls()), (0, 7654, true));
        assert_eq!(message.address(), Some("192.0.2.1"));
        assert_eq!(message.path(), "msrps://relay.example.com:2855/r;tcp msrps://192.0.2.1:7654/s;tcp");
        assert_eq!((message.setup(), message.direction()), (Some(Setup::ActPass), Direction::SendOnly));
        assert_eq!((message.max_size(), message.has_cema()), (Some(8192), true));
        assert_eq!(message.chatroom(), Some("nickname private-messages"));
        assert_eq!(message.file_selector(), Some("name:\"My cool picture.jpg\" type:image/jpeg size:32349"));
        assert_eq!(message.attribute("File-Transfer-ID"), Some("vBnG916b"));
        assert_eq!(message.attribute("file-date"), None);
    }

    #[test]
    fn a_type_is_accepted_by_name_by_kind_or_by_star() {
        // RFC 4975 §8.6.
        let description = described(LINE);
        let message = description.messages().next().unwrap();
        for (media_type, is_accepted) in [
            ("message/cpim", true),
            ("Message/CPIM;x=y", true),
            ("text/html; charset=utf-8", true),
            ("image/jpeg", false),
            ("texts/plain", false),
            ("", false),
        ] {
            assert_eq!(message.accept_types().accepts(media_type), is_accepted, "{media_type}");
        }
        assert!(message.accept_wrapped_types().accepts("image/jpeg"));
        assert_eq!(message.accept_types().iter().collect::<Vec<_>>(), ["message/cpim", "text/*"]);
        assert!(Types("text/plain;charset=utf-8").accepts("text/plain"));
    }

    #[test]
    fn setup_and_direction_may_stand_for_the_whole_description() {
        // RFC 4145 §4, RFC 8866 §6.7.
        let line = "m=message 9 TCP/MSRP *\r\na=accept-types:*\r\na=path:msrp://h:9/s;tcp\r\n";
        let description = described(&format!("a=inactive\r\na=setup:active\r\n{line}"));
        let message = description.messages().next().unwrap();
        assert_eq!((message.setup(), message.direction()), (Some(Setup::Active), Direction::Inactive));
        let plain = described(line);
        let message = plain.messages().next().unwrap();
        assert_eq!((message.setup(), message.direction()), (None, Direction::SendRecv));
        assert_eq!((message.chatroom(), message.file_selector(), message.max_size()), (None, None, None));
    }

    #[test]
    fn holdconn_counts_as_absent() {
        // RFC 6135 §4.2.1.
        assert_eq!(Setup::parse("holdconn"), None);
        assert_eq!(Setup::parse("ACTIVE"), Some(Setup::Active));
    }

    #[test]
    fn an_msrp_line_needs_a_path_and_types() {
        // RFC 4975 §8, §8.6.
        let faults = [
            ("m=message 9 TCP/MSRP *\r\na=accept-types:*\r\n", SdpError::NoPath),
            ("m=message 9 TCP/MSRP *\r\na=accept-types:*\r\na=path\r\n", SdpError::NoPath),
            ("m=message 9 TCP/MSRP *\r\na=accept-types:*\r\na=path:sip:a@b\r\n", SdpError::NoPath),
            ("m=message 9 TCP/MSRP *\r\na=path:msrp://h:9/s;tcp\r\n", SdpError::NoAcceptTypes),
            ("m=message 0 TCP/MSRP *\r\na=accept-types:*\r\na=path:msrp://h:9/s;tcp\r\n", SdpError::NoMessage),
            ("m=message 9 UDP/MSRP *\r\na=accept-types:*\r\na=path:msrp://h:9/s;tcp\r\n", SdpError::NoMessage),
            ("m=audio 9 RTP/AVP 0\r\n", SdpError::NoMessage),
            ("", SdpError::NoMessage),
        ];
        for (lines, fault) in faults {
            let description = described(lines);
            assert_eq!(description.message_at(0).err(), Some(fault), "{lines}");
            assert_eq!(description.messages().count(), 0);
        }
    }
}
