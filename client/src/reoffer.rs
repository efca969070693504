//! A new offer within a session (re-INVITE, RFC 3261 §14.2): accepted, or refused, and then all stays as it was.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use sdp::Offer;
use sip::{Message, Reply};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::link::{Invitation, Link};
use crate::word::Word;

/// One that is not answered yet. Who drops it has no session any more: 481.
pub(crate) struct Reoffer {
    request: Message,
    offer: Option<Offer>,
    tag: String,
    server: SocketAddr,
    link: Link,
    key: u64,
    told: Option<UnboundedReceiver<Word>>,
}

impl Reoffer {
    /// Nothing where the link ends just now. Without an offer the peer wants one of ours (RFC 3261 §14.2). `tag` is ours
    /// in the dialog.
    pub(crate) fn new(
        request: Message,
        offer: Option<Offer>,
        tag: String,
        server: SocketAddr,
        invitation: Invitation,
    ) -> Option<Self> {
        let Invitation { key, link, told, .. } = invitation;
        Some(Self { request, offer, tag, server, link: link?, key, told: Some(told) })
    }

    /// The request.
    pub(crate) fn request(&self) -> &Message {
        &self.request
    }

    /// What is offered.
    pub(crate) fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    /// Answers 200 with a description and these header lines. Gives where the ACK is told of.
    pub(crate) async fn accept(mut self, lines: &str, sdp: &[u8]) -> Option<UnboundedReceiver<Word>> {
        let told = self.told.take();
        let bytes = self.reply(200, &format!("{lines}Content-Type: application/sdp\r\n"), sdp);
        self.link.answer(self.key, 200, bytes).await;
        told
    }

    /// Refuses it.
    pub(crate) async fn refuse(mut self, status: u16, lines: &str) {
        self.told = None;
        let bytes = self.reply(status, lines, b"");
        self.link.answer(self.key, status, bytes).await;
    }

    fn reply(&self, status: u16, lines: &str, body: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(1_024);
        let (source, lines) = (Some(self.server), lines.as_bytes());
        sip::reply(
            &mut out,
            self.request.view(),
            &Reply { status, to_tag: &self.tag, source, lines, body, ..Reply::default() },
        );
        out.into()
    }
}

impl Drop for Reoffer {
    fn drop(&mut self) {
        if self.told.is_some() {
            self.link.answer_now(self.key, 481, self.reply(481, "", b""));
        }
    }
}

impl fmt::Debug for Reoffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reoffer").finish_non_exhaustive()
    }
}
