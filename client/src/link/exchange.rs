//! The transactions of a link, and which message belongs to which (RFC 3261 §17.1.3, §17.2.3). No socket, no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use base::{KeyedHash, Now};
use bytes::Bytes;
use sip::transaction::{
    ClientNonInvite, ClientNonInviteInput, ClientNonInviteOutput, End, ServerNonInvite, ServerNonInviteInput,
    ServerNonInviteOutput, Timers,
};
use sip::{Message, Method, Name, Reply, View};
use tokio::sync::{mpsc, oneshot};

use super::invites::Invites;
use super::{Answerer, Home, Invitation, Request, Settings};
use crate::account::Transport;
use crate::error::ClientError;
use crate::word::Teller;

/// Client transactions at once; a further request fails.
const CLIENTS: usize = 8_192;
/// Server transactions at once; the repeats of further requests are answered anew, not absorbed.
const SERVERS: usize = 65_536;

pub(super) struct Exchange {
    home: Home,
    invites: Invites,
    clients: HashMap<Arc<str>, Client>,
    servers: HashMap<u64, Server>,
    /// When whom to wake; what no longer holds is passed over.
    alarms: BinaryHeap<Reverse<(Instant, Whom)>>,
    writes: VecDeque<Bytes>,
    server: SocketAddr,
    transport: Transport,
    timers: Timers,
    hash: KeyedHash,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Client(Arc<str>),
    Server(u64),
}

struct Client {
    machine: ClientNonInvite,
    method: Method,
    /// Taken when the final answer has come.
    answer: Option<oneshot::Sender<Result<Message, ClientError>>>,
    armed: Option<Instant>,
}

struct Server {
    machine: ServerNonInvite,
    armed: Option<Instant>,
}

impl Exchange {
    pub(super) fn new(settings: &Settings, home: Home) -> Self {
        Self {
            home,
            invites: Invites::new(settings.timers, settings.transport == Transport::Tcp),
            clients: HashMap::new(),
            servers: HashMap::new(),
            alarms: BinaryHeap::new(),
            writes: VecDeque::new(),
            server: settings.server,
            transport: settings.transport,
            timers: settings.timers,
            hash: settings.hash,
        }
    }

    /// Begins a client transaction.
    pub(super) fn start(&mut self, request: Request, now: Instant) {
        if self.clients.len() >= CLIENTS {
            // Who asked may have stopped waiting; so everywhere here.
            let _ = request.answer.send(Err(ClientError::Full { server: self.server, waiting: self.clients.len() }));
            return;
        }
        self.begin(request.branch.into(), request.wire, request.method, Some(request.answer), now);
    }

    fn begin(
        &mut self,
        branch: Arc<str>,
        wire: Bytes,
        method: Method,
        answer: Option<oneshot::Sender<Result<Message, ClientError>>>,
        now: Instant,
    ) {
        let machine = ClientNonInvite::new(wire, self.timers, self.is_reliable(), now);
        self.clients.insert(branch.clone(), Client { machine, method, answer, armed: None });
        self.drain_client(&branch);
    }

    /// Begins an INVITE.
    pub(super) fn invite(&mut self, wire: Bytes, branch: String, tell: Teller, now: Instant) {
        let silent = self.silent();
        if self.invites.is_full() {
            let full = ClientError::Full { server: self.server, waiting: super::invites::INVITES };
            let _ = tell.send(crate::word::Word::Failed(full));
            return;
        }
        self.invites.ask(wire, branch, tell, silent, now);
        self.drain_invites(now);
    }

    /// Takes an INVITE of ours back.
    pub(super) fn cancel(&mut self, branch: &str, now: Instant) {
        self.invites.cancel(branch, now);
        self.drain_invites(now);
    }

    /// Answers an INVITE that came.
    pub(super) fn answer(&mut self, key: u64, status: u16, bytes: Bytes, now: Instant) {
        self.invites.answer(key, status, bytes, now);
        self.drain_invites(now);
    }

    fn drain_invites(&mut self, now: Instant) {
        self.writes.append(&mut self.invites.writes);
        while let Some((branch, wire)) = self.invites.cancels.pop_front() {
            // RFC 3261 §9.1: the CANCEL has the branch of the INVITE, and its answer is told by its method.
            self.begin(branch, wire, Method::Cancel, None, now);
        }
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent { server: self.server, transport: self.transport, waited: self.timers.timeout() }
    }

    /// Takes a message that has come.
    pub(super) fn receive(&mut self, message: View<'_>, now: Now, answerer: &mut dyn Answerer) {
        if message.is_request() {
            self.receive_request(message, now, answerer);
        } else {
            self.receive_response(message, now.at);
        }
    }

