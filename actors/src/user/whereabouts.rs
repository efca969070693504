//! Where a user can be called, for a session that asks, and all devices, for a passage.

use base::Now;
use im::registrar::{self, Binding};

use super::registration::serves;
use super::{Here, UserActor};
use crate::message::{SessionInput, SessionKey, Wanted, Whereabouts};
use crate::turn;

impl UserActor {
    /// 404 where nobody has this name, or no such device; 480 where that is away, and for whom sessions are not in the
    /// profile of: another is not told why.
    pub(super) fn whereabouts(&mut self, session: SessionKey, wanted: &Wanted, now: Now) {
        let Some(here) = self.here() else { return };
        let found = match &here.account {
            None => Err(404),
            Some(account) if !serves(&account.services, "session") => Err(480),
            Some(account) => here.choose(now, wanted, Here::session_bindings).map(|chosen| {
                let contacts = chosen.into_iter().map(|each| each.contact).collect();
                Box::new(Whereabouts { aor: account.aor.clone(), contacts })
            }),
        };
        turn::fill_later(|turn| turn.session(session, SessionInput::Whereabouts(found)));
    }

    /// All contacts, whatever they take: who passes something on knows nothing of it.
    pub(super) fn devices(&mut self, passage: SessionKey, wanted: &Wanted, now: Now) {
        let Some(here) = self.here() else { return };
        let found = match &here.account {
            None => Err(404),
            Some(account) => here.choose(now, wanted, Here::all_bindings).map(|chosen| {
                let contacts = chosen.into_iter().map(|each| each.contact).collect();
                Box::new(Whereabouts { aor: account.aor.clone(), contacts })
            }),
        };
        turn::fill_later(|turn| turn.session(passage, SessionInput::Whereabouts(found)));
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
