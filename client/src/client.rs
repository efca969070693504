//! The user agent: a handle that many may hold, around one account and its link.

mod calling;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use base::limits::{DATAGRAM_REQUEST_BYTES_MAX, MAX_FORWARDS, SIP_MESSAGE_BYTES_MAX};
use base::{Aor, IdMaker, KeyedHash, Now};
use bytes::Bytes;
use sip::{Message, Method, Name};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::account::{Account, Answer, Options, Transport};
use crate::calls::Calls;
use crate::error::ClientError;
use crate::inbound::{Event, Responder};
use crate::link::{Link, Settings};
use crate::login::{Login, Tried, Verdict};
use crate::owed::{Debts, Owed, Owing};
use crate::pager::{Incoming, Outgoing, Sent, lossy};
use crate::registration::{self, Binding, Registrar};
use crate::session::{Session, SessionOptions};
use crate::turns::Turns;

/// Events that wait for the reader; then messages are answered 480, and all else is lost.
const EVENTS: usize = 1_024;
/// Notifications under way at once.
const OWED_AT_ONCE: usize = 32;
/// One attempt, and one more for each new nonce: a server that finds every nonce stale is left alone.
const ATTEMPTS: usize = 4;
/// The first and the longest pause before a lost registration is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a client that leaves waits for its last notifications to be answered, and then for the server to take its
/// binding back.
const FAREWELL: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("User-Agent: parlour-client/", env!("CARGO_PKG_VERSION"), "\r\n");

/// A user agent. Clones are the same one.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What comes in, in order. Dropping it says that nobody reads: messages are then answered 480.
#[derive(Debug)]
pub struct Inbox {
    events: mpsc::Receiver<Event>,
}

impl Inbox {
    /// Waits for the next event; `None` when the client is gone.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Waits for the next message and passes over all else.
    pub async fn message(&mut self) -> Option<Incoming> {
        loop {
            if let Event::Message(message) = self.recv().await? {
                return Some(*message);
            }
        }
    }

    /// The next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

struct Shared {
    account: Account,
    options: Options,
    ids: IdMaker,
    login: Arc<Login>,
    calls: Arc<Calls>,
    settings: Settings,
    responder: Responder,
    link: Link,
    /// For requests that are too large for a datagram; opened when the first is.
    large: OnceLock<Link>,
    turns: Turns,
    answer: Arc<Mutex<Answer>>,
    events: mpsc::Sender<Event>,
    debts: Debts,
    registrar: tokio::sync::Mutex<Registrar>,
    /// Route lines that the registrar named.
    route: Mutex<String>,
    /// Nothing is sent before, by the server's wish.
    quiet_until: Mutex<Option<Instant>>,
    keeper: Mutex<Option<tokio::task::AbortHandle>>,
    closed: std::sync::atomic::AtomicBool,
}

/// What a request is made from; everything else is the same for all.
struct Draft<'a> {
    method: Method,
    uri: &'a str,
    to: &'a str,
    from_tag: &'a str,
    call_id: &'a str,
    cseq: &'a mut u32,
    lines: &'a str,
    body: &'a [u8],
}

impl Client {
    /// Opens the link to the account's server; by UDP that sends nothing. Nobody is registered yet.
    pub async fn connect(account: Account, options: Options) -> Result<(Self, Inbox), ClientError> {
        let ids = IdMaker::from_os().map_err(|error| std::io::Error::other(error.to_string()))?;
        let (events, inbox) = mpsc::channel(EVENTS);
        let (debts, owing) = Debts::new();
        let answer = Arc::new(Mutex::new(options.answer));
        let login = Arc::new(Login::new(&account));
        let own_ids = IdMaker::new(ids.key());
        let calls = Arc::new(Calls::new(account.clone(), login.clone(), own_ids, options.msrp_tap.clone()));
        let responder = Responder::new(
            &options,
            calls.clone(),
            events.clone(),
            debts.clone(),
            answer.clone(),
            KeyedHash::new(ids.key()),
            account.server,
        );
        let settings = Settings {
            server: account.server,
            transport: account.transport,
            local: account.local,
            ping: options.ping,
            timers: options.timers,
            refusal_is_final: options.refusal_is_final,
            hash: KeyedHash::new(ids.key()),
            tap: options.tap.clone(),
        };
        let link = Link::start(settings.clone(), Box::new(responder.clone()));
        link.up().await?;
        let registrar = Registrar { call_id: ids.token(), tag: ids.tag(), cseq: 0, bound: None };
        let shared = Arc::new(Shared {
            login,
            calls,
            account,
            options,
            ids,
            settings,
            responder,
            link,
            large: OnceLock::new(),
            turns: Turns::default(),
            answer,
            events,
            debts,
            registrar: registrar.into(),
            route: Mutex::default(),
            quiet_until: Mutex::default(),
            keeper: Mutex::default(),
            closed: false.into(),
        });
        tokio::spawn(pay(Arc::downgrade(&shared), owing));
        Ok((Self { shared }, Inbox { events: inbox }))
    }

