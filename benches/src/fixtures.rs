//! Messages and values that several benches share.

/// A Via value as we put it on top of what we relay.
pub const OUR_VIA: &[u8] = b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK0123456789abcdef";

/// The contact that a relayed request goes to.
pub const CONTACT: &[u8] = b"sip:bob@192.0.2.4:5062;ob";

/// A page message of 600 bytes with 270 bytes of text, from a client that was challenged.
pub fn message() -> Vec<u8> {
    let credentials = "";
    with(credentials, 600)
}

/// The same with Digest credentials, as every message of a client has them.
pub fn message_with_credentials() -> Vec<u8> {
    let credentials = "Proxy-Authorization: Digest username=\"alice\", realm=\"example.com\", \
        nonce=\"018f3b2a0c1d9e7f6a5b4c3d2e1f0a9b\", uri=\"sip:bob@example.com\", \
        response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\", algorithm=SHA-256, \
        cnonce=\"0a4f113b\", qop=auth, nc=0000002a\r\n";
    with(credentials, 600 + credentials.len())
}

/// The 200 that answers [`message`] after it was relayed: our Via stands on top.
pub fn answer() -> Vec<u8> {
    let our_via = String::from_utf8_lossy(OUR_VIA);
    format!(
        "SIP/2.0 200 OK\r\nVia: {our_via}\r\nVia: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK776asdhds;rport=5062;received=192.0.2.7\r\n\
         From: \"Alice\" <sip:alice@example.com>;tag=49583\r\nTo: \"Bob\" <sip:bob@example.com>;tag=8321\r\n\
         Call-ID: asd88asd77a@192.0.2.7\r\nCSeq: 1 MESSAGE\r\nUser-Agent: Phone 1.0\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// A SEND with 300 octets of text.
pub fn send() -> Vec<u8> {
    let body = "x".repeat(300);
    format!(
        "MSRP a786hjs2 SEND\r\nTo-Path: msrp://192.0.2.1:2855/0123456789abcdef0123456789abcdef;tcp\r\n\
         From-Path: msrp://192.0.2.7:7000/a1b2c3;tcp\r\nMessage-ID: 87652491\r\nByte-Range: 1-300/300\r\n\
         Content-Type: text/plain\r\n\r\n{body}\r\n-------a786hjs2$\r\n"
    )
    .into_bytes()
}

/// An offer of one MSRP line, as clients make it.
pub fn offer() -> Vec<u8> {
    b"v=0\r\no=alice 2890844526 2890844527 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n\
      m=message 7394 TCP/MSRP *\r\na=accept-types:message/cpim text/plain\r\na=accept-wrapped-types:*\r\n\
      a=max-size:5242880\r\na=setup:actpass\r\na=path:msrp://192.0.2.7:7394/2s93i9ek2a;tcp\r\n"
        .to_vec()
}

fn with(credentials: &str, bytes: usize) -> Vec<u8> {
    let body = "a text of which only the length matters ".repeat(7)[..270].to_owned();
    let head = |agent: &str| {
        format!(
            "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK776asdhds;rport\r\n\
             Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.com>;tag=49583\r\nTo: <sip:bob@example.com>\r\n\
             Call-ID: asd88asd77a@192.0.2.7\r\nCSeq: 1 MESSAGE\r\n{credentials}User-Agent: {agent}\r\n\
             Content-Type: text/plain\r\nContent-Length: 270\r\n\r\n"
        )
    };
    let short = head("").len() + body.len();
    let agent = "Phone 1.0 of a client that says what it is".repeat(4)[..bytes.saturating_sub(short)].to_owned();
    (head(&agent) + &body).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixtures_are_whole_messages_of_the_stated_size() {
        assert_eq!(message().len(), 600);
        for bytes in [message(), message_with_credentials(), answer()] {
            let mut layout = sip::Layout::default();
            assert_eq!(sip::parse_datagram(&bytes, &mut layout), Ok(()));
            if layout.view(&bytes).is_request() {
                assert_eq!(layout.view(&bytes).check_request(), Ok(()));
                assert_eq!(layout.view(&bytes).body().len(), 270);
            }
        }
    }
}
