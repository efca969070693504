//! Everything that the data plane and the actors say to each other.

use std::net::SocketAddr;
use std::sync::Arc;

use actix::Message as ActixMessage;
use base::Aor;

use crate::contact::Contact;
use crate::hop::ConnId;
use crate::outbox::Outbox;
use crate::session::{Entry, Seat};
use crate::switch::Opened;
use crate::transactions::{Answer, Slot};

/// Something for one user's actor.
#[derive(Debug)]
pub enum Offer {
    /// An authenticated REGISTER; the answer is owed.
    Register(Answer),
    /// A page message for this user from `sender`, who is who he says; the answer is owed.
    Page {
        /// Whose it is.
        sender: Aor,
        /// The request, and the way back.
        answer: Answer,
        /// The one device that it is for.
        device: Option<im::Device>,
    },
    /// A page message that was relayed to the user's one contact, which is away (480, 408, 503), silent or unreachable.
    /// It comes as it was relayed, without our Via.
    Undelivered {
        /// Whose it is.
        sender: Aor,
        /// The request, and the way back.
        answer: Answer,
        /// What the contact answered; 408 where it was silent, 503 where it could not be reached.
        status: u16,
    },
    /// The contact took a message after all that was offered as [`Offer::Undelivered`] before: the letter is not needed.
    TookAfterAll {
        /// The transaction that the letter came from.
        slot: Slot,
    },
    /// The outcome of a request that this user's actor had sent.
    Outcome {
        /// What the actor called it.
        token: u64,
        /// The final status; 408: nothing came; 503: it could not be sent.
        status: u16,
        /// The response, when one came.
        response: Option<sip::Message>,
    },
    /// The data plane has no row of this user, who sent or is to get `request`: load it, then let the router see it again.
    Missing {
        /// The request, as it came, and the way back.
        answer: Answer,
    },
    /// A message of the house itself for this user: a delivery notification. Nobody waits for an answer.
    Notice(Box<im::Entry>),
    /// The user's own device is there: what waits may be tried again (decisions D4).
    Active,
    /// The account was changed by an operator, who hears when nothing of what was before is in force.
    AccountChanged(Heard),
    /// A page message from this user, whose password is right and whose nonce is from before the start: perhaps it was
    /// taken then, and only its answer was lost. If not, its sender is challenged.
    Perhaps {
        /// Whom it is for.
        receiver: Aor,
        /// The request, and the way back.
        answer: Answer,
    },
    /// A letter's time is over (from the store's sweep).
    Expired(Box<storage::spool::Letter>),
    /// A session wants to know where this user can be called.
    Whereabouts {
        /// Who asks.
        session: SessionKey,
        /// Which of his devices are wanted.
        wanted: Box<Wanted>,
    },
    /// A passage wants to know all devices of this user.
    Devices {
        /// Who asks.
        passage: SessionKey,
        /// Which of them are wanted.
        wanted: Box<Wanted>,
    },
    /// A SUBSCRIBE to what becomes of this user's contacts, of somebody who may know it; the answer is owed.
    Watch(Answer),
    /// A connection is gone: bindings that were made over it are over (RFC 5626 §7).
    FlowLost(ConnId),
    /// A test's wish.
    Panic,
}

/// Which of a user's devices a request is for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// This one alone (RFC 5627).
    pub device: Option<im::Device>,
    /// Those that its sender prefers (RFC 3841).
    pub preferences: Option<im::Preferences>,
}

/// Dropped when it has been heard: whoever holds the other end waits for that.
#[derive(Debug)]
pub struct Heard(#[expect(dead_code, reason = "what counts is when it is dropped")] tokio::sync::oneshot::Sender<()>);

impl Heard {
    /// One end for the offer, and what is over when that is dropped.
    pub fn new() -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        (Self(sender), async {
            let _ = receiver.await;
        })
    }
}

/// Offers of one turn for one shard, with the users they are for.
#[derive(ActixMessage, Debug, Default)]
#[rtype(result = "()")]
pub struct Offers(pub Vec<(Aor, Offer)>);

/// Which session, in this process: the shard that owns it, its number there, and what nobody guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The shard whose nursery has it.
    pub shard: u8,
    /// Its number in that nursery.
    pub number: u32,
    /// Random: who does not know it cannot speak to the session.
    pub secret: u32,
}

pub use im::Side;

