//! What messages carry: `message/cpim` (RFC 3862), delivery notifications (IMDN, RFC 5438), typing notices
//! (is-composing, RFC 3994) and registration information (RFC 3680). Bytes become values that borrow from them, and values become bytes.

pub mod cpim;
pub mod date;
pub mod error;
pub mod imdn;
pub mod is_composing;
pub mod reginfo;
mod xml;

pub use cpim::{Cpim, Writer};
pub use error::ParseError;
pub use imdn::{Asked, Notice, Wants};
pub use reginfo::RegInfo;