    /// Who this is.
    pub fn aor(&self) -> &Aor {
        &self.shared.account.aor
    }

    /// Registers, and keeps the binding alive until [`Client::close`]: refreshed before it ends, tried again with
    /// growing pauses when it is lost.
    pub async fn register(&self) -> Result<Binding, ClientError> {
        let binding = self.shared.bind().await?;
        let keeping = tokio::spawn(keep(Arc::downgrade(&self.shared), self.shared.link.watch(), binding.expires));
        if let Some(before) = lock(&self.shared.keeper).replace(keeping.abort_handle()) {
            before.abort();
        }
        Ok(binding)
    }

    /// Takes the binding back and stops keeping it. Says whether there was one.
    pub async fn unregister(&self) -> Result<bool, ClientError> {
        self.shared.stop_keeping();
        self.shared.unbind().await
    }

    /// Sends a message and waits for its final answer. Messages to one destination go one after the other (RFC 3428
    /// §8), in the order of these calls, even if the futures are polled in another order.
    pub fn message(
        &self,
        to: &Aor,
        outgoing: Outgoing,
    ) -> impl Future<Output = Result<Sent, ClientError>> + Send + 'static + use<> {
        let (shared, to) = (self.shared.clone(), to.clone());
        let mut turn = shared.turns.take(to.as_str());
        async move {
            turn.come().await;
            shared.send(&to, &outgoing).await
        }
    }

    /// Invites somebody to a session and waits until both can talk. Dropping the future takes the invitation back.
    ///
    /// # Errors
    /// [`ClientError::Declined`] with the final status; nobody answered; no connection came about.
    pub fn invite(
        &self,
        to: &Aor,
        options: SessionOptions,
    ) -> impl Future<Output = Result<Session, ClientError>> + Send + 'static + use<> {
        let (shared, to) = (self.shared.clone(), to.clone());
        async move {
            let (asker, asked) = oneshot::channel();
            tokio::spawn(calling::invite(shared, to, options, asker));
            asked.await.unwrap_or(Err(ClientError::Closed))
        }
    }

    /// Tells the sender that this message was shown, if asked to (RFC 5438 §7.2.1.2) and if the options allow it.
    pub fn displayed(&self, message: &Incoming) {
        if self.shared.options.receipts
            && let Some(owed) = Owed::of(message, Owing::Displayed)
        {
            self.shared.debts.owe(owed);
        }
    }

    /// Asks the server, or whoever `uri` names, what it can do (RFC 3261 §11). Gives the final status.
    pub async fn options(&self, uri: &str) -> Result<u16, ClientError> {
        check_text("the URI", uri)?;
        let (call_id, tag) = (self.shared.ids.token(), self.shared.ids.tag());
        let to = format!("<{uri}>");
        let draft = Draft {
            method: Method::Options,
            uri,
            to: &to,
            from_tag: &tag,
            call_id: &call_id,
            cseq: &mut 0,
            lines: "Accept: text/plain, message/cpim\r\n",
            body: b"",
        };
        Ok(self.shared.exchange(draft).await?.view().status())
    }

    /// What messages are answered from now on.
    pub fn answer_with(&self, answer: Answer) {
        *lock(&self.shared.answer) = answer;
    }

    /// Hangs up, sends the notifications that are still owed, takes the binding back, if there is one, and ends the client
    /// for all its handles. Says whether there was one. Takes 15 s at most.
    pub async fn close(&self) -> Result<bool, ClientError> {
        self.shared.stop_keeping();
        if tokio::time::timeout(FAREWELL, self.shared.calls.leave()).await.is_err() {
            tracing::debug!("Sessions are left without BYE");
        }
        if tokio::time::timeout(FAREWELL, self.shared.debts.settled()).await.is_err() {
            tracing::debug!("Notifications are left unsent");
        }
        let unbound = match tokio::time::timeout(FAREWELL, self.shared.unbind()).await {
            Ok(unbound) => unbound,
            Err(_) => Err(self.shared.silent(FAREWELL)),
        };
        self.leave().await;
        unbound
    }

    /// Ends the client for all its handles and leaves the binding as it is.
    pub async fn leave(&self) {
        self.shared.stop_keeping();
        self.shared.closed.store(true, std::sync::atomic::Ordering::Release);
        self.shared.link.end().await;
        if let Some(large) = self.shared.large.get() {
            large.end().await;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop_keeping();
    }
}

