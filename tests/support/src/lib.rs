//! What tests against the real binary stand on: the server as a child, scripted SIP peers, programs of others, and the
//! torture messages of RFC 4475.
//!
//! Helpers here fail by panic, with what was expected and what came: they are called by tests alone.

pub mod admin;
pub mod binary;
pub mod names;
pub mod node;
pub mod peer;
pub mod phone;
pub mod ports;
pub mod process;
pub mod programs;
pub mod torture;
pub mod wire;

pub use names::NameServer;
pub use node::Node;
pub use peer::Peer;
pub use phone::Phone;
pub use wire::Heard;