    /// The next octets to be sent.
    pub(super) fn poll_write(&mut self) -> Option<Bytes> {
        self.writes.pop_front()
    }

    /// When to call [`Exchange::handle_timeouts`]; earlier does no harm.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        alarm.into_iter().chain(self.invites.next_timeout()).min()
    }

    /// Does what is due.
    pub(super) fn handle_timeouts(&mut self, now: Instant) {
        self.invites.handle_timeouts(now);
        self.drain_invites(now);
        while let Some(Reverse((at, _))) = self.alarms.peek()
            && *at <= now
            && let Some(Reverse((at, whom))) = self.alarms.pop()
        {
            match whom {
                Whom::Client(branch) => {
                    if let Some(client) = self.clients.get_mut(&branch).filter(|client| client.armed == Some(at)) {
                        client.armed = None;
                        client.machine.handle_timeout(now);
                        self.drain_client(&branch);
                    }
                }
                Whom::Server(key) => {
                    if let Some(server) = self.servers.get_mut(&key).filter(|server| server.armed == Some(at)) {
                        server.armed = None;
                        server.machine.handle_timeout(now);
                        self.drain_server(key);
                    }
                }
            }
        }
    }

    /// RFC 3261 §17.1.4: whoever waits for an answer is told that there will be none.
    pub(super) fn fail_all(&mut self, error: &ClientError) {
        for (_, client) in self.clients.drain() {
            if let Some(answer) = client.answer {
                let _ = answer.send(Err(error.clone()));
            }
        }
        self.invites.fail_all(error);
        self.writes.clear();
    }

    fn is_reliable(&self) -> bool {
        self.transport == Transport::Tcp
    }

    fn receive_response(&mut self, response: View<'_>, now: Instant) {
        let branch = response.top_via().ok().and_then(|via| std::str::from_utf8(via.branch()?).ok());
        // RFC 3261 §8.1.3.3: more than one Via means that it was sent to somebody else.
        if response.values(Name::Via).nth(1).is_some() {
            return tracing::debug!("Response with more than one Via dropped");
        }
        if response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite)
            && let Some(branch) = branch
        {
            let (status, bytes) = (response.status(), Bytes::copy_from_slice(response.bytes()));
            if !self.invites.answered(branch, status, bytes, now) {
                tracing::debug!(status, "Response to no INVITE of ours dropped");
            }
            return self.drain_invites(now);
        }
        let Some((branch, client)) = branch.and_then(|branch| self.clients.get_key_value(branch)) else {
            return tracing::debug!(status = response.status(), "Response to nothing dropped");
        };
        let branch = branch.clone();
        if response.cseq().map(|cseq| cseq.method) != Ok(client.method) {
            return tracing::debug!("Response to another method dropped");
        }
        let (status, bytes) = (response.status(), Bytes::copy_from_slice(response.bytes()));
        if let Some(client) = self.clients.get_mut(&branch) {
            client.machine.handle(ClientNonInviteInput::Response { status, bytes }, now);
        }
        self.drain_client(&branch);
    }

    fn receive_request(&mut self, request: View<'_>, now: Now, answerer: &mut dyn Answerer) {
        let key = match request.method() {
            Method::Invite => return self.receive_invite(request, now, answerer),
            Method::Ack => {
                let is_sdp = request.content_type().is_some_and(|kind| kind.is("application/sdp"));
                let answer = Bytes::copy_from_slice(if is_sdp { request.body() } else { b"" });
                self.invites.acknowledged(self.key(request, b"INVITE"), self.dialog_of(request), answer, now.at);
                return self.drain_invites(now.at);
            }
            _ => self.key(request, request.method_text()),
        };
        let kept = key;
        if let Some(server) = kept.and_then(|key| self.servers.get_mut(&key)) {
            server.machine.handle(ServerNonInviteInput::Request, now.at);
            return self.drain_server(kept.unwrap_or_default());
        }
        let mut out = Vec::new();
        let invite = self.key(request, b"INVITE").filter(|_| request.method() == Method::Cancel);
        if invite.is_some_and(|invite| self.invites.cancelled(invite, now.at)) {
            let to_tag = answerer.tag(request);
            sip::reply(&mut out, request, &Reply { status: 200, to_tag: &to_tag, ..Reply::default() });
        } else {
            answerer.answer(request, now, &mut out);
        }
        let answer = Bytes::from(out);
        let status = status_of(&answer);
        match kept {
            Some(key) if self.servers.len() < SERVERS => {
                let mut machine = ServerNonInvite::new(self.timers, self.is_reliable(), now.at);
                if let Some(status) = status {
                    machine.handle(ServerNonInviteInput::Answer { status, bytes: answer }, now.at);
                }
                self.servers.insert(key, Server { machine, armed: None });
                self.drain_server(key);
            }
            _ if status.is_some() => self.writes.push_back(answer),
            _ => {}
        }
        self.drain_invites(now.at);
    }

    fn receive_invite(&mut self, request: View<'_>, now: Now, answerer: &mut dyn Answerer) {
        let key = self.key(request, b"INVITE");
        let Some(key) = key.filter(|_| !self.invites.is_full()) else {
            // Without memory (RFC 3261 §8.2.7): it names no transaction, or there are too many.
            let mut out = Vec::new();
            let status = if key.is_some() { 503 } else { 400 };
            answerer.refuse(request, status, "", &mut out);
            return self.writes.push_back(out.into());
        };
        if !self.invites.repeated(key, now.at) {
            let copy = Message::copy_of(request);
            let (tell, told) = mpsc::unbounded_channel();
            let (dialog, tag) = (self.dialog_of(request), answerer.tag(request));
            self.invites.take(key, dialog, copy, tag, tell.clone(), now.at);
            let mut out = Vec::new();
            let invitation = Invitation { key, link: self.home.link(), tell, told };
            answerer.invited(request, invitation, &mut out);
            let answer = Bytes::from(out);
            if let Some(status) = status_of(&answer) {
                self.invites.answer(key, status, answer, now.at);
            }
        }
        self.drain_invites(now.at);
    }

    /// What an INVITE and the ACK for its 2xx have in common: Call-ID, From tag and number.
    fn dialog_of(&self, request: View<'_>) -> u64 {
        let number = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
        let tag = request.from().ok().and_then(|from| from.tag()).unwrap_or_default();
        self.hash.of(&[request.first(Name::CallId).unwrap_or_default(), tag, &number])
    }

    /// RFC 3261 §17.2.3: branch, sent-by and method; for senders of RFC 2543 what stands in for them. Nothing for what
    /// names no transaction.
    fn key(&self, request: View<'_>, method: &[u8]) -> Option<u64> {
        let via = request.top_via().ok()?;
        match via.branch().filter(|branch| branch.starts_with(b"z9hG4bK")) {
            Some(branch) => Some(self.hash.of(&[branch, via.sent_by(), method])),
            None => {
                let names = [Name::To, Name::From, Name::CallId, Name::CSeq, Name::Via];
                let [to, from, call_id, cseq, via] = names.map(|name| request.first(name).unwrap_or_default());
                Some(self.hash.of(&[request.request_uri(), to, from, call_id, cseq, via]))
            }
        }
    }

    fn drain_client(&mut self, branch: &Arc<str>) {
        let Some(client) = self.clients.get_mut(branch) else { return };
        while let Some(output) = client.machine.poll_output() {
            let outcome = match output {
                ClientNonInviteOutput::Send(bytes) => {
                    self.writes.push_back(bytes);
                    continue;
                }
                ClientNonInviteOutput::Response { status: ..200, .. } => continue,
                ClientNonInviteOutput::Response { bytes, .. } => {
                    let nonsense = ClientError::Nonsense { server: self.server, fault: "it cannot be read twice" };
                    Message::parse(bytes).map_err(|_| nonsense)
                }
                ClientNonInviteOutput::Ended(End::Timeout | End::TransportError) => Err(ClientError::Silent {
                    server: self.server,
                    transport: self.transport,
                    waited: self.timers.timeout(),
                }),
                ClientNonInviteOutput::Ended(End::Done) => continue,
            };
            if let Some(answer) = client.answer.take() {
                let _ = answer.send(outcome);
            }
        }
        if client.machine.is_ended() {
            self.clients.remove(branch);
        } else if client.armed != client.machine.poll_timeout()
            && let Some(at) = client.machine.poll_timeout()
        {
            client.armed = Some(at);
            self.alarms.push(Reverse((at, Whom::Client(branch.clone()))));
        }
    }

    fn drain_server(&mut self, key: u64) {
        let Some(server) = self.servers.get_mut(&key) else { return };
        while let Some(output) = server.machine.poll_output() {
            match output {
                ServerNonInviteOutput::Send(bytes) => self.writes.push_back(bytes),
                // Who has not answered by now means to be silent.
                ServerNonInviteOutput::Trying | ServerNonInviteOutput::Failed | ServerNonInviteOutput::Ended(_) => {}
            }
        }
        if server.machine.is_ended() {
            self.servers.remove(&key);
        } else if server.armed != server.machine.poll_timeout()
            && let Some(at) = server.machine.poll_timeout()
        {
            server.armed = Some(at);
            self.alarms.push(Reverse((at, Whom::Server(key))));
        }
    }
}

/// The status of a response of our own making.
fn status_of(response: &[u8]) -> Option<u16> {
    std::str::from_utf8(response.get(8..11)?).ok()?.parse().ok()
}
