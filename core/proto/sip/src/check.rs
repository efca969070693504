//! What every request must have and be before anybody looks at what it wants (RFC 3261 §8.1.1, §16.3; RFC 4475).

use base::limits::SIP_URI_BYTES_MAX;

use crate::error::{Fault, HeaderError};
use crate::headers::Name;
use crate::message::View;
use crate::method::Method;
use crate::uri::{Scheme, Uri};

/// RFC 3261 §8.1.1.5: the sequence number must be less than 2^31.
const CSEQ_MAX: u32 = (1 << 31) - 1;

/// RFC 3261 §8.1.1.7: branches of our time begin so.
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

fn fault(reason: &'static str) -> Fault {
    Fault { status: 400, reason }
}

/// As [`View::check_request`] says. The version comes first (RFC 4475 §3.1.2.16), then what an answer needs.
pub(crate) fn check_request(request: View<'_>) -> Result<(), Fault> {
    if !request.layout.version_is_good {
        return Err(Fault { status: 505, reason: "Version Not Supported" });
    }
    let via = request.top_via()?;
    // RFC 4475 §3.2.1: a branch that names nothing would make one transaction of all that its sender asks.
    if via.branch() == Some(MAGIC_COOKIE) {
        return Err(fault("Branch Without Identifier"));
    }
    request.from()?;
    request.to()?;
    request.call_id()?;
    let cseq = request.cseq()?;
    if cseq.number > CSEQ_MAX {
        return Err(fault("CSeq Number Too Large"));
    }
    if cseq.method_text != request.method_text() {
        return Err(fault("CSeq Method Mismatch"));
    }
    request.max_forwards()?;
    check_request_uri(request)?;
    // RFC 3261 §10.3: a registrar reads all contacts or none. Elsewhere they are not ours to judge (§16.3).
    if request.method() == Method::Register {
        request.contacts().map_err(|_| Fault::from(HeaderError::Malformed(Name::Contact)))?;
    }
    Ok(())
}

/// RFC 3261 §7.1, §16.3 step 1.
fn check_request_uri(request: View<'_>) -> Result<(), Fault> {
    let text = request.request_uri();
    if text.len() > SIP_URI_BYTES_MAX {
        return Err(Fault { status: 414, reason: "Request-URI Too Long" });
    }
    if text.starts_with(b"<") {
        return Err(fault("Request-URI In Angle Brackets"));
    }
    if !request.layout.start_is_good {
        return Err(fault("Malformed Request-Line"));
    }
    let uri = Uri::parse(text).map_err(|_| fault("Malformed Request-URI"))?;
    // RFC 3261 §19.1.1, table 1: a Request-URI has no headers; RFC 4475 §3.1.2.11: least of all a Route.
    if uri.scheme != Scheme::Other && !uri.headers.is_empty() {
        return Err(fault("Headers In Request-URI"));
    }
    Ok(())
}
