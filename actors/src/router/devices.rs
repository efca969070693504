//! Devices on the data plane: URIs that lead to one of them (RFC 5627), and who watches them come and go (RFC 3680).

use base::Aor;
use im::Device;
use im::routing::is_of_registrations;
use sip::{Method, Uri, View};

use super::{Case, Record, Sender, aor_of};
use crate::message::{Offer, Wanted};
use crate::turn::Turn;

/// Whose contacts a SUBSCRIBE within a dialog watches: it is sent to our Contact, and To says whose dialog it is.
pub(super) fn watched(view: View<'_>) -> Option<Aor> {
    if view.method() != Method::Subscribe || !is_of_registrations(view) {
        return None;
    }
    let to = view.to().ok()?;
    aor_of(to.uri).filter(|_| to.tag().is_some())
}

impl Case<'_> {
    /// Whose device is asked for, where it is a GRUU of ours. 404 for a temporary one that is none of ours.
    pub(super) fn device(&self) -> Result<Option<(Aor, Device)>, im::Refusal> {
        let uri = self.way.as_ref().map_err(|refusal| *refusal)?.uri;
        if !uri.windows(3).any(|three| three.eq_ignore_ascii_case(b";gr")) {
            return Ok(None);
        }
        match Uri::parse(uri) {
            Ok(uri) if std::str::from_utf8(uri.host).is_ok_and(|host| self.house.routing.serves(host)) => {
                self.house.gruus.read(&uri)
            }
            _ => Ok(None),
        }
    }

    /// The one device that the request is for.
    pub(super) fn wanted_device(&self) -> Option<Device> {
        self.device().ok().flatten().map(|(_, device)| device)
    }

    /// Which of its receiver's devices the request is for.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted { device: self.wanted_device(), preferences: im::Preferences::of(self.view) }
    }

    /// A SUBSCRIBE to what becomes of a user's contacts: the user's own business, and that of who is trusted (RFC 3680 §4.6).
    pub(super) fn watch(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, receiver: Aor) {
        if !matches!(sender, Sender::Trusted(_)) && !sender.is(&receiver) {
            return self.refuse(turn, record, 403, "Only The User's Own Registration", b"");
        }
        let owner = self.house.reach.get(&receiver).map_or(receiver, |row| row.aor.clone());
        turn.offer(owner, Offer::Watch(self.answer(record)));
    }
}