/// What the switch tells a session's actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchEvent {
    /// A connection carries this leg now.
    Bound(Side),
    /// The leg's connection is gone, or could not be opened.
    Lost(Side),
}

/// Something for one session's actor.
#[derive(Debug)]
pub enum SessionInput {
    /// From the switch.
    Switch(SwitchEvent),
    /// An INVITE that begins a session; the answer is owed.
    Invite(Box<Invite>),
    /// A request that is passed on; the answer is owed. The actor that this starts is a passage.
    Passage(Box<Passage>),
    /// An INVITE that the session serves came again.
    Repeated {
        /// Its transaction's identity.
        key: u64,
    },
    /// A CANCEL for such an INVITE; it has been answered.
    Cancel {
        /// The INVITE's identity.
        key: u64,
        /// Its Reason (RFC 3326).
        reason: Option<String>,
    },
    /// An ACK of such an INVITE's own transaction: for a refusal.
    HopAck {
        /// The INVITE's identity.
        key: u64,
    },
    /// An ACK within a dialog: for a 2xx.
    Ack(sip::Message),
    /// A request within a dialog; the answer is owed.
    Request(Box<Within>),
    /// A response to a request of the session's.
    Response(sip::Message),
    /// A request of the session's could not be delivered.
    Unreachable {
        /// What its branch ends in.
        transaction: u32,
    },
    /// Where the callee is, as its actor knows it; or the status that says why not.
    Whereabouts(Result<Box<Whereabouts>, u16>),
    /// A test's wish.
    Panic,
}

/// An INVITE of somebody who is known, for one of our users.
#[derive(Debug)]
pub struct Invite {
    /// Who calls.
    pub sender: Aor,
    /// Who is called.
    pub receiver: Aor,
    /// The request, and the way back.
    pub answer: Answer,
    /// Its place among the INVITEs that are served.
    pub entry: Entry,
    /// What it offers.
    pub offer: sdp::Offer,
    /// Where the callee is.
    pub callee: Callee,
    /// What counts it among the caller's sessions.
    pub seat: Seat,
}

/// Where somebody is called.
#[derive(Debug)]
pub enum Callee {
    /// At those of his devices that are wanted.
    Ours(Box<Wanted>),
    /// In another domain, whose servers were found.
    Elsewhere(Box<Contact>),
}

/// A request of somebody who is known, for devices of our users or along a dialog's way.
#[derive(Debug)]
pub struct Passage {
    /// Where it goes.
    pub destination: Destination,
    /// The request, and the way back.
    pub answer: Answer,
    /// An INVITE's place among those that are served.
    pub entry: Option<Entry>,
}

/// Where a request is passed on to.
#[derive(Debug)]
pub enum Destination {
    /// To these devices of this user.
    User(Aor, Box<Wanted>),
    /// To one hop.
    Contact(Box<Contact>),
}

/// A request within a dialog of a session's.
#[derive(Debug)]
pub struct Within {
    /// Who has proved to have sent it.
    pub sender: Aor,
    /// Whether it was not he who proved it, but a trusted peer who says so.
    pub is_vouched: bool,
    /// The request, and the way back.
    pub answer: Answer,
}

/// Where a user can be called.
#[derive(Debug)]
pub struct Whereabouts {
    /// The address of record: the owner of the alias that was asked for.
    pub aor: Aor,
    /// Contacts that take sessions; may be none.
    pub contacts: Vec<Contact>,
}

/// Inputs of one turn for the sessions of one shard.
#[derive(ActixMessage, Debug, Default)]
#[rtype(result = "()")]
pub struct SessionInputs(pub Vec<(SessionKey, SessionInput)>);

/// The one thing that needs the floor above: open a connection to `peer` and lend it to `outbox`.
/// Answered by `net`; the two are introduced by `server`.
#[derive(ActixMessage, Clone)]
#[rtype(result = "()")]
pub struct Dial {
    /// Where to.
    pub peer: SocketAddr,
    /// Whose socket it becomes; closed when it cannot be opened.
    pub outbox: Arc<Outbox>,
}

/// The same for a leg of a session: the connection carries MSRP.
#[derive(ActixMessage, Clone)]
#[rtype(result = "()")]
pub struct DialLeg {
    /// Which leg, and where to.
    pub opened: Opened,
    /// Whose socket it becomes; closed when it cannot be opened.
    pub outbox: Arc<Outbox>,
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dial({})", self.peer)
    }
}
