//! An invitation that has come: rings, is accepted or refused (RFC 3261 §13.3).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sdp::{Offer, Role, Setup, role_to_answer};
use sip::{Dialog, Message, Name, Reply};
use tokio::sync::mpsc;

use crate::calls::{ALLOW, Calls, Standing};
use crate::error::ClientError;
use crate::held::{Call, establish, read_answer};
use crate::link::{Invitation, Link};
use crate::media::Side;
use crate::pager::lossy;
use crate::session::{Session, SessionOptions, Theirs};
use crate::word::{Teller, Word};

/// Somebody wants to talk. Who drops it refuses it with 480.
pub struct IncomingCall {
    from: String,
    display: Option<String>,
    subject: Option<String>,
    /// Nothing where the caller leaves the offer to us.
    offer: Option<Offer>,
    request: Message,
    tag: String,
    link: Link,
    key: u64,
    tell: Teller,
    told: Option<mpsc::UnboundedReceiver<Word>>,
    calls: Arc<Calls>,
    is_answered: bool,
}

impl IncomingCall {
    /// Nothing where the link ends just now, or the caller has no address.
    pub(crate) fn new(
        request: Message,
        offer: Option<Offer>,
        tag: String,
        invitation: Invitation,
        calls: Arc<Calls>,
    ) -> Option<Self> {
        let Invitation { key, link, tell, told } = invitation;
        let from = request.view().from().ok()?;
        let (uri, display) = (lossy(from.uri), lossy(from.display));
        let display = display.trim_matches('"').to_owned();
        Some(Self {
            from: uri,
            display: (!display.is_empty()).then_some(display),
            subject: request.view().first(Name::Subject).map(lossy),
            offer,
            tag,
            link: link?,
            key,
            tell,
            told: Some(told),
            calls,
            is_answered: false,
            request,
        })
    }

    /// The caller's URI.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// What the caller is called.
    pub fn display(&self) -> Option<&str> {
        self.display.as_deref()
    }

    /// What it is about.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The media types that the caller takes, as far as it has said.
    pub fn accept_types(&self) -> impl Iterator<Item = &str> {
        self.offer.iter().flat_map(|offer| offer.message().accept_types().iter())
    }

    /// Tells the caller that somebody is being asked (180).
    pub async fn ring(&self) {
        let bytes = self.reply(180, &self.contact().await, b"");
        self.link.answer(self.key, 180, bytes).await;
    }

    /// Waits until the caller takes the invitation back.
    pub async fn taken_back(&mut self) {
        let Some(told) = &mut self.told else { return };
        while !matches!(told.recv().await, Some(Word::Cancelled) | None) {}
    }

    /// Refuses it with a status of 300 or more, 486 or 603 as a rule.
    pub async fn refuse(mut self, status: u16) {
        self.is_answered = true;
        let status = if (300..700).contains(&status) { status } else { 480 };
        let bytes = self.reply(status, "", b"");
        self.link.answer(self.key, status, bytes).await;
    }

    /// Takes it, and opens the connection ourselves where the caller leaves that to us.
    ///
    /// # Errors
    /// The caller has gone, or no connection comes about.
    pub async fn accept(self) -> Result<Session, ClientError> {
        let options = SessionOptions { setup: self.setup(), ..SessionOptions::default() };
        self.accept_with(options).await
    }

    /// Who opens the connection, as [`IncomingCall::accept`] has it.
    pub fn setup(&self) -> Setup {
        // RFC 6135 §4.2.2: who can be reached offers both.
        if self.offer.is_some() { Setup::Active } else { Setup::ActPass }
    }

    /// Takes it with options of one's own.
    ///
    /// # Errors
    /// As [`IncomingCall::accept`].
    pub async fn accept_with(mut self, options: SessionOptions) -> Result<Session, ClientError> {
        let local = self.link.up().await?;
        // Who says Active cannot be connected to, and is not: RFC 6135 §4.2.2.
        let role = self.offer.as_ref().map(|offer| role_to_answer(offer.setup(), options.setup != Setup::Active));
        let setup = match role {
            Some(Role::Active) => Setup::Active,
            Some(Role::Passive) => Setup::Passive,
            None => options.setup,
        };
        let mut side = Side::new(local.ip(), self.calls.account.local, setup, &self.calls.ids).await?;
        let agreed = self.offer.as_ref().zip(role).map(|(offer, role)| (Theirs::of(offer.message()), role));
        let sdp = match (&self.offer, role) {
            (Some(offer), Some(role)) => side.answer(offer, role, &options),
            _ => side.offer(&options),
        };
        let contact = self.calls.contact(&self.link, local);
        let no_dialog =
            |_| ClientError::Nonsense { server: self.calls.account.server, fault: "an INVITE without Contact" };
        let dialog = Dialog::of_request(self.request.view(), &self.tag).map_err(no_dialog)?;
        let (tell, tag) = (self.tell.clone(), self.tag.clone());
        let (offers_in, offers) = mpsc::channel(1);
        self.calls.stand(Standing { dialog, contact: contact.clone(), tell, offers: offers_in });
        self.is_answered = true;
        let lines = format!("{contact}{ALLOW}Content-Type: application/sdp\r\n");
        let bytes = self.reply(200, &lines, &sdp);
        self.link.answer(self.key, 200, bytes).await;
        let Some(told) = self.told.take() else { return Err(self.given_up()) };
        let mut call = Call {
            calls: self.calls.clone(),
            link: self.link.clone(),
            tag,
            told,
            offers,
            number: None,
            peer: self.from.clone(),
            is_acknowledged: false,
        };
        let agreed = match agreed {
            Some(agreed) => Ok(agreed),
            // RFC 3261 §13.2.1: the offer is in our 2xx, and the answer in its ACK.
            None => call.wait_for_answer().await.and_then(|answer| read_answer(&answer)),
        };
        match agreed {
            Ok((theirs, role)) => establish(call, side, role, theirs, options).await,
            Err(reason) => Err(call.give_up(reason).await),
        }
    }

    fn given_up(&self) -> ClientError {
        ClientError::TakenBack { from: self.from.clone() }
    }

    async fn contact(&self) -> String {
        self.link.up().await.map(|local| self.calls.contact(&self.link, local)).unwrap_or_default()
    }

    fn reply(&self, status: u16, lines: &str, body: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(1_024);
        let mut lines = lines.as_bytes().to_vec();
        // RFC 3261 §12.1.1: the route of the dialog goes back as it came.
        if (101..300).contains(&status) {
            let request = self.request.view();
            for field in request.fields().iter().filter(|field| field.name == Name::RecordRoute) {
                lines.extend_from_slice(request.at(field.line));
            }
        }
        let source = Some(self.calls.account.server);
        let reply = Reply { status, to_tag: &self.tag, source, lines: &lines, body, ..Reply::default() };
        sip::reply(&mut out, self.request.view(), &reply);
        out.into()
    }
}

impl Drop for IncomingCall {
    fn drop(&mut self) {
        if !self.is_answered {
            let bytes = self.reply(480, "", b"");
            self.link.answer_now(self.key, 480, bytes);
        }
    }
}

impl fmt::Debug for IncomingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingCall").field("from", &self.from).finish_non_exhaustive()
    }
}
