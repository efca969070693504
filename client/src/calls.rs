//! The dialogs that stand (RFC 3261 §12), by our tags: what comes within them finds its session here, and what we say
//! within them is written here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::IdMaker;
use base::limits::MAX_FORWARDS;
use sdp::Offer;
use sip::dialog::Within;
use sip::{Dialog, Message, Method, Name, View};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;

use crate::account::{Account, Tap, Transport};
use crate::error::ClientError;
use crate::link::{Invitation, Link};
use crate::login::{Login, Verdict};
use crate::pager::lossy;
use crate::reoffer::Reoffer;
use crate::word::{Teller, Word};

/// What we can do (RFC 3261 §11.2).
pub(crate) const ALLOW: &str = "Allow: INVITE, ACK, BYE, CANCEL, MESSAGE, OPTIONS\r\n";
/// Attempts at one BYE, with each new nonce one.
const ATTEMPTS: usize = 3;

/// Everything that the sessions of a client share.
pub(crate) struct Calls {
    pub account: Account,
    pub login: Arc<Login>,
    pub ids: IdMaker,
    pub tap: Option<Tap>,
    standing: Mutex<HashMap<String, Standing>>,
    count: watch::Sender<usize>,
}

/// One dialog.
pub(crate) struct Standing {
    pub dialog: Dialog,
    /// Our Contact line.
    pub contact: String,
    pub tell: Teller,
    /// Where new offers go; one at a time.
    pub offers: mpsc::Sender<Reoffer>,
}

impl Calls {
    pub(crate) fn new(account: Account, login: Arc<Login>, ids: IdMaker, tap: Option<Tap>) -> Self {
        Self { account, login, ids, tap, standing: Mutex::default(), count: watch::Sender::new(0) }
    }

    /// A dialog begins.
    pub(crate) fn stand(&self, standing: Standing) {
        let mut all = self.lock();
        all.insert(standing.dialog.local_tag().to_owned(), standing);
        self.count.send_replace(all.len());
    }

    /// A dialog is over. `false`: it was already.
    pub(crate) fn fall(&self, tag: &str) -> bool {
        let mut all = self.lock();
        let stood = all.remove(tag).is_some();
        self.count.send_replace(all.len());
        stood
    }

    /// The peer's BYE: the status and reason phrase that it is answered.
    pub(crate) fn hung_up(&self, request: View<'_>) -> (u16, &'static str) {
        let tag = match self.within(request, |standing| standing.dialog.local_tag().to_owned()) {
            Ok(tag) => tag,
            Err(fault) => return fault,
        };
        let reason = request.first(Name::Reason).map(lossy);
        if let Some(standing) = self.lock().remove(&tag) {
            // A session that ends just now does not listen any more; so in the next.
            let _ = standing.tell.send(Word::HungUp(reason));
        }
        let left = self.lock().len();
        self.count.send_replace(left);
        (200, "")
    }

    /// A new offer of the peer's within a dialog goes to who holds that, and is answered there.
    ///
    /// # Errors
    /// The status, reason phrase and header lines that it is answered instead.
    pub(crate) fn offered(
        &self,
        request: View<'_>,
        offer: Option<Offer>,
        invitation: Invitation,
    ) -> Result<(), (u16, &'static str, String)> {
        let found = self.within(request, |one| (one.offers.clone(), one.dialog.local_tag().to_owned()));
        let (offers, tag) = found.map_err(|(status, reason)| (status, reason, String::new()))?;
        // RFC 3261 §14.2: the one before is not answered yet.
        let place = offers.try_reserve().map_err(|fault| match fault {
            TrySendError::Full(()) => (500, "One At A Time", self.retry_after()),
            TrySendError::Closed(()) => (481, "", String::new()),
        })?;
        let copy = Message::copy_of(request);
        match Reoffer::new(copy, offer, tag, self.account.server, invitation) {
            Some(reoffer) => place.send(reoffer),
            None => return Err((480, "", String::new())),
        }
        Ok(())
    }

