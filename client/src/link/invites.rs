//! The INVITEs of a link (RFC 3261 §13, §17.1.1, §17.2.1): ours, and those that come in. No socket, no clock.
//!
//! A call's own business, the dialog, is not here: of a 2xx only the sending is, with its repeats (§13.3.1.4).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sip::transaction::{
    ClientInvite, ClientInviteInput, ClientInviteOutput, End, ServerInvite, ServerInviteInput, ServerInviteOutput,
    Timers, acknowledge, cancel,
};
use sip::{Message, Reply};

use crate::error::ClientError;
use crate::word::{Teller, Word};

/// INVITEs under way at once, each way; a further one is refused.
pub(super) const INVITES: usize = 4_096;

/// All of them.
pub(super) struct Invites {
    ours: HashMap<Arc<str>, Ours>,
    theirs: HashMap<u64, Theirs>,
    timers: Timers,
    is_reliable: bool,
    /// What there is to send.
    pub writes: VecDeque<Bytes>,
    /// CANCELs that are to become transactions of their own, with the branch that they share with their INVITE.
    pub cancels: VecDeque<(Arc<str>, Bytes)>,
}

struct Ours {
    machine: ClientInvite,
    wire: Bytes,
    tell: Teller,
    silent: ClientError,
}

struct Theirs {
    machine: ServerInvite,
    request: Message,
    tag: String,
    /// By what the ACK for a 2xx is known: it has a branch of its own.
    dialog: u64,
    tell: Teller,
    is_answered: bool,
    repeat: Option<Repeat>,
    /// The description in the ACK, empty where there is none.
    acknowledged: Bytes,
}

/// A 2xx that is not acknowledged yet.
struct Repeat {
    answer: Bytes,
    at: Instant,
    pause: std::time::Duration,
    until: Instant,
}

