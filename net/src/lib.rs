//! The server's sockets: SIP over UDP in batches, SIP over connections, the gate that counts who comes in, and the one way
//! outwards. What is read is handed to `actors::router`; what is to leave comes back through the shard's turn.

pub mod config;
pub mod dialer;
pub mod dns;
pub mod doors;
pub mod error;
pub mod gate;
pub mod msrp_stream;
pub mod sip_stream;
pub mod sip_udp;
pub mod writer;

pub use config::Config;
pub use dialer::Dialer;
pub use dns::Dns;
pub use doors::Doors;
pub use error::NetError;
pub use gate::Gate;
