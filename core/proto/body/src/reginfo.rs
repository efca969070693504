//! Registration information (RFC 3680 §5): what of a user's contacts came and went, with the GRUUs of each (RFC 5628).

use std::fmt::Write as _;

use quick_xml::escape::escape;

/// Content type (RFC 3680 §5.1).
pub const CONTENT_TYPE: &str = "application/reginfo+xml";
const NAMESPACE: &str = "urn:ietf:params:xml:ns:reginfo";
/// RFC 5628 §5.
const GRUU_NAMESPACE: &str = "urn:ietf:params:xml:ns:gruuinfo";

/// A document.
#[derive(Debug, Clone, Copy)]
pub struct RegInfo<'a> {
    /// 0 in the first one of a subscription, and one more in each further one.
    pub version: u32,
    /// Everything that stands, and not only what has changed.
    pub is_full: bool,
    /// The address of record.
    pub aor: &'a str,
    /// Whether a contact stands, of those that are not told here too.
    pub is_active: bool,
    /// Whether one ever has: an address without contacts is `init` before, `terminated` when the last one has just ended.
    pub had_contacts: bool,
    /// The contacts that are told.
    pub contacts: &'a [Contact<'a>],
}

/// One contact.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contact<'a> {
    /// What it is called as long as it stands.
    pub id: &'a str,
    /// Its URI.
    pub uri: &'a str,
    /// Whether it stands.
    pub is_active: bool,
    /// `registered`, `refreshed`, `expired` …
    pub event: &'a str,
    /// Seconds that are left.
    pub expires_s: u64,
    /// Preference in thousandths.
    pub q: u16,
    /// Call-ID of its REGISTER.
    pub call_id: &'a str,
    /// The number of its CSeq.
    pub cseq: u32,
    /// Parameters of its Contact, names and values without quotes.
    pub params: &'a [(String, String)],
    /// Its public GRUU.
    pub public_gruu: Option<&'a str>,
    /// Its newest temporary GRUU.
    pub temporary_gruu: Option<&'a str>,
}

impl RegInfo<'_> {
    /// The document.
    pub fn write(&self) -> String {
        let kind = if self.is_full { "full" } else { "partial" };
        let state = match (self.is_active, self.had_contacts) {
            (true, _) => "active",
            (false, true) => "terminated",
            (false, false) => "init",
        };
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<reginfo xmlns=\"{NAMESPACE}\" xmlns:gr=\"{GRUU_NAMESPACE}\" \
             version=\"{}\" state=\"{kind}\">\r\n<registration aor=\"{}\" id=\"r\" state=\"{state}\">\r\n",
            self.version,
            escape(self.aor),
        );
        self.contacts.iter().for_each(|contact| contact.write(&mut out));
        out.push_str("</registration>\r\n</reginfo>\r\n");
        out
    }
}

impl Contact<'_> {
    fn write(&self, out: &mut String) {
        let state = if self.is_active { "active" } else { "terminated" };
        // A String takes all.
        let _ = write!(out, "<contact id=\"{}\" state=\"{state}\" event=\"{}\"", escape(self.id), escape(self.event));
        if self.is_active {
            let _ = write!(out, " expires=\"{}\"", self.expires_s);
        }
        if self.q < 1_000 {
            let _ = write!(out, " q=\"0.{:03}\"", self.q);
        }
        let _ = write!(out, " callid=\"{}\" cseq=\"{}\">", escape(self.call_id), self.cseq);
        let _ = write!(out, "<uri>{}</uri>", escape(self.uri));
        for (name, value) in self.params {
            let _ = write!(out, "<unknown-param name=\"{}\">{}</unknown-param>", escape(name), escape(value));
        }
        if let Some(uri) = self.public_gruu {
            let _ = write!(out, "<gr:pub-gruu uri=\"{}\"/>", escape(uri));
        }
        if let Some(uri) = self.temporary_gruu {
            let _ = write!(out, "<gr:temp-gruu uri=\"{}\" first-cseq=\"{}\"/>", escape(uri), self.cseq);
        }
        out.push_str("</contact>\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_tells_each_contact_in_the_schemas_order_and_escapes_what_it_must() {
        // RFC 3680 §5.4, RFC 5628 §5
        let params = [("+sip.instance".to_owned(), "<urn:uuid:1>".to_owned()), ("reg-id".into(), "1".into())];
        let stands = Contact {
            id: "7",
            uri: "sip:a@192.0.2.1;x=\"&\"",
            is_active: true,
            event: "registered",
            expires_s: 90,
            q: 500,
            call_id: "a&b",
            cseq: 3,
            params: &params,
            public_gruu: Some("sip:a@x;gr=urn:uuid:1"),
            temporary_gruu: Some("sip:tgruu.T@x;gr"),
        };
        let gone =
            Contact { id: "8", uri: "sip:b", event: "expired", q: 1_000, call_id: "c", cseq: 1, ..Contact::default() };
        let told = RegInfo {
            version: 4,
            is_full: false,
            aor: "sip:a@x",
            is_active: true,
            had_contacts: true,
            contacts: &[stands, gone],
        };
        assert_eq!(
            told.write().replace("\r\n", "\n"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" \
             xmlns:gr=\"urn:ietf:params:xml:ns:gruuinfo\" version=\"4\" state=\"partial\">\n\
             <registration aor=\"sip:a@x\" id=\"r\" state=\"active\">\n\
             <contact id=\"7\" state=\"active\" event=\"registered\" expires=\"90\" q=\"0.500\" callid=\"a&amp;b\" cseq=\"3\">\
             <uri>sip:a@192.0.2.1;x=&quot;&amp;&quot;</uri>\
             <unknown-param name=\"+sip.instance\">&lt;urn:uuid:1&gt;</unknown-param>\
             <unknown-param name=\"reg-id\">1</unknown-param><gr:pub-gruu uri=\"sip:a@x;gr=urn:uuid:1\"/>\
             <gr:temp-gruu uri=\"sip:tgruu.T@x;gr\" first-cseq=\"3\"/></contact>\n\
             <contact id=\"8\" state=\"terminated\" event=\"expired\" callid=\"c\" cseq=\"1\"><uri>sip:b</uri></contact>\n\
             </registration>\n</reginfo>\n"
        );
    }

    #[test]
    fn an_address_without_contacts_has_none_yet_or_none_any_more() {
        let state = |is_active, had_contacts| {
            let info = RegInfo { version: 0, is_full: true, aor: "sip:a@x", is_active, had_contacts, contacts: &[] };
            let text = info.write();
            text.split("id=\"r\" state=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        assert_eq!([state(false, false), state(false, true), state(true, true)], ["init", "terminated", "active"]);
    }
}
