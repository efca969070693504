//! Flows of a registration (RFC 5626 §6): whether its reg-id counts, and which device and flow a contact is.

use sip::{Name, NameAddr, Params, View};

use crate::refusal::Refusal;
use crate::registrar::Binding;

/// The device that a contact belongs to and the number of its flow: with these two a binding is known, whatever its URI
/// (RFC 5626 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowKey<'a> {
    /// `+sip.instance`, without quotes and angle brackets.
    pub instance: &'a str,
    /// `reg-id`.
    pub reg_id: u32,
}

/// What a REGISTER may expect of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flows {
    /// Its reg-id counts, and `Require: outbound` says so where the client knows the word.
    Counted {
        /// Whether `outbound` stands in Supported.
        is_known: bool,
    },
    /// Who stands between does not keep flows: reg-id is passed over.
    Ignored,
}

impl Flows {
    /// 439 where the client wants its flow kept and the first hop cannot (RFC 5626 §6, §11.6). Only what carries a reg-id
    /// asks for anything.
    pub fn of(request: View<'_>, has_reg_id: bool) -> Result<Self, Refusal> {
        if !has_reg_id {
            return Ok(Self::Ignored);
        }
        let is_known = request.values(Name::Supported).chain(request.values(Name::Require)).any(is_outbound);
        // Of the proxies on the way the first one has written the last Path (RFC 3327 §5.2): it is the client's neighbour.
        let is_first_hop = request.values(Name::Via).nth(1).is_none();
        let is_kept = is_first_hop || request.values(Name::Path).last().is_some_and(has_ob);
        match (is_kept, is_known) {
            (true, is_known) => Ok(Self::Counted { is_known }),
            (false, true) => Err(Refusal::new(439, "First Hop Lacks Outbound Support")),
            (false, false) => Ok(Self::Ignored),
        }
    }
}

fn is_outbound(tag: &[u8]) -> bool {
    tag.eq_ignore_ascii_case(b"outbound")
}

fn has_ob(path: &[u8]) -> bool {
    NameAddr::parse(path).and_then(|path| path.parsed_uri().ok()).is_some_and(|uri| uri.param("ob").is_some())
}

/// The device and the flow that the parameters of a Contact name; nothing where one of the two is missing: a reg-id alone
/// is passed over.
pub fn flow_key(params: &str) -> Option<FlowKey<'_>> {
    let read = Params::parse(params.as_bytes())?;
    // RFC 5626 §11.1 `c-p-reg`: 1*DIGIT, 1 to 2^31 − 1.
    let reg_id =
        std::str::from_utf8(read.get("reg-id")?).ok()?.parse().ok().filter(|number| (1..1 << 31).contains(number))?;
    Some(FlowKey { instance: instance(params)?, reg_id })
}

/// The device that the parameters of a Contact name (RFC 5626 §4.1): the URN without its quotes and angle brackets.
pub fn instance(params: &str) -> Option<&str> {
    let quoted = std::str::from_utf8(Params::parse(params.as_bytes())?.get("+sip.instance")?).ok()?;
    let plain = quoted.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(quoted);
    (!plain.is_empty()).then_some(plain)
}

/// Parameters without reg-id, where it does not count.
pub(crate) fn without_reg_id(params: &str) -> String {
    let Some(read) = Params::parse(params.as_bytes()).filter(|read| read.has("reg-id")) else {
        return params.to_owned();
    };
    let mut kept = String::with_capacity(params.len());
    for param in read.iter().filter(|param| !param.name.eq_ignore_ascii_case(b"reg-id")) {
        kept.push(';');
        kept.push_str(&String::from_utf8_lossy(param.name));
        if let Some(value) = param.value {
            kept.push('=');
            kept.push_str(&String::from_utf8_lossy(value));
        }
    }
    kept
}

/// Of the bindings of one device only one is tried, the one that was renewed last (RFC 5626 §7, RFC 5627 §6.1): their places.
/// What names no device is a device of its own.
pub fn one_a_device(bindings: &[&Binding]) -> Vec<usize> {
    let is_newest = |at: usize| {
        let Some(device) = bindings[at].instance() else { return true };
        let rivals = bindings.iter().enumerate().filter(|(other, binding)| {
            *other != at && binding.instance().is_some_and(|rival| rival.eq_ignore_ascii_case(device))
        });
        rivals.into_iter().all(|(other, rival)| (rival.expires_unix_s, other) < (bindings[at].expires_unix_s, at))
    };
    (0..bindings.len()).filter(|at| is_newest(*at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flows(lines: &str) -> Result<Flows, u16> {
        let text = format!(
            "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n{lines}From: <sip:a@x>;tag=1\r\nTo: <sip:a@x>\r\n\
             Call-ID: 1\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"
        );
        let message = sip::Message::parse(text.into()).unwrap();
        Flows::of(message.view(), true).map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_flow_counts_when_the_client_is_our_neighbour_or_its_neighbour_keeps_it() {
        // RFC 5626 §6
        const SECOND: &str = "Via: SIP/2.0/UDP edge;branch=z9hG4bK2\r\n";
        let counted = |is_known| Ok(Flows::Counted { is_known });
        for (lines, expected) in [
            ("Supported: path, outbound\r\n".into(), counted(true)),
            ("Require: OUTBOUND\r\n".into(), counted(true)),
            (String::new(), counted(false)),
            (format!("{SECOND}Supported: outbound\r\nPath: <sip:edge;lr;ob>\r\n"), counted(true)),
            (format!("{SECOND}Supported: outbound\r\nPath: <sip:inner;lr>, <sip:edge;lr;ob>\r\n"), counted(true)),
            (format!("{SECOND}Supported: outbound\r\nPath: <sip:edge;lr>\r\n"), Err(439)),
            (format!("{SECOND}Supported: outbound\r\n"), Err(439)),
            (format!("{SECOND}Supported: path\r\n"), Ok(Flows::Ignored)),
        ] {
            assert_eq!(flows(&lines), expected, "{lines}");
        }
    }

    #[test]
    fn a_flow_is_a_device_and_a_number_and_neither_alone() {
        const DEVICE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
        assert_eq!(flow_key(&format!("{DEVICE};reg-id=2")), Some(FlowKey { instance: "urn:uuid:1", reg_id: 2 }));
        for params in
            [DEVICE, ";reg-id=1", ";reg-id=0;+sip.instance=\"<x>\"", ";reg-id=2147483648;+sip.instance=\"<x>\"", ""]
        {
            assert_eq!(flow_key(params), None, "{params}");
        }
        assert_eq!(without_reg_id(&format!(";a;REG-ID=1{DEVICE};b=\"c;d\"")), format!(";a{DEVICE};b=\"c;d\""));
    }
}
