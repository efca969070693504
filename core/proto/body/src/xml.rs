//! The little XML that bodies of messages have: leaves with text, of one namespace.
//!
//! Nothing is expanded: a document type is refused, and of references only the five of XML itself and those by number
//! are known. What stands in other namespaces is passed over, for extensions may (RFC 5438 §11.1, RFC 3994 §6).

use base::limits::{XML_DEPTH_MAX, XML_ELEMENTS_MAX};
use quick_xml::XmlVersion;
use quick_xml::escape::escape;
use quick_xml::events::{BytesRef, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use crate::error::ParseError;

/// One element of the namespace asked for, and the text in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its name and those of the elements around it: `imdn/message-id`.
    pub(crate) path: String,
    /// Its own text, references resolved, trimmed.
    pub(crate) text: String,
}

/// Every element of that namespace that stands in such elements only, in document order.
pub(crate) fn elements(document: &[u8], namespace: &str) -> Result<Vec<Element>, ParseError> {
    let document = std::str::from_utf8(document).map_err(|_| ParseError::Xml)?;
    let mut reader = NsReader::from_str(document.strip_prefix('\u{feff}').unwrap_or(document));
    reader.config_mut().expand_empty_elements = true;
    let mut found: Vec<Element> = Vec::new();
    // For each open element, which of `found` it is; nothing for those of other namespaces and all within them.
    let mut open: Vec<Option<usize>> = Vec::new();
    loop {
        let (resolved, event) = reader.read_resolved_event().map_err(|_| ParseError::Xml)?;
        let here = open.last().copied().flatten();
        match event {
            Event::Start(start) => {
                let ours = matches!(resolved, ResolveResult::Bound(uri) if uri.as_ref() == namespace);
                let known = ours && (open.is_empty() || here.is_some());
                if open.len() == XML_DEPTH_MAX
                    || found.len() == XML_ELEMENTS_MAX
                    || (open.is_empty() && !found.is_empty())
                {
                    return Err(ParseError::Xml);
                }
                open.push(known.then_some(found.len()));
                if known {
                    let name = start.local_name();
                    let around = here.map(|at| format!("{}/", found[at].path)).unwrap_or_default();
                    found.push(Element { path: format!("{around}{}", name.as_ref()), text: String::new() });
                }
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(text) => say(&mut found, here, &text.xml10_content()),
            Event::CData(text) => say(&mut found, here, &text.xml10_content()),
            Event::GeneralRef(reference) => say(&mut found, here, &resolve(&reference)?),
            Event::DocType(_) => return Err(ParseError::Xml),
            Event::Eof => break,
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    if !open.is_empty() {
        return Err(ParseError::Xml);
    }
    found.iter_mut().for_each(|element| element.text = element.text.trim().to_owned());
    Ok(found)
}

fn say(found: &mut [Element], here: Option<usize>, text: &str) {
    if let Some(element) = here.and_then(|at| found.get_mut(at)) {
        element.text.push_str(text);
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, ParseError> {
    if let Some(one) = reference.resolve_char_ref().map_err(|_| ParseError::Xml)? {
        return Ok(one.to_string());
    }
    let name = reference.xml_content(XmlVersion::Explicit1_0);
    let known = quick_xml::escape::resolve_xml_entity(&name).ok_or(ParseError::Xml)?;
    Ok(known.to_owned())
}

/// Appends `<name>text</name>`, the text escaped; characters that XML cannot hold are left out (XML 1.0 §2.2).
pub(crate) fn push(out: &mut String, name: &str, text: &str) {
    let legal: String = text.chars().filter(|one| is_char(*one)).collect();
    out.push_str(&format!("<{name}>{}</{name}>", escape(legal.as_str())));
}

fn is_char(one: char) -> bool {
    matches!(one, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(document: &str) -> String {
        match elements(document.as_bytes(), "urn:x") {
            Ok(found) => found.iter().map(|one| format!("{}={}|", one.path, one.text)).collect(),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn elements_are_known_by_their_namespace_whatever_their_prefix() {
        assert_eq!(read("<a xmlns='urn:x'><b> 1 </b><c/></a>"), "a=|a/b=1|a/c=|");
        assert_eq!(read("<p:a xmlns:p='urn:x'><p:b>1</p:b></p:a>"), "a=|a/b=1|");
        assert_eq!(read("<a xmlns='urn:x'><o:b xmlns:o='urn:o'>2<c/></o:b><b>3</b></a>"), "a=|a/b=3|");
        assert_eq!(read("<a><b>1</b></a>"), "");
    }

    #[test]
    fn only_the_references_of_xml_itself_are_resolved() {
        assert_eq!(read("<a xmlns='urn:x'>&lt;&#65;&#x42;&amp;<![CDATA[<&>]]></a>"), "a=<AB&<&>|");
        assert_eq!(read("<a xmlns='urn:x'>&own;</a>"), "Xml");
        assert_eq!(read("<!DOCTYPE a [<!ENTITY own 'x'>]><a xmlns='urn:x'>&own;</a>"), "Xml");
    }

    #[test]
    fn what_is_not_well_formed_or_too_deep_is_refused() {
        for text in ["<a xmlns='urn:x'>", "<a xmlns='urn:x'></b>", "<a", "<a xmlns='urn:x'/><a xmlns='urn:x'/>"] {
            assert_eq!(read(text), "Xml", "{text}");
        }
        let deep = format!("<a xmlns='urn:x'>{}{}</a>", "<b>".repeat(XML_DEPTH_MAX), "</b>".repeat(XML_DEPTH_MAX));
        assert_eq!(read(&deep), "Xml");
        assert_eq!(read(&format!("<a xmlns='urn:x'>{}</a>", "<b/>".repeat(XML_ELEMENTS_MAX))), "Xml");
    }

    proptest! {
        #[test]
        fn no_octets_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = elements(&bytes, "urn:x");
        }

        #[test]
        fn no_tags_make_the_reader_panic(text in "(<[/!?]?[a:]{0,3}( xmlns(:a)?=['\"]urn:x['\"])?/?>|&[#x0-9a-z]{0,5};?|[a<&\\]]){0,20}") {
            let _ = elements(text.as_bytes(), "urn:x");
        }

        #[test]
        fn a_text_is_read_as_it_was_written(text in any::<String>()) {
            let mut out = String::from("<a xmlns='urn:x'>");
            push(&mut out, "b", &text);
            out.push_str("</a>");
            let kept: String = text.chars().filter(|one| is_char(*one)).collect();
            let found = elements(out.as_bytes(), "urn:x").unwrap();
            // XML 1.0 §2.11: line ends become one line feed.
            let ends = kept.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(&found[1].text, ends.trim());
        }
    }
}
