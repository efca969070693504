//! Where a user can be called, for a session that asks, and all devices, for a passage.

use actix::prelude::*;
use base::Now;
use im::registrar::{self, Binding};

use super::choice::Chosen;
use super::locating::Reachable;
use super::registration::serves;
use super::{Here, UserActor};
use crate::message::{SessionInput, SessionKey, Wanted, Whereabouts};
use crate::turn;

impl UserActor {
    /// 404 where nobody has this name, or no such device; 480 where that is away, and for whom sessions are not in the
    /// profile of: another is not told why.
    pub(super) fn whereabouts(&mut self, session: SessionKey, wanted: &Wanted, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        let found = match &here.account {
            Some(account) if !serves(&account.services, "session") => Err(480),
            _ => here.choose(now, wanted, Here::session_bindings),
        };
        self.tell_where(session, found, now, ctx);
    }

    /// All contacts, whatever they take: who passes something on knows nothing of it.
    pub(super) fn devices(&mut self, passage: SessionKey, wanted: &Wanted, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        let found = here.choose(now, wanted, Here::all_bindings);
        self.tell_where(passage, found, now, ctx);
    }

    /// As soon as the hosts that are called by their names are found.
    fn tell_where(&mut self, asks: SessionKey, found: Result<Vec<Chosen>, u16>, now: Now, ctx: &mut Context<Self>) {
        let tell = move |found| turn::fill_later(|turn| turn.session(asks, SessionInput::Whereabouts(found)));
        let Some(account) = self.here().and_then(|here| here.account.as_ref()) else { return tell(Err(404)) };
        let aor = account.aor.clone();
        match found {
            Err(status) => tell(Err(status)),
            Ok(chosen) => self.locate(chosen, now, ctx, move |_, Reachable(chosen), _, _| {
                let contacts = chosen.into_iter().map(|each| each.contact).collect();
                tell(Ok(Box::new(Whereabouts { aor, contacts })));
            }),
        }
    }
}

impl Here {
    /// The durable bindings whose time is not over.
    fn all_bindings(&self, now: Now) -> Vec<&Binding> {
        self.standing(now).collect()
    }

    /// The durable bindings that take sessions and whose time is not over.
    fn session_bindings(&self, now: Now) -> Vec<&Binding> {
        let standing: Vec<&Binding> = self.standing(now).collect();
        let wanted = registrar::session_contacts(standing.iter().map(|binding| binding.params.as_str()));
        wanted.into_iter().map(|at| standing[at]).collect()
    }
}
