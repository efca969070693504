//! Where a request goes on to: the servers of a domain (RFC 3263), whoever has a telephone number (RFC 6116), and which of
//! the servers that were found is tried first. Decisions only: the machines say which DNS question they want next, take
//! the answer, and never fetch one.
//!
//! ```text
//! URI ──> place ──> next_hop ──(NAPTR, SRV, A, AAAA)──> located ──(dice, health)──> targets, best first
//! tel: ─> number ─> enum_number ──(NAPTR)── substitution ──> URIs, best first
//! ```

pub mod enum_number;
mod ere;
pub mod health;
pub mod located;
pub mod next_hop;
pub mod number;
pub mod place;
pub mod question;
pub mod search;
pub mod substitution;
pub mod zone;

pub use enum_number::{EnumNumber, EnumUri, Uris};
pub use health::Health;
pub use located::{Dice, Located, Target, Targets};
pub use next_hop::NextHop;
pub use number::{Number, Plan};
pub use place::{Families, Host, Place, PlaceError, Service, Speaks, Transport};
pub use question::{Answer, Kind, Naptr, Question, Record, Srv};
pub use search::{Failure, Outcome, Output, Search};
pub use zone::Zone;
