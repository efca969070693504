//! SDP: session descriptions (RFC 4566, 8866), the attributes of MSRP (RFC 4975 §8), and offer and answer (RFC 3264).
//!
//! Reading is strict and keeps everything; writing for a peer changes what names an address or a connection and passes
//! the rest octet for octet. No sockets, no clocks, no dice.

pub mod description;
pub mod error;
pub mod media;
pub mod offer;

pub use description::Description;
pub use error::SdpError;
pub use media::{Direction, Message, Setup, Types};
pub use offer::{Answer, Content, Offer, Origin, Ours, Role, Spoken, own_offer, role_from_answer, role_to_answer};
