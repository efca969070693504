//! One Via value (RFC 3261 §20.42, RFC 3581): who sent this, and the way back.

use std::net::IpAddr;

use base::scan::{decimal, is_token};

use crate::params::{Params, skip_space, skip_while};
use crate::uri::host_port;

/// One value of a Via, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// The whole value as it stands.
    pub text: &'a [u8],
    /// `UDP`, `TCP`, `TLS`, `WS` … as written; compare without case.
    pub transport: &'a [u8],
    /// The host of sent-by; an IPv6 address keeps its brackets.
    pub host: &'a [u8],
    /// The port of sent-by, if one is written.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params<'a>,
    sent_by: &'a [u8],
    branch: Option<&'a [u8]>,
    received: Option<&'a [u8]>,
    rport: Option<Option<u16>>,
}

impl<'a> Via<'a> {
    /// From one value, without the commas that may stand around it. White space is allowed nearly everywhere
    /// (RFC 4475 §3.1.1.1), empty parameters nowhere (§3.1.2.1). The version is not looked at: the start line's counts.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = base::scan::trim(text);
        let name = skip_while(text, 0, is_token);
        let version = separator(text, name, b'/')?;
        let version_end = skip_while(text, version, is_token);
        let transport = separator(text, version_end, b'/')?;
        let transport_end = skip_while(text, transport, is_token);
        let host = skip_space(text, transport_end);
        if name == 0 || version_end == version || transport_end == transport || host == transport_end {
            return None;
        }
        let (place, port, end) = host_port(text, host).ok()?;
        let mut via = Self {
            text,
            transport: &text[transport..transport_end],
            host: &text[place],
            port,
            params: Params::parse(&text[end..])?,
            sent_by: base::scan::trim(&text[host..end]),
            branch: None,
            received: None,
            rport: None,
        };
        for param in via.params.iter() {
            let value = param.value.unwrap_or(&[]);
            if param.name.eq_ignore_ascii_case(b"branch") {
                via.branch.get_or_insert(value);
            } else if param.name.eq_ignore_ascii_case(b"received") {
                via.received.get_or_insert(value);
            } else if param.name.eq_ignore_ascii_case(b"rport") {
                // RFC 3581 §5: `rport` alone asks for it, `rport=5070` tells it.
                let port = if value.is_empty() { None } else { Some(u16::try_from(decimal(value)?).ok()?) };
                via.rport.get_or_insert(port);
            }
        }
        Some(via)
    }

    /// The transaction's name (RFC 3261 §8.1.1.7); nothing from a peer of RFC 2543.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.branch
    }

    /// Host and port as written: part of a server transaction's key (RFC 3261 §17.2.3).
    pub fn sent_by(&self) -> &'a [u8] {
        self.sent_by
    }

    /// The text of `received`, as written.
    pub fn received(&self) -> Option<&'a [u8]> {
        self.received
    }

    /// The address in `received`; brackets around an IPv6 address are tolerated (RFC 5118 §4.5).
    pub fn received_addr(&self) -> Option<IpAddr> {
        crate::uri::numeric(self.received?)
    }

    /// `None`: not there; `Some(None)`: the sender asks for it; `Some(Some(port))`: filled in (RFC 3581).
    pub fn rport(&self) -> Option<Option<u16>> {
        self.rport
    }

    /// Whether the transport loses nothing (RFC 3261 §17): all but UDP and what is unknown.
    pub fn is_reliable(&self) -> bool {
        [&b"TCP"[..], b"TLS", b"WS", b"WSS", b"SCTP", b"TLS-SCTP"]
            .iter()
            .any(|t| self.transport.eq_ignore_ascii_case(t))
    }
}

/// Behind a separator with white space around it.
fn separator(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    let at = skip_space(text, at);
    (text.get(at) == Some(&byte)).then(|| skip_space(text, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_via_is_read_with_white_space_and_folds_everywhere() {
        // RFC 4475 §3.1.1.1
        let via =
            Via::parse(b"SIP  / 2.0\r\n  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ").unwrap();
        assert_eq!((via.transport, via.host, via.port), (&b"TCP"[..], &b"spindle.example.com"[..], None));
        assert_eq!(via.branch(), Some(&b"z9hG4bK9ikj8"[..]));
        assert_eq!(via.sent_by(), b"spindle.example.com");
        assert!(via.is_reliable());
    }

    #[test]
    fn received_and_rport_are_read() {
        let via =
            Via::parse(b"SIP/2.0/UDP 10.1.1.1:4540;received=192.0.2.1;rport=9988;branch=z9hG4bKkjshdyff").unwrap();
        assert_eq!((via.rport(), via.received(), via.port), (Some(Some(9988)), Some(&b"192.0.2.1"[..]), Some(4540)));
        let via = Via::parse(b"SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bKkjshdyff").unwrap();
        assert_eq!((via.rport(), via.received(), via.sent_by()), (Some(None), None, &b"10.1.1.1:4540"[..]));
        assert_eq!(Via::parse(b"SIP/2.0/UDP a.b;branch=x").unwrap().rport(), None);
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets_in_sent_by_and_with_or_without_in_received() {
        // RFC 5118 §4.5
        for received in ["2001:db8::9:255", "[2001:db8::9:255]"] {
            let text = format!("SIP/2.0/UDP [2001:db8::9:1]:5070;received={received};branch=z9hG4bKas3-111");
            let via = Via::parse(text.as_bytes()).unwrap();
            assert_eq!((via.host, via.port), (&b"[2001:db8::9:1]"[..], Some(5070)));
            assert_eq!(via.received_addr(), Some("2001:db8::9:255".parse().unwrap()));
        }
        // RFC 5118 §4.4: a port that is not separated belongs to the address, which then is none.
        assert_eq!(Via::parse(b"SIP/2.0/UDP 2001:db8::9:1;branch=z9hG4bKas3-111"), None);
    }

    #[test]
    fn what_is_no_via_is_none() {
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 UDP a",
            "SIP/2.0/UDPa.b ",
            "SIP/2.0/UDP a.b;;branch=x",
            "SIP/2.0/UDP 192.0.2.15;;",
            "SIP/2.0/UDP a.b:",
            "SIP/2.0/UDP a.b:65536",
            "SIP/2.0/UDP a.b;rport=x",
            "SIP/2.0/UDP a.b c.d",
            "/2.0/UDP a.b",
            "SIP/2.0/UDP [::1;branch=a",
        ] {
            assert_eq!(Via::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
