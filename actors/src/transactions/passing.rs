//! Requests that are passed on to one device without any actor: any method but INVITE and MESSAGE, whose answer goes back
//! as it is (RFC 3261 §16.7, RFC 4320 §4).

use std::sync::Arc;

use base::{Aor, Now};
use sip::{Delta, Reply};

use super::call::{Call, Role};
use super::{Slot, State, Stripe, Transactions, without_top_via};
use crate::hop::Hop;
use crate::turn::Turn;

impl Transactions {
    /// The request of `slot` goes on to `callee`: `write` appends it, with our branch, to the turn's arena. `party` is whose
    /// it is.
    pub fn pass(
        self: &Arc<Self>,
        turn: &mut Turn,
        slot: Slot,
        callee: Hop,
        party: &Aor,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) {
        let start = turn.arena.len();
        write(&mut turn.arena, &slot.branch());
        self.call(turn, slot, callee, (party.clone(), Role::Pass), now, start);
    }

    /// The device has nothing to say that may be passed on: it is silent (408), or it cannot be reached or works no more
    /// (503).
    pub(super) fn pass_failure(&self, turn: &mut Turn, table: &mut Stripe, slot: Slot, status: u16, now: Now) {
        let Some(record) = table.get(slot) else { return };
        let Some(call) = record.call.take() else { return };
        if status == 408 {
            // RFC 4320 §4.2: never answered, so that its sender does not hear of what came too late. His repeats are.
            table.recycle(Some(call));
            return table.linger_on(slot, now);
        }
        let (key, caller) = (record.key, record.caller);
        if let (Some(request), Some(caller)) = (without_top_via(&call.request), caller) {
            let tag = self.tag(key);
            // RFC 3261 §16.7 step 6: a 503 is that device's, and says nothing of the house.
            let reply = Reply { status: 500, reason: "Not Reached", to_tag: &tag, ..Reply::default() };
            let start = turn.arena.len();
            sip::reply(&mut turn.arena, request.view(), &reply);
            record.answer = Some(Delta::from_reply(&reply));
            self.send_back(turn, caller, start);
        }
        table.recycle(Some(call));
        table.settle(slot, now);
    }

    /// RFC 4320 §4.1: 100 to a request that is not answered when its sender's timer E has come to T2, and not before. At
    /// 3.5 s by our own timer E, or at 4.5 or 5.5 where a 100 has come meanwhile.
    pub(super) fn tell_trying(&self, turn: &mut Turn, caller: Option<Hop>, call: &Call) {
        if !matches!(call.role, Role::Pass) || !(7..=11).contains(&call.halves) {
            return;
        }
        if let (Some(caller), Some(request)) = (caller, without_top_via(&call.request)) {
            let start = turn.arena.len();
            sip::reply(&mut turn.arena, request.view(), &Reply { status: 100, ..Reply::default() });
            self.send_back(turn, caller, start);
        }
    }

    /// A request will never be answered: its repeats are absorbed for as long as they may come.
    pub(crate) fn abandon(&self, slot: Slot, now: Now) {
        self.stripe(slot).linger_on(slot, now);
    }

    /// Whether a record waits for a device that it was passed on to.
    pub(super) fn is_passed(record: &super::Record) -> bool {
        record.state == State::Calling && record.call.as_ref().is_some_and(|call| matches!(call.role, Role::Pass))
    }
}
