//! The names of header fields: RFC 3261 §20, the extensions that an IM house reads, and the compact forms.
//!
//! Finding a name is a look at its length, then a comparison with the few that are as long.

macro_rules! names {
    ($($variant:ident $text:literal $compact:literal $list:literal,)*) => {
        /// A header field's name. What is not known here is [`Name::Other`]: its text stands in the message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
            /// None of these.
            Other,
        }

        const NAMES: &[(Name, &str, u8, bool)] = &[$((Name::$variant, $text, $compact, $list),)*];
    };
}

// Sorted by length: `parse` looks at one length only (a test holds the order). Then: the compact form, and whether a
// field may hold several values with commas between (RFC 3261 §7.3.1).
names! {
    To "To" b't' false,
    Via "Via" b'v' true,
    CSeq "CSeq" 0 false,
    Date "Date" 0 false,
    From "From" b'f' false,
    Join "Join" 0 false,
    Path "Path" 0 true,
    RAck "RAck" 0 false,
    RSeq "RSeq" 0 false,
    Allow "Allow" 0 true,
    Event "Event" b'o' false,
    Route "Route" 0 true,
    Accept "Accept" 0 true,
    MinSe "Min-SE" 0 false,
    Reason "Reason" 0 true,
    Server "Server" 0 false,
    CallId "Call-ID" b'i' false,
    Contact "Contact" b'm' true,
    Expires "Expires" 0 false,
    Privacy "Privacy" 0 false,
    Require "Require" 0 true,
    Subject "Subject" b's' false,
    Warning "Warning" 0 true,
    Identity "Identity" b'y' false,
    Priority "Priority" 0 false,
    ReferTo "Refer-To" b'r' false,
    Replaces "Replaces" 0 false,
    ReplyTo "Reply-To" 0 false,
    SipEtag "SIP-ETag" 0 false,
    CallInfo "Call-Info" 0 true,
    Supported "Supported" b'k' true,
    Timestamp "Timestamp" 0 false,
    AlertInfo "Alert-Info" 0 true,
    ErrorInfo "Error-Info" 0 true,
    FlowTimer "Flow-Timer" 0 false,
    UserAgent "User-Agent" 0 false,
    InReplyTo "In-Reply-To" 0 true,
    MaxBreadth "Max-Breadth" 0 false,
    MinExpires "Min-Expires" 0 false,
    ReferredBy "Referred-By" b'b' false,
    RetryAfter "Retry-After" 0 false,
    Unsupported "Unsupported" 0 true,
    AllowEvents "Allow-Events" b'u' true,
    ContentType "Content-Type" b'c' false,
    HistoryInfo "History-Info" 0 true,
    MaxForwards "Max-Forwards" 0 false,
    MimeVersion "MIME-Version" 0 false,
    Organization "Organization" 0 false,
    RecordRoute "Record-Route" 0 true,
    SipIfMatch "SIP-If-Match" 0 false,
    Authorization "Authorization" 0 false,
    PProfileKey "P-Profile-Key" 0 true,
    PServedUser "P-Served-User" 0 false,
    ProxyRequire "Proxy-Require" 0 true,
    ServiceRoute "Service-Route" 0 true,
    AcceptContact "Accept-Contact" b'a' true,
    ContentLength "Content-Length" b'l' false,
    RejectContact "Reject-Contact" b'j' true,
    AcceptEncoding "Accept-Encoding" 0 true,
    AcceptLanguage "Accept-Language" 0 true,
    SecurityClient "Security-Client" 0 true,
    SecurityServer "Security-Server" 0 true,
    SecurityVerify "Security-Verify" 0 true,
    SessionExpires "Session-Expires" b'x' false,
    ContentEncoding "Content-Encoding" b'e' true,
    ContentLanguage "Content-Language" 0 true,
    PAssociatedUri "P-Associated-URI" 0 true,
    WwwAuthenticate "WWW-Authenticate" 0 false,
    PCalledPartyId "P-Called-Party-ID" 0 false,
    PChargingVector "P-Charging-Vector" 0 false,
    ResourcePriority "Resource-Priority" 0 true,
    SipIfNoneMatch "SIP-If-None-Match" 0 false,
    SuppressIfMatch "Suppress-If-Match" 0 false,
    PAssertedService "P-Asserted-Service" 0 true,
    ProxyAuthenticate "Proxy-Authenticate" 0 false,
    SubscriptionState "Subscription-State" 0 false,
    AuthenticationInfo "Authentication-Info" 0 false,
    ContentDisposition "Content-Disposition" 0 false,
    PAssertedIdentity "P-Asserted-Identity" 0 true,
    PPreferredService "P-Preferred-Service" 0 true,
    ProxyAuthorization "Proxy-Authorization" 0 false,
    RequestDisposition "Request-Disposition" b'd' true,
    PPreferredIdentity "P-Preferred-Identity" 0 true,
    PVisitedNetworkId "P-Visited-Network-ID" 0 true,
    PAccessNetworkInfo "P-Access-Network-Info" 0 true,
    ContentTransferEncoding "Content-Transfer-Encoding" 0 false,
    PChargingFunctionAddresses "P-Charging-Function-Addresses" 0 false,
}