impl Shared {
    async fn bind(&self) -> Result<Binding, ClientError> {
        let mut registrar = self.registrar.lock().await;
        let mut asked = self.account.expires;
        let mut answer = self.register(&mut registrar, asked).await?;
        // RFC 3261 §10.2.8: too brief; once more with what the registrar asks for.
        if answer.0.view().status() == 423
            && let Some(least) = registration::least(answer.0.view())
        {
            asked = least;
            answer = self.register(&mut registrar, asked).await?;
        }
        let (response, contact) = answer;
        let response = response.view();
        if !(200..300).contains(&response.status()) {
            return Err(self.refused(response.status(), response.reason()));
        }
        let expires = registration::granted(response, &contact, asked);
        *lock(&self.route) = registration::route_lines(response);
        let binding = Binding { contact, expires };
        registrar.bound = Some(binding.clone());
        Ok(binding)
    }

    async fn unbind(&self) -> Result<bool, ClientError> {
        let mut registrar = self.registrar.lock().await;
        if registrar.bound.is_none() {
            return Ok(false);
        }
        let (response, _) = self.register(&mut registrar, Duration::ZERO).await?;
        registrar.bound = None;
        let response = response.view();
        if (200..300).contains(&response.status()) {
            Ok(true)
        } else {
            Err(self.refused(response.status(), response.reason()))
        }
    }

    /// One REGISTER; gives the final answer and the contact that was registered.
    async fn register(&self, registrar: &mut Registrar, expires: Duration) -> Result<(Message, String), ClientError> {
        let local = self.link.up().await?;
        let before = registrar.bound.as_ref().map(|bound| bound.contact.clone());
        // Zero takes back what was registered, even if the address has changed since.
        let again = before.clone().filter(|_| expires.is_zero());
        let contact = again.unwrap_or_else(|| registration::contact_uri(&self.account, local));
        let lines = registration::register_lines(&self.account, &contact, before.as_deref(), expires);
        // RFC 3261 §10.2: the Request-URI names the domain, To the address of record.
        let uri = format!("sip:{}", self.account.aor.domain());
        let draft = Draft {
            method: Method::Register,
            uri: &uri,
            to: &format!("<{}>", self.account.aor),
            from_tag: &registrar.tag,
            call_id: &registrar.call_id,
            cseq: &mut registrar.cseq,
            lines: &lines,
            body: b"",
        };
        Ok((self.exchange(draft).await?, contact))
    }

    async fn send(&self, to: &Aor, outgoing: &Outgoing) -> Result<Sent, ClientError> {
        check_text("the content type", outgoing.content_type())?;
        let now = Now::read();
        let (content_type, body, message_id) = outgoing.write(&self.account, to, self.ids.token(), now);
        let (call_id, tag, mut cseq) = (self.ids.token(), self.ids.tag(), 0);
        let lines = format!("{}Content-Type: {content_type}\r\n", outgoing.time_lines(now));
        let draft = Draft {
            method: Method::Message,
            uri: to.as_str(),
            to: &format!("<{to}>"),
            from_tag: &tag,
            call_id: &call_id,
            cseq: &mut cseq,
            lines: &lines,
            body: &body,
        };
        let response = self.exchange(draft).await?;
        let response = response.view();
        let retry_after_s = retry_after(response);
        Ok(Sent {
            status: response.status(),
            reason: lossy(response.reason()),
            call_id,
            cseq,
            message_id,
            retry_after_s,
        })
    }