impl Invites {
    pub(super) fn new(timers: Timers, is_reliable: bool) -> Self {
        Self {
            ours: HashMap::new(),
            theirs: HashMap::new(),
            timers,
            is_reliable,
            writes: VecDeque::new(),
            cancels: VecDeque::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.ours.len() >= INVITES || self.theirs.len() >= INVITES
    }

    /// Sends an INVITE; `silent` is what is told where no answer comes.
    pub(super) fn ask(&mut self, wire: Bytes, branch: String, tell: Teller, silent: ClientError, now: Instant) {
        let branch: Arc<str> = branch.into();
        let machine = ClientInvite::new(wire.clone(), acknowledge, self.timers, self.is_reliable, now);
        self.ours.insert(branch.clone(), Ours { machine, wire, tell, silent });
        self.drain_ours(&branch);
    }

    /// Takes an INVITE of ours back.
    pub(super) fn cancel(&mut self, branch: &str, now: Instant) {
        if let Some((branch, _)) = self.ours.get_key_value(branch) {
            let branch = branch.clone();
            self.feed_ours(&branch, ClientInviteInput::Cancel, now);
        }
    }

    /// A response to an INVITE. `false`: it is to none of ours.
    pub(super) fn answered(&mut self, branch: &str, status: u16, bytes: Bytes, now: Instant) -> bool {
        let Some((branch, _)) = self.ours.get_key_value(branch) else { return false };
        let branch = branch.clone();
        self.feed_ours(&branch, ClientInviteInput::Response { status, bytes }, now);
        true
    }

    /// An INVITE has come again. `false`: it is new.
    pub(super) fn repeated(&mut self, key: u64, now: Instant) -> bool {
        self.feed_theirs(key, ServerInviteInput::Request, now)
    }

    /// A new INVITE has come.
    pub(super) fn take(&mut self, key: u64, dialog: u64, request: Message, tag: String, tell: Teller, now: Instant) {
        let machine = ServerInvite::new(self.timers, self.is_reliable, now);
        let (is_answered, repeat, acknowledged) = (false, None, Bytes::new());
        self.theirs.insert(key, Theirs { machine, request, tag, dialog, tell, is_answered, repeat, acknowledged });
    }

    /// Answers one that has come. After its end, or after a CANCEL, there is nothing to answer.
    pub(super) fn answer(&mut self, key: u64, status: u16, bytes: Bytes, now: Instant) {
        // An answer may cross a CANCEL, which has had 487 then: nothing is sent for it.
        let Some(theirs) = self.theirs.get_mut(&key).filter(|theirs| !theirs.is_answered) else { return };
        theirs.is_answered = status >= 200;
        if (200..300).contains(&status) {
            let pause = self.timers.t1.max(std::time::Duration::from_millis(1));
            // RFC 3261 §13.3.1.4: repeated over every transport, since hops behind this one may lose it.
            let until = now + self.timers.timeout();
            theirs.repeat = Some(Repeat { answer: bytes.clone(), at: now + pause, pause, until });
        }
        self.feed_theirs(key, ServerInviteInput::Answer { status, bytes }, now);
    }

    /// An ACK: `key` as that of the INVITE whose refusal it is for, `dialog` as that whose 2xx it is for; and the
    /// description in it.
    pub(super) fn acknowledged(&mut self, key: Option<u64>, dialog: u64, answer: Bytes, now: Instant) {
        if let Some(theirs) = key.and_then(|key| self.theirs.get_mut(&key)) {
            theirs.acknowledged = answer.clone();
        }
        if key.is_some_and(|key| self.feed_theirs(key, ServerInviteInput::Ack, now)) {
            return;
        }
        let found = self.theirs.iter_mut().find(|(_, theirs)| theirs.dialog == dialog && theirs.repeat.is_some());
        if let Some((_, theirs)) = found {
            theirs.repeat = None;
            // A call that has ended meanwhile does not listen any more; so everywhere here.
            let _ = theirs.tell.send(Word::Acknowledged(answer));
        }
    }

    /// A CANCEL. `false`: it is for none.
    pub(super) fn cancelled(&mut self, key: u64, now: Instant) -> bool {
        self.feed_theirs(key, ServerInviteInput::Cancel, now)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let ours = self.ours.values().filter_map(|ours| ours.machine.poll_timeout());
        let theirs = self.theirs.values().filter_map(|theirs| theirs.machine.poll_timeout());
        let repeats = self.theirs.values().filter_map(|theirs| theirs.repeat.as_ref().map(|repeat| repeat.at));
        ours.chain(theirs).chain(repeats).min()
    }

    pub(super) fn handle_timeouts(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let ours: Vec<_> = self
            .ours
            .iter()
            .filter(|(_, each)| is_due(each.machine.poll_timeout()))
            .map(|(key, _)| key.clone())
            .collect();
        for branch in ours {
            if let Some(ours) = self.ours.get_mut(&branch) {
                ours.machine.handle_timeout(now);
            }
            self.drain_ours(&branch);
        }
        let theirs: Vec<u64> = self.theirs.keys().copied().collect();
        for key in theirs {
            self.repeat(key, now);
            if let Some(theirs) = self.theirs.get_mut(&key)
                && is_due(theirs.machine.poll_timeout())
            {
                theirs.machine.handle_timeout(now);
                self.drain_theirs(key, now);
            }
        }
    }

    /// The way is lost: no answer will come, and none will arrive.
    pub(super) fn fail_all(&mut self, error: &ClientError) {
        for (_, ours) in self.ours.drain() {
            let _ = ours.tell.send(Word::Failed(error.clone()));
        }
        for (_, theirs) in self.theirs.drain().filter(|(_, theirs)| theirs.repeat.is_some()) {
            let _ = theirs.tell.send(Word::Unacknowledged);
        }
        self.writes.clear();
        self.cancels.clear();
    }

    fn repeat(&mut self, key: u64, now: Instant) {
        let Some(theirs) = self.theirs.get_mut(&key) else { return };
        let Some(repeat) = theirs.repeat.as_mut().filter(|repeat| repeat.at <= now) else { return };
        if repeat.until <= now {
            theirs.repeat = None;
            let _ = theirs.tell.send(Word::Unacknowledged);
            return;
        }
        repeat.pause = (repeat.pause * 2).min(self.timers.t2.max(self.timers.t1));
        repeat.at = now + repeat.pause;
        self.writes.push_back(repeat.answer.clone());
    }

    fn feed_ours(&mut self, branch: &Arc<str>, input: ClientInviteInput, now: Instant) {
        if let Some(ours) = self.ours.get_mut(branch) {
            ours.machine.handle(input, now);
        }
        self.drain_ours(branch);
    }

    fn drain_ours(&mut self, branch: &Arc<str>) {
        let Some(ours) = self.ours.get_mut(branch) else { return };
        while let Some(output) = ours.machine.poll_output() {
            match output {
                ClientInviteOutput::Send(bytes) => self.writes.push_back(bytes),
                ClientInviteOutput::Response { bytes, .. } => {
                    // What has been read once can be read again.
                    if let Ok(response) = Message::parse(bytes) {
                        let _ = ours.tell.send(Word::Response(response));
                    }
                }
                ClientInviteOutput::Cancel => {
                    self.cancels.extend(cancel(&ours.wire, b"").map(|bytes| (branch.clone(), bytes)));
                }
                ClientInviteOutput::Ended(End::Timeout | End::TransportError) => {
                    let _ = ours.tell.send(Word::Failed(ours.silent.clone()));
                }
                ClientInviteOutput::Ended(End::Done) => {}
            }
        }
        if ours.machine.is_ended() {
            self.ours.remove(branch);
        }
    }

    fn feed_theirs(&mut self, key: u64, input: ServerInviteInput, now: Instant) -> bool {
        let Some(theirs) = self.theirs.get_mut(&key) else { return false };
        theirs.machine.handle(input, now);
        self.drain_theirs(key, now);
        true
    }

    fn drain_theirs(&mut self, key: u64, now: Instant) {
        let Some(theirs) = self.theirs.get_mut(&key) else { return };
        while let Some(output) = theirs.machine.poll_output() {
            match output {
                ServerInviteOutput::Send(bytes) => self.writes.push_back(bytes),
                ServerInviteOutput::Trying => {
                    let bytes = theirs.reply(100);
                    theirs.machine.handle(ServerInviteInput::Answer { status: 100, bytes }, now);
                }
                ServerInviteOutput::Cancelled => {
                    theirs.is_answered = true;
                    let bytes = theirs.reply(487);
                    theirs.machine.handle(ServerInviteInput::Answer { status: 487, bytes }, now);
                    let _ = theirs.tell.send(Word::Cancelled);
                }
                // An ACK for a 2xx has the INVITE's branch only if its sender is mistaken.
                ServerInviteOutput::Ack => {
                    if theirs.repeat.take().is_some() {
                        let _ = theirs.tell.send(Word::Acknowledged(theirs.acknowledged.clone()));
                    }
                }
                ServerInviteOutput::Failed | ServerInviteOutput::Ended(_) => {}
            }
        }
        if theirs.machine.is_ended()
            && let Some(theirs) = self.theirs.remove(&key)
            && theirs.repeat.is_some()
        {
            let _ = theirs.tell.send(Word::Unacknowledged);
        }
    }
}

impl Theirs {
    fn reply(&self, status: u16) -> Bytes {
        let mut out = Vec::with_capacity(512);
        let to_tag = if status == 100 { "" } else { &self.tag };
        sip::reply(&mut out, self.request.view(), &Reply { status, to_tag, ..Reply::default() });
        out.into()
    }
}
