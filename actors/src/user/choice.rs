//! Which of a user's contacts a request goes to: those that take it, or one device's, in the order that callee and caller wish,
//! and never two of one device at once.

use base::Now;
use im::outbound;
use im::registrar::Binding;

use super::Here;
use crate::contact::Contact;
use crate::message::Wanted;

/// A contact to be called, and further flows of its device for when this one is gone (RFC 5626 §7).
pub(super) struct Chosen {
    pub(super) contact: Contact,
    pub(super) spare: Vec<Contact>,
}

impl Here {
    /// Of the contacts that `take` it, or of all of the one device that is wanted. None where nobody is there. 480 or 404
    /// where the device is away or unknown, or where all are excluded by the caller (RFC 3841 §7.2.4).
    pub(super) fn choose(
        &self,
        now: Now,
        wanted: &Wanted,
        take: impl FnOnce(&Self, Now) -> Vec<&Binding>,
    ) -> Result<Vec<Chosen>, u16> {
        let candidates = match &wanted.device {
            Some(device) => {
                let standing: Vec<&Binding> = self.standing(now).collect();
                device.pick(&standing)?.into_iter().map(|at| standing[at]).collect()
            }
            None => take(self, now),
        };
        let chosen = outbound::one_a_device(&candidates);
        let kept: Vec<&Binding> = chosen.iter().map(|at| candidates[*at]).collect();
        let order: Vec<(usize, u16)> = match &wanted.preferences {
            Some(preferences) => preferences.order(&kept),
            None => kept.iter().map(|binding| binding.q).enumerate().collect(),
        };
        if order.is_empty() && !kept.is_empty() {
            return Err(480);
        }
        let spare = |of: &Binding| -> Vec<Contact> {
            let others = candidates.iter().enumerate().filter(|(at, _)| !chosen.contains(at)).map(|(_, other)| *other);
            let device = of.instance();
            let same = others.filter(|other| {
                device.zip(other.instance()).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
            });
            let mut same: Vec<&Binding> = same.collect();
            // The next is taken from the end: the one that was renewed last.
            same.sort_by_key(|other| other.expires_unix_s);
            same.into_iter().map(Contact::of).collect()
        };
        let call = |(at, q): (usize, u16)| {
            let mut contact = Contact::of(kept[at]);
            contact.q = q;
            Chosen { contact, spare: spare(kept[at]) }
        };
        Ok(order.into_iter().map(call).collect())
    }
}
