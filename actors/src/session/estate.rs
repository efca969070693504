//! What a session has open in the world: kept outside its actor, so that its parent can close it when the actor falls.

use std::sync::Arc;

use base::Aor;
use im::Side;
use sip::Dialog;

use crate::hop::Hop;
use crate::switch::{Pair, Switch};

/// Dialogs, branches and switch entries of one session. The actor works on it in place.
#[derive(Default)]
pub(crate) struct Estate {
    /// It is a passage's, and no session's.
    pub(crate) is_passage: bool,
    /// The caller's INVITE, as long as its final answer is owed.
    pub(crate) owed: Option<Owed>,
    /// The two dialogs, as long as they stand.
    pub(crate) legs: [Option<Leg>; 2],
    /// INVITEs that may still be answered.
    pub(crate) open: Vec<Ringing>,
    /// Entries of the switch.
    pub(crate) pairs: Vec<Arc<Pair>>,
}

/// A request that is not answered yet.
#[derive(Clone)]
pub(crate) struct Owed {
    pub(crate) request: sip::Message,
    /// Where its answer goes.
    pub(crate) hop: Hop,
}

/// One side's dialog.
#[derive(Clone)]
pub(crate) struct Leg {
    pub(crate) dialog: Dialog,
    /// Where the side was heard from.
    pub(crate) hop: Hop,
    /// Who it is: nobody else may speak in its name.
    pub(crate) party: Aor,
}

/// An INVITE of ours under way.
#[derive(Clone)]
pub(crate) struct Ringing {
    /// The number of its branch.
    pub(crate) id: u32,
    /// As it was sent.
    pub(crate) invite: sip::Message,
    pub(crate) hop: Hop,
    /// What its branch ends in.
    pub(crate) transaction: u32,
}

impl Estate {
    pub(crate) fn leg(&self, side: Side) -> Option<&Leg> {
        self.legs[side as usize].as_ref()
    }

    pub(crate) fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        self.legs[side as usize].as_mut()
    }

    /// The side whose dialog a request is of.
    pub(crate) fn side_of(&self, request: sip::View<'_>) -> Option<Side> {
        Side::BOTH.into_iter().find(|side| self.leg(*side).is_some_and(|leg| leg.dialog.matches(request)))
    }

    /// Takes an entry out of the switch.
    pub(crate) fn close(&mut self, pair: &Arc<Pair>, switch: &Switch) {
        if let Some(at) = self.pairs.iter().position(|each| Arc::ptr_eq(each, pair)) {
            switch.close(&self.pairs.swap_remove(at));
        }
    }

    /// Takes all entries but this one out of the switch.
    pub(crate) fn close_all_but(&mut self, kept: Option<&Arc<Pair>>, switch: &Switch) {
        self.pairs.retain(|pair| {
            let keep = kept.is_some_and(|kept| Arc::ptr_eq(kept, pair));
            if !keep {
                switch.close(pair);
            }
            keep
        });
    }
}
