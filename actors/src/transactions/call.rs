//! The client's side of a transaction.

use base::Aor;
use sip::Method;

use super::E_HALVES;
use crate::hop::Hop;

/// The client's side of a record; goes back to a pool with the final answer.
pub(super) struct Call {
    pub(super) callee: Hop,
    /// As it was sent; empty where nobody will ask for it again.
    pub(super) request: Vec<u8>,
    pub(super) method: Method,
    /// For whom the actor speaks who hears of failures and outcomes.
    pub(super) party: Aor,
    pub(super) role: Role,
    /// A provisional response came.
    pub(super) proceeding: bool,
    /// When the next repeat is due, in half seconds after the first sending: how far timer E has come.
    pub(super) halves: u8,
}

/// Whose request it is.
pub(super) enum Role {
    /// Somebody's, relayed.
    Relay {
        /// Who proved to have sent it.
        sender: Aor,
        /// When it came.
        came_unix_ms: u64,
    },
    /// Somebody's, passed on: no actor hears of it.
    Pass,
    /// An actor's own, that it calls by this number.
    Ask { token: u64 },
}

impl Call {
    /// Over a used one where there is one, so that nothing is allocated in steady state.
    pub(super) fn new(
        used: Option<Box<Self>>,
        callee: Hop,
        request: &[u8],
        method: Method,
        (party, role): (Aor, Role),
    ) -> Box<Self> {
        match used {
            Some(mut call) => {
                let mut buffer = std::mem::take(&mut call.request);
                buffer.clear();
                buffer.extend_from_slice(request);
                *call = Self { callee, request: buffer, method, party, role, proceeding: false, halves: E_HALVES[0] };
                call
            }
            None => Box::new(Self {
                callee,
                request: request.to_vec(),
                method,
                party,
                role,
                proceeding: false,
                halves: E_HALVES[0],
            }),
        }
    }
}