const LONGEST: usize = NAMES[NAMES.len() - 1].1.len();

/// Where the names of one length begin in [`NAMES`]; those of `n` bytes end where those of `n + 1` begin.
const BEGINS: [u8; LONGEST + 2] = {
    let mut begins = [0; LONGEST + 2];
    let (mut length, mut at) = (0, 0);
    while length < begins.len() {
        while at < NAMES.len() && NAMES[at].1.len() < length {
            at += 1;
        }
        begins[length] = at as u8;
        length += 1;
    }
    begins
};

impl Name {
    /// Any case, long or compact form (RFC 3261 §7.3.1, §7.3.3).
    pub fn parse(text: &[u8]) -> Self {
        let first = match text {
            [] => return Self::Other,
            [letter] => return Self::of_compact(letter | 0x20),
            [first, ..] => first | 0x20,
        };
        if text.len() > LONGEST {
            return Self::Other;
        }
        let same_length = usize::from(BEGINS[text.len()])..usize::from(BEGINS[text.len() + 1]);
        for (name, full, _, _) in &NAMES[same_length] {
            if full.as_bytes()[0] | 0x20 == first && full.as_bytes().eq_ignore_ascii_case(text) {
                return *name;
            }
        }
        Self::Other
    }

    fn of_compact(letter: u8) -> Self {
        match letter {
            b'a' => Self::AcceptContact,
            b'b' => Self::ReferredBy,
            b'c' => Self::ContentType,
            b'd' => Self::RequestDisposition,
            b'e' => Self::ContentEncoding,
            b'f' => Self::From,
            b'i' => Self::CallId,
            b'j' => Self::RejectContact,
            b'k' => Self::Supported,
            b'l' => Self::ContentLength,
            b'm' => Self::Contact,
            b'o' => Self::Event,
            b'r' => Self::ReferTo,
            b's' => Self::Subject,
            b't' => Self::To,
            b'u' => Self::AllowEvents,
            b'v' => Self::Via,
            b'x' => Self::SessionExpires,
            b'y' => Self::Identity,
            _ => Self::Other,
        }
    }

    /// The long form as the standards write it; nothing for [`Name::Other`].
    pub fn as_str(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |row| row.1)
    }

    /// The compact form (RFC 3261 §7.3.3), if there is one.
    pub fn compact(self) -> Option<char> {
        NAMES.get(self as usize).filter(|row| row.2 != 0).map(|row| char::from(row.2))
    }

    /// Whether one field may hold several values with commas between. Not so the four of authentication (RFC 3261
    /// §7.3.1), nor texts in which a comma is a comma (Date, Subject). Of unknown names nobody knows: no.
    pub fn is_list(self) -> bool {
        NAMES.get(self as usize).is_some_and(|row| row.3)
    }

    /// Its bit in a set of names.
    pub(crate) fn bit(self) -> u128 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_by_length_and_found_again_in_any_case() {
        assert!(NAMES.len() < 128, "a set of names is a u128");
        for (at, (name, text, compact, _)) in NAMES.iter().enumerate() {
            assert_eq!(*name as usize, at);
            assert!(at == 0 || NAMES[at - 1].1.len() <= text.len(), "{text} stands among longer names");
            for spelling in [text.to_string(), text.to_lowercase(), text.to_uppercase()] {
                assert_eq!(Name::parse(spelling.as_bytes()), *name, "{spelling}");
            }
            if *compact != 0 {
                assert_eq!(Name::parse(&[*compact]), *name);
                assert_eq!(Name::parse(&[compact.to_ascii_uppercase()]), *name);
            }
        }
    }

    #[test]
    fn compact_letters_and_the_table_tell_the_same() {
        for letter in b'a'..=b'z' {
            let name = Name::parse(&[letter]);
            assert_eq!(name.compact(), (name != Name::Other).then(|| char::from(letter)));
        }
    }

    #[test]
    fn what_is_unknown_is_other() {
        // RFC 4475 §3.1.1.5: `C%6Fntact` is no Contact.
        for text in ["", "T", "C%6Fntact", "Vi", "Via ", "X-Header", "To\0", "P-Charging-Function-Addressesx", "5", "-"]
        {
            let expected = if text == "T" { Name::To } else { Name::Other };
            assert_eq!(Name::parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!((Name::Other.as_str(), Name::Other.compact(), Name::Other.is_list()), ("", None, false));
    }
}