    /// RFC 3261 §14.2: somewhere between 0 and 10 seconds.
    pub(crate) fn retry_after(&self) -> String {
        format!("Retry-After: {}\r\n", self.ids.next_u64() % 11)
    }

    /// A re-INVITE is accepted: takes its Contact (RFC 3261 §12.2.2) and gives the header lines of our 200. Nothing where
    /// the dialog is over.
    pub(crate) fn accepts(&self, tag: &str, request: View<'_>) -> Option<String> {
        let mut all = self.lock();
        let standing = all.get_mut(tag)?;
        standing.dialog.refresh(request);
        Some(format!("{}{ALLOW}", standing.contact))
    }

    fn within<T>(&self, request: View<'_>, then: impl FnOnce(&mut Standing) -> T) -> Result<T, (u16, &'static str)> {
        let tag = request.to().ok().and_then(|to| to.tag()).map(lossy).unwrap_or_default();
        let mut all = self.lock();
        let Some(standing) = all.get_mut(&tag).filter(|standing| standing.dialog.matches(request)) else {
            return Err((481, ""));
        };
        standing.dialog.receive(request).map_err(|fault| (fault.status, fault.reason))?;
        Ok(then(standing))
    }

    /// Acknowledges the 2xx to our INVITE of this number (RFC 3261 §13.2.2.4).
    pub(crate) async fn acknowledge(&self, link: &Link, tag: &str, number: u32) {
        let Ok(local) = link.up().await else { return };
        let (via, _) = self.via(link, local);
        let mut out = Vec::with_capacity(512);
        match self.lock().get(tag) {
            Some(standing) => standing.dialog.acknowledge(&mut out, number, &via),
            None => return,
        }
        link.send(out.into()).await;
    }

    /// Sends a BYE and waits for its answer; whatever that is, the dialog is over (RFC 3261 §15.1.1).
    pub(crate) async fn hang_up(&self, link: &Link, tag: &str, lines: &str) -> Result<u16, ClientError> {
        let status = self.attempts(link, tag, lines).await;
        self.fall(tag);
        status
    }

    async fn attempts(&self, link: &Link, tag: &str, lines: &str) -> Result<u16, ClientError> {
        let mut status = 481;
        for attempt in 0..ATTEMPTS {
            let local = link.up().await?;
            let (via, branch) = self.via(link, local);
            let mut wire = Vec::with_capacity(768);
            let tried = {
                let mut all = self.lock();
                let Some(standing) = all.get_mut(tag) else { return Ok(status) };
                let mut lines = lines.as_bytes().to_vec();
                let target = standing.dialog.target().to_owned();
                let tried = self.login.write(&mut lines, b"BYE", &target, &self.ids);
                let (max_forwards, body) = (MAX_FORWARDS, &b""[..]);
                let within = Within { method: "BYE", via: &via, max_forwards, lines: &lines, body };
                standing.dialog.request(&mut wire, &within);
                tried
            };
            let response = link.request(wire.into(), branch, Method::Bye).await?;
            status = response.view().status();
            let is_challenge = matches!(status, 401 | 407);
            if !is_challenge || self.login.challenged(response.view(), &tried, attempt > 0) != Verdict::TryAgain {
                break;
            }
        }
        Ok(status)
    }

    /// Tells all sessions that the client leaves, and waits until they have hung up.
    pub(crate) async fn leave(&self) {
        for standing in self.lock().values() {
            let _ = standing.tell.send(Word::Leave);
        }
        // The sender lives as long as `self`: this cannot fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Our Contact line on a link.
    pub(crate) fn contact(&self, link: &Link, local: SocketAddr) -> String {
        let transport = if link.transport == Transport::Tcp { ";transport=tcp" } else { "" };
        format!("Contact: <sip:{}@{local}{transport}>;+g.oma.sip-im\r\n", self.account.aor.user())
    }

    /// The value of our Via, and its branch.
    fn via(&self, link: &Link, local: SocketAddr) -> (String, String) {
        let branch = format!("z9hG4bK{}", self.ids.tag());
        (format!("SIP/2.0/{} {local};rport;branch={branch}", link.transport.via()), branch)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
