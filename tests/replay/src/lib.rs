//! What the fuzz targets run: one function a target, octets in, a panic where a promise is broken.
//!
//! The targets in `fuzz/` are one line each and call these. The tests at the end of each run replay the committed
//! corpora, the torture messages of RFC 4475 and every prefix of them on stable Rust. A find becomes a file in
//! `fuzz/corpus`, and so a test.

pub mod corpus;
pub mod cpim;
pub mod imdn;
pub mod msrp_scan;
pub mod msrp_switch;
pub mod sdp;
pub mod sip_datagram;
pub mod sip_stream;
pub mod sip_transactions;
