//! Inviting somebody to a session (RFC 3261 §13.2): INVITE, ACK, and CANCEL where nobody waits any more.

use std::sync::Arc;
use std::time::Duration;

use base::Aor;
use base::limits::DATAGRAM_REQUEST_BYTES_MAX;
use bytes::Bytes;
use sip::{Dialog, Message, Method};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::{ATTEMPTS, Draft, Shared, check_text};
use crate::account::Transport;
use crate::calls::{ALLOW, Standing};
use crate::error::ClientError;
use crate::held::{Call, establish, read_answer};
use crate::link::Link;
use crate::login::{Tried, Verdict};
use crate::media::Side;
use crate::pager::lossy;
use crate::session::{Session, SessionOptions};
use crate::word::{Teller, Word};

/// Who waits for the session.
pub(super) type Asker = oneshot::Sender<Result<Session, ClientError>>;

/// An INVITE that has left.
struct Asked {
    invite: Message,
    branch: String,
    link: Link,
    contact: String,
    tried: Tried,
}

/// Invites, and tells who asked. Who does not wait any more takes the invitation back.
pub(super) async fn invite(shared: Arc<Shared>, to: Aor, options: SessionOptions, mut asker: Asker) {
    let outcome = shared.call(&to, &options, &mut asker).await;
    // A session that nobody takes hangs up as it is dropped.
    let _ = asker.send(outcome);
}

impl Shared {
    async fn call(&self, to: &Aor, options: &SessionOptions, asker: &mut Asker) -> Result<Session, ClientError> {
        check_text("the subject", &options.subject)?;
        check_text("the list of types", &options.accept_types)?;
        self.check_quiet()?;
        let local = self.link.up().await?;
        let mut side = Side::new(local.ip(), self.account.local, options.setup, &self.ids).await?;
        let sdp = side.offer(options);
        let (call_id, tag, mut cseq) = (self.ids.token(), self.ids.tag(), 0);
        let (tell, mut told) = mpsc::unbounded_channel();
        let deadline = Instant::now() + options.ring;
        let mut attempt = 0;
        let (asked, response) = loop {
            attempt += 1;
            cseq += 1;
            let draft = Draft {
                method: Method::Invite,
                uri: to.as_str(),
                to: &format!("<{to}>"),
                from_tag: &tag,
                call_id: &call_id,
                cseq: &mut cseq,
                lines: &subject_line(&options.subject),
                body: &sdp,
            };
            let asked = self.ask(&draft, &tell).await?;
            let response = self.final_answer(&asked, &mut told, deadline, asker).await?;
            let view = response.view();
            match view.status() {
                401 | 407 => match self.login.challenged(view, &asked.tried, attempt > 1) {
                    Verdict::TryAgain if attempt < ATTEMPTS => continue,
                    Verdict::TryAgain => {}
                    Verdict::Unknown => {
                        return Err(ClientError::Challenge { server: self.account.server, status: view.status() });
                    }
                    Verdict::Refused { realm } => {
                        let (server, user) = (self.account.server, self.account.user.clone());
                        return Err(ClientError::Password { server, user, realm, status: view.status() });
                    }
                },
                200..300 => break (asked, response),
                _ => {}
            }
            let (status, reason) = (view.status(), lossy(view.reason()));
            return Err(ClientError::Declined { to: to.to_string(), status, reason });
        };
        let nonsense = |fault| ClientError::Nonsense { server: self.account.server, fault };
        let dialog = Dialog::of_response(asked.invite.view(), response.view())
            .map_err(|_| nonsense("a 2xx to INVITE that makes no dialog"))?;
        let (offers_in, offers) = mpsc::channel(1);
        self.calls.stand(Standing { dialog, contact: asked.contact, tell, offers: offers_in });
        self.calls.acknowledge(&asked.link, &tag, cseq).await;
        let (calls, link, peer) = (self.calls.clone(), asked.link, to.to_string());
        let mut call = Call { calls, link, tag, told, offers, number: Some(cseq), peer, is_acknowledged: true };
        // It was taken while we took it back.
        if asker.is_closed() || Instant::now() >= deadline {
            return Err(call.give_up("it was answered too late".to_owned()).await);
        }
        match read_answer(response.view().body()) {
            Ok((theirs, role)) => establish(call, side, role, theirs, options.clone()).await,
            Err(reason) => Err(call.give_up(reason).await),
        }
    }

    /// Sends one INVITE; by TCP where it is too large for a datagram (RFC 3261 §18.1.1).
    async fn ask(&self, draft: &Draft<'_>, tell: &Teller) -> Result<Asked, ClientError> {
        if self.closed.load(std::sync::atomic::Ordering::Acquire) {
            return Err(ClientError::Closed);
        }
        let (mut wire, mut asked) = self.ask_by(&self.link, draft).await?;
        if wire.len() > DATAGRAM_REQUEST_BYTES_MAX
            && self.account.transport == Transport::Udp
            && self.large_link().up().await.is_ok()
        {
            (wire, asked) = self.ask_by(self.large_link(), draft).await?;
        }
        asked.link.invite(wire, asked.branch.clone(), tell.clone()).await?;
        Ok(asked)
    }

    async fn ask_by(&self, link: &Link, draft: &Draft<'_>) -> Result<(Bytes, Asked), ClientError> {
        let local = link.up().await?;
        let contact = self.calls.contact(link, local);
        let mut lines = format!("{contact}{ALLOW}Accept-Contact: *;+g.oma.sip-im\r\n{}", draft.lines).into_bytes();
        lines.extend_from_slice(b"Content-Type: application/sdp\r\n");
        self.common_lines(&mut lines);
        let tried = self.login.write(&mut lines, b"INVITE", draft.uri, &self.ids);
        let (wire, branch) = self.write(draft, &lines, link, local);
        let nonsense = |_| ClientError::Text { what: "the invitation" };
        let invite = Message::parse(wire.clone()).map_err(nonsense)?;
        Ok((wire, Asked { invite, branch, link: link.clone(), contact, tried }))
    }

    /// Waits for the final answer. Past the deadline, or when nobody waits, the invitation is taken back; it may be
    /// answered nevertheless.
    async fn final_answer(
        &self,
        asked: &Asked,
        told: &mut mpsc::UnboundedReceiver<Word>,
        deadline: Instant,
        asker: &mut Asker,
    ) -> Result<Message, ClientError> {
        let started = Instant::now();
        let mut is_taken_back = false;
        loop {
            let word = tokio::select! {
                word = told.recv() => word,
                () = sleep_until(deadline), if !is_taken_back => None,
                () = asker.closed(), if !is_taken_back => None,
            };
            match word {
                Some(Word::Response(response)) if response.view().status() >= 200 => {
                    let was_cancelled = is_taken_back && response.view().status() == 487;
                    let waited: Duration = started.elapsed();
                    let to = lossy(asked.invite.view().request_uri());
                    return if was_cancelled { Err(ClientError::Unanswered { to, waited }) } else { Ok(response) };
                }
                Some(Word::Failed(error)) => return Err(error),
                Some(_) => {}
                None if is_taken_back => return Err(ClientError::Closed),
                None => {
                    is_taken_back = true;
                    asked.link.cancel(asked.branch.clone()).await;
                }
            }
        }
    }
}

fn subject_line(subject: &str) -> String {
    if subject.is_empty() { String::new() } else { format!("Subject: {subject}\r\n") }
}
