//! An IM user agent: registers, sends and receives page messages (RFC 3428), answers what comes in.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use base::Aor;
//! use client::{Account, Client, Options, Outgoing, Transport};
//!
//! let alice = Aor::parse("sip:alice@example.com")?;
//! let account = Account::new(alice, "secret", "127.0.0.1:5060".parse()?, Transport::Udp);
//! let (client, mut inbox) = Client::connect(account, Options::default()).await?;
//! client.register().await?;
//! let sent = client.message(&Aor::parse("sip:bob@example.com")?, Outgoing::text("Hello")).await?;
//! assert!(sent.accepted());
//! let answer = inbox.message().await;
//! client.close().await?;
//! # Ok(()) }
//! ```
//!
//! Files, each importing only those before it: visible, account, error, word, turns, login, link (a socket and its
//! transactions), pager (messages as values), owed, registration, reoffer (a new offer within a session), calls (the
//! dialogs that stand), files (what comes in goes to the disk), talk (the MSRP connection of a session), session, media
//! (its description), held (what keeps it together), call (an invitation that came), inbound (what is answered), client
//! (the handle). All tasks are spawned on the runtime of whoever calls [`Client::connect`]; one thread is enough.

pub mod account;
pub mod call;
mod calls;
pub mod client;
pub mod error;
pub mod files;
mod held;
pub mod inbound;
mod link;
mod login;
mod media;
mod owed;
pub mod pager;
pub mod registration;
mod reoffer;
pub mod session;
mod talk;
mod turns;
mod visible;
mod word;

pub use account::{Account, Answer, Direction, Options, Tap, Transport};
pub use call::IncomingCall;
pub use client::{Client, Inbox};
pub use error::ClientError;
pub use files::{ReceivedFile, media_type_of};
pub use inbound::Event;
pub use pager::{Envelope, Incoming, Outgoing, Receipt, Sent};
pub use registration::Binding;
pub use sdp::Setup;
pub use session::{Delivery, Ended, Session, SessionOptions};
pub use talk::Message;
pub use visible::visible;
