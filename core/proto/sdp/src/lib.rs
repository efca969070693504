//! SDP: session descriptions (RFC 4566, 8866), the attributes of MSRP, and offer and answer (RFC 3264).
