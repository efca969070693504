//! What a call hears, from its transactions and from its peer, in one line.

use bytes::Bytes;
use sip::Message;
use tokio::sync::mpsc;

use crate::error::ClientError;

/// One thing that a call is told.
#[derive(Debug)]
pub(crate) enum Word {
    /// A response to our INVITE: any number of 1xx, then one refusal or any number of 2xx.
    Response(Message),
    /// There will be no response to our INVITE.
    Failed(ClientError),
    /// The peer does not want to be answered any more; it has been told 487.
    Cancelled,
    /// Our 2xx has arrived; with what the ACK says, where that is a description.
    Acknowledged(Bytes),
    /// Our 2xx was never acknowledged (RFC 3261 §13.3.1.4), or refused for want of a way.
    Unacknowledged,
    /// The peer has sent BYE, with this Reason.
    HungUp(Option<String>),
    /// The client leaves.
    Leave,
}

/// Where a call is told. A call hears few words: what could be many, repeated 2xx, comes at the pace of their timers.
pub(crate) type Teller = mpsc::UnboundedSender<Word>;