    /// Sends a request until it has a final answer that is no challenge.
    async fn exchange(&self, draft: Draft<'_>) -> Result<Message, ClientError> {
        let patience = self.options.patience;
        match tokio::time::timeout(patience, self.attempts(draft)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent(patience)),
        }
    }

    async fn attempts(&self, draft: Draft<'_>) -> Result<Message, ClientError> {
        self.check_quiet()?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            // RFC 3261 §22.2: the same Call-ID, To and From, and the next CSeq.
            *draft.cseq += 1;
            let (response, tried) = self.attempt(&draft).await?;
            let view = response.view();
            match view.status() {
                401 | 407 => match self.login.challenged(view, &tried, attempt > 1) {
                    Verdict::TryAgain if attempt < ATTEMPTS => {}
                    Verdict::TryAgain => return Ok(response),
                    Verdict::Unknown => {
                        return Err(ClientError::Challenge { server: self.account.server, status: view.status() });
                    }
                    Verdict::Refused { realm } => {
                        return Err(ClientError::Password {
                            server: self.account.server,
                            user: self.account.user.clone(),
                            realm,
                            status: view.status(),
                        });
                    }
                },
                503 => {
                    if let Some(seconds) = retry_after(view).filter(|_| self.options.obey_retry_after) {
                        *lock(&self.quiet_until) = Some(Instant::now() + Duration::from_secs(u64::from(seconds)));
                    }
                    return Ok(response);
                }
                _ => return Ok(response),
            }
        }
    }

    async fn attempt(&self, draft: &Draft<'_>) -> Result<(Message, Tried), ClientError> {
        if self.closed.load(std::sync::atomic::Ordering::Acquire) {
            return Err(ClientError::Closed);
        }
        let mut lines = draft.lines.as_bytes().to_vec();
        if draft.method == Method::Register {
            lines.extend_from_slice(USER_AGENT.as_bytes());
        } else {
            self.common_lines(&mut lines);
        }
        let tried = self.login.write(&mut lines, draft.method.as_str().as_bytes(), draft.uri, &self.ids);
        let local = self.link.up().await?;
        let (wire, branch) = self.write(draft, &lines, &self.link, local);
        if wire.len() > SIP_MESSAGE_BYTES_MAX {
            return Err(ClientError::TooLarge { bytes: wire.len(), max: SIP_MESSAGE_BYTES_MAX });
        }
        // RFC 3261 §18.1.1: larger ones go by a transport that controls congestion, if the server has one.
        if self.account.transport == Transport::Udp && wire.len() > DATAGRAM_REQUEST_BYTES_MAX {
            let large = self.large_link();
            match large.up().await {
                Ok(local) => {
                    let (wire, branch) = self.write(draft, &lines, large, local);
                    return Ok((large.request(wire, branch, draft.method).await?, tried));
                }
                Err(error) => tracing::debug!(%error, "No way by TCP; the large request goes by UDP"),
            }
        }
        Ok((self.link.request(wire, branch, draft.method).await?, tried))
    }

    fn large_link(&self) -> &Link {
        self.large.get_or_init(|| {
            let settings = Settings { transport: Transport::Tcp, ..self.settings.clone() };
            Link::start(settings, Box::new(self.responder.clone()))
        })
    }

    /// What all requests outside of dialogs say, but for REGISTER: the registrar's route, and who we are.
    fn common_lines(&self, lines: &mut Vec<u8>) {
        lines.extend_from_slice(lock(&self.route).as_bytes());
        lines.extend_from_slice(USER_AGENT.as_bytes());
    }

    fn write(&self, draft: &Draft<'_>, lines: &[u8], link: &Link, local: SocketAddr) -> (Bytes, String) {
        // RFC 3261 §8.1.1.7: unique for every request, and it says that it is.
        let branch = format!("z9hG4bK{}", self.ids.tag());
        let Account { aor, display, .. } = &self.account;
        let display = if display.is_empty() { String::new() } else { format!("{} ", quoted(display)) };
        let request = sip::Request {
            method: draft.method.as_str(),
            uri: draft.uri,
            // RFC 3581 §3: the answer goes back to where this came from.
            via: &format!("SIP/2.0/{} {local};rport;branch={branch}", link.transport.via()),
            from: &format!("{display}<{aor}>;tag={}", draft.from_tag),
            to: draft.to,
            call_id: draft.call_id,
            cseq: *draft.cseq,
            max_forwards: MAX_FORWARDS,
            lines,
            body: draft.body,
        };
        let mut wire = Vec::with_capacity(512 + lines.len() + draft.body.len());
        sip::request(&mut wire, &request);
        (wire.into(), branch)
    }

    fn check_quiet(&self) -> Result<(), ClientError> {
        let left = lock(&self.quiet_until).and_then(|until| until.checked_duration_since(Instant::now()));
        match left {
            Some(left) => Err(ClientError::Overloaded { server: self.account.server, wait_s: left.as_secs() + 1 }),
            None => Ok(()),
        }
    }

    fn stop_keeping(&self) {
        if let Some(keeping) = lock(&self.keeper).take() {
            keeping.abort();
        }
    }

    fn refused(&self, status: u16, reason: &[u8]) -> ClientError {
        ClientError::Refused {
            server: self.account.server,
            aor: self.account.aor.to_string(),
            status,
            reason: lossy(reason),
        }
    }

    fn silent(&self, waited: Duration) -> ClientError {
        ClientError::Silent { server: self.account.server, transport: self.account.transport, waited }
    }

    fn tell(&self, event: Event) {
        // A reader who is that far behind has worse to worry about.
        let _ = self.events.try_send(event);
    }
}

