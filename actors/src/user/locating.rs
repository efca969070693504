//! Contacts that are called by a name: their servers are found before anything is sent to them (RFC 3263).

use std::sync::Arc;

use actix::prelude::*;
use base::Now;
use futures_util::future::join_all;
use locate::{Located, Place};

use super::UserActor;
use super::choice::Chosen;
use crate::contact::Contact;

/// Contacts of which every one is as well known as it can be.
pub(super) struct Reachable(pub(super) Vec<Chosen>);

impl UserActor {
    /// Goes on with the contacts as soon as the servers of those that are called by a name are found, or cannot be: at once
    /// where they are known.
    pub(super) fn locate(
        &mut self,
        mut chosen: Vec<Chosen>,
        now: Now,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Reachable, Now, &mut Context<Self>) + 'static,
    ) {
        let house = self.house.clone();
        let mut missing: Vec<Place> = Vec::new();
        for contact in all(&mut chosen) {
            let Some(place) = contact.wants(&house).cloned() else { continue };
            match house.locator.known(&place, now.at) {
                Some(Ok(located)) => contact.found(&house, &located, now.at),
                Some(Err(_)) => {}
                None if missing.contains(&place) => {}
                None => missing.push(place),
            }
        }
        if missing.is_empty() {
            return then(self, Reachable(chosen), now, ctx);
        }
        let looking = missing.into_iter().map(|place| {
            let finding = house.locator.find(place.clone(), now.at);
            async move { (place, finding.await.ok()) }
        });
        self.under_way();
        if let Some(here) = self.here() {
            here.locating += 1;
        }
        self.when(join_all(looking), ctx, move |found, this, ctx| {
            let now = this.house.now();
            if let Some(here) = this.here() {
                here.locating = here.locating.saturating_sub(1);
            }
            for contact in all(&mut chosen) {
                if let Some(located) = contact.wants(&house).and_then(|place| of(&found, place)) {
                    contact.found(&house, located, now.at);
                }
            }
            then(this, Reachable(chosen), now, ctx);
            this.done(ctx);
        });
    }
}

fn all(chosen: &mut [Chosen]) -> impl Iterator<Item = &mut Contact> {
    chosen.iter_mut().flat_map(|each| std::iter::once(&mut each.contact).chain(&mut each.spare))
}

fn of<'a>(found: &'a [(Place, Option<Arc<Located>>)], place: &Place) -> Option<&'a Located> {
    let (_, located) = found.iter().find(|(known, _)| known == place)?;
    located.as_deref()
}

#[cfg(test)]
#[path = "locating_tests.rs"]
mod tests;