/// Keeps a binding alive: comes again before it ends, and soon when the connection is lost.
async fn keep(shared: Weak<Shared>, mut up: tokio::sync::watch::Receiver<bool>, granted: Duration) {
    let mut due = after(registration::refresh_after(granted));
    let mut pause = RETRY.0;
    let mut lost = false;
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            changed = up.changed() => {
                if changed.is_err() {
                    return;
                }
                // Over a stream the server reaches us by the connection that registered and by no other. Not at once:
                // a server that closes every connection must not be driven in circles.
                if !*up.borrow_and_update() && !lost {
                    due = due.min(after(RETRY.0));
                }
                continue;
            }
        }
        let Some(shared) = shared.upgrade() else { return };
        match shared.bind().await {
            Ok(binding) => {
                due = after(registration::refresh_after(binding.expires));
                if std::mem::take(&mut lost) {
                    shared.tell(Event::Registered(binding));
                }
            }
            Err(ClientError::Closed) => return,
            Err(error) => {
                pause = if lost { (pause * 2).min(RETRY.1) } else { RETRY.0 };
                due = after(pause);
                if !std::mem::replace(&mut lost, true) {
                    shared.tell(Event::Lost(error));
                }
            }
        }
    }
}

fn after(wait: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + wait
}

/// Sends the notifications that are owed, a few at once.
async fn pay(shared: Weak<Shared>, mut owing: mpsc::Receiver<Owed>) {
    let mut paying = JoinSet::new();
    while let Some(owed) = owing.recv().await {
        while paying.len() >= OWED_AT_ONCE {
            let _ = paying.join_next().await;
        }
        while paying.try_join_next().is_some() {}
        let Some(shared) = shared.upgrade() else { return };
        let mut turn = shared.turns.take(owed.to.as_str());
        paying.spawn(async move {
            turn.come().await;
            let notice = owed.write(&shared.account, &shared.ids.token(), Now::read());
            if let Err(error) = shared.send(&owed.to, &notice).await {
                tracing::debug!(%error, "Notification not sent");
            }
            shared.debts.paid();
        });
    }
}

/// RFC 3261 §20.33: seconds, perhaps with a comment and parameters behind.
fn retry_after(response: sip::View<'_>) -> Option<u32> {
    let value = response.first(Name::RetryAfter)?;
    let digits = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    u32::try_from(base::scan::decimal(&value[..digits])?).ok()
}

/// RFC 3261 §25.1 `quoted-string`.
fn quoted(text: &str) -> String {
    let clean = text.chars().filter(|one| !one.is_control());
    let escaped: String =
        clean.flat_map(|one| matches!(one, '"' | '\\').then_some('\\').into_iter().chain([one])).collect();
    format!("\"{escaped}\"")
}

/// What a caller gives goes into a head: a line end in it would forge header fields.
fn check_text(what: &'static str, text: &str) -> Result<(), ClientError> {
    if text.chars().any(char::is_control) { Err(ClientError::Text { what }) } else { Ok(()) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
