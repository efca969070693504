//! A user's letters: stored before their senders hear 202, handed out in order, given up in time, and what their senders
//! are told about it. The shell around [`im::Mailbox`].

use std::sync::Arc;

use actix::prelude::*;
use base::{Aor, Now};
use im::deferred::{Head, Input, Outcome, Output, Why};
use im::delivery::{self, Fate, Parties};
use im::{Entry, EntryId};
use storage::StoreError;
use storage::spool::{Draft, Kept, Letter, MessageId};

use super::{Here, LATE, Late, UserActor, in_time};
use crate::message::Offer;
use crate::metrics::Count;
use crate::router;
use crate::transactions::{Answer, Slot};
use crate::turn;

impl UserActor {
    /// Keeps a message; its sender hears 202 when it is durable. `tried`: a contact was tried just now. `slot`: the
    /// relayed transaction that may still bring a late 2xx.
    pub(super) fn store(
        &mut self,
        entry: Box<Entry>,
        answer: Option<Answer>,
        tried: bool,
        slot: Option<Slot>,
        now: Now,
        ctx: &mut Context<Self>,
    ) {
        let store = self.house.store.clone();
        let aor = self.aor.clone();
        let Some(here) = self.here() else { return };
        let size = entry.size() as u64;
        if let Err(refusal) = here.mailbox.admit(size, entry.expires_unix_s, tried, now) {
            return self.not_admitted(entry.id, answer, refusal, ctx);
        }
        if tried {
            here.late.push_back(Late { slot, id: entry.id, kept: None, taken: false, until: now.at + LATE });
        }
        let keeping = store.keep_draft(&aor, &draft(&entry, &message_id(entry.id), &aor));
        self.under_way();
        self.drain_mailbox(now, ctx);
        self.when(in_time(keeping), ctx, move |kept, this, ctx| match kept {
            Ok(kept) => this.kept(kept, entry, answer, ctx),
            Err(late) => {
                let now = this.house.now();
                if let Some(answer) = answer {
                    turn::fill_later(|turn| answer.overloaded(turn, now));
                }
                this.when(late, ctx, |kept, this, ctx| this.kept(kept, entry, None, ctx));
            }
        });
    }

    /// There is no room for it; but a repeat of what was stored needs none (decisions D3).
    fn not_admitted(&mut self, id: EntryId, answer: Option<Answer>, refusal: im::Refusal, ctx: &mut Context<Self>) {
        let asking = self.house.store.was_seen(&self.aor, &message_id(id));
        self.under_way();
        self.when(asking, ctx, move |seen, this, ctx| {
            let now = this.house.now();
            let is_seen = seen == Ok(true);
            turn::fill_later(|turn| {
                turn.counts.add(if is_seen { Count::StoredRepeats } else { Count::MailboxFull });
                match answer {
                    Some(answer) if is_seen => answer.send(turn, now, 202, b""),
                    Some(answer) => answer.send_as(turn, now, refusal.status, refusal.reason, b""),
                    None => {}
                }
            });
            this.done(ctx);
        });
    }

    /// A message of this user's own that may have been stored before the last start: 202 if it was, else a challenge.
    /// Its password is right, so nobody but its sender learns anything by it (decisions D3).
    pub(super) fn perhaps(&mut self, receiver: Aor, answer: Answer, ctx: &mut Context<Self>) {
        let (store, sender) = (self.house.store.clone(), self.aor.clone());
        let entry = Entry::of(answer.request(), &sender, 0, answer.came(self.house.now()));
        let asking = async move {
            let Ok(entry) = entry else { return Ok(false) };
            let Some(account) = store.account(&receiver).await? else { return Ok(false) };
            store.was_seen(&account.aor, &message_id(entry.id)).await
        };
        self.under_way();
        self.when(asking, ctx, move |seen: Result<bool, StoreError>, this, ctx| {
            let now = this.house.now();
            turn::fill_later(|turn| match seen {
                Ok(true) => {
                    turn.counts.add(Count::StoredRepeats);
                    answer.send(turn, now, 202, b"");
                }
                Ok(false) => router::challenge(&this.house, turn, answer, now),
                Err(_) => answer.overloaded(turn, now),
            });
            this.done(ctx);
        });
    }

    fn kept(
        &mut self,
        kept: Result<Kept, StoreError>,
        mut entry: Box<Entry>,
        answer: Option<Answer>,
        ctx: &mut Context<Self>,
    ) {
        let now = self.house.now();
        let size = entry.size() as u64;
        // The store may hold what nobody here has heard of: by a commit whose outcome was not known (decisions D22).
        let may_be_there = matches!(kept, Ok(Kept::Repeat) | Err(StoreError::Disk { .. } | StoreError::Closed));
        let input = match kept {
            Ok(Kept::New { arrival }) => {
                let head = Head { arrival, id: entry.id, size, expires_unix_s: entry.expires_unix_s };
                turn::fill_later(|turn| {
                    turn.counts.add(Count::Stored);
                    if let Some(answer) = answer {
                        answer.send(turn, now, 202, b"");
                    }
                });
                self.tell(&entry, Fate::Stored, now);
                if let Some(asked) = &mut entry.asked {
                    asked.wants = delivery::owed(asked.wants, Fate::Stored).1;
                }
                // Before the mailbox hears of it, which may offer it at once.
                self.have(arrival, Arc::from(entry));
                if self.is_in_vain(head) { Input::KeptInVain(head) } else { Input::Kept(head) }
            }
            // Stored before, by a request whose answer was lost (decisions D3).
            Ok(Kept::Repeat) => {
                turn::fill_later(|turn| {
                    turn.counts.add(Count::StoredRepeats);
                    if let Some(answer) = answer {
                        answer.send(turn, now, 202, b"");
                    }
                });
                Input::NotKept { size }
            }
            Err(error) => {
                tracing::debug!(%error, "Letter could not be stored");
                turn::fill_later(|turn| {
                    if let Some(answer) = answer {
                        answer.overloaded(turn, now);
                    }
                });
                Input::NotKept { size }
            }
        };
        self.mailbox_input(input, now, ctx);
        if may_be_there {
            self.mailbox_input(Input::LookAgain, now, ctx);
        }
        self.drop_letters();
        self.done(ctx);
    }

    fn have(&mut self, arrival: u64, entry: Arc<Entry>) {
        if let Some(here) = self.here() {
            here.letters.insert(arrival, entry);
        }
    }

    /// Those that the mailbox does not hold are read again when their turn comes.
    fn drop_letters(&mut self) {
        if let Some(here) = self.here() {
            let Here { letters, mailbox, .. } = here;
            letters.retain(|arrival, _| mailbox.holds(*arrival));
        }
    }

    /// A stored message's first receiver may have answered while it was being written: then it is not offered.
    fn is_in_vain(&mut self, head: Head) -> bool {
        let late = self.here().and_then(|here| here.late.iter_mut().find(|late| late.id == head.id));
        late.is_some_and(|late| {
            late.kept = Some(head);
            late.taken
        })
    }

    /// Its first receiver has it after all (decisions D4).
    pub(super) fn take_back(&mut self, id: EntryId, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        let Some(late) = here.late.iter_mut().find(|late| late.id == id && !late.taken) else { return };
        late.taken = true;
        if let Some(head) = late.kept {
            self.mailbox_input(Input::TakenBack(head), now, ctx);
        }
    }

    /// The store's sweep found a letter whose time is over.
    pub(super) fn expired(&mut self, letter: Letter, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        let arrival = letter.arrival;
        let entry = Arc::new(to_entry(letter));
        let head = head_of(arrival, &entry);
        if let Some(at) = here.unread.iter().position(|each| *each == arrival) {
            here.unread.swap_remove(at);
            return self.remove(head, entry, ctx);
        }
        let is_new = here.letters.insert(arrival, entry).is_none();
        self.mailbox_input(Input::Expired(head), now, ctx);
        // Given up, it has been taken out; else it has left before.
        if is_new && let Some(here) = self.here() {
            here.letters.remove(&arrival);
        }
    }

    pub(super) fn mailbox_input(&mut self, input: Input, now: Now, ctx: &mut Context<Self>) {
        if let Some(here) = self.here() {
            here.mailbox.handle(input, now);
        }
        self.drain_mailbox(now, ctx);
    }

    pub(super) fn drain_mailbox(&mut self, now: Now, ctx: &mut Context<Self>) {
        while let Some(output) = self.here().and_then(|here| here.mailbox.poll_output()) {
            match output {
                Output::Load { after, limit } => self.load_letters(after, limit, ctx),
                Output::Offer(head) => self.offer_letter(head, now, ctx),
                Output::Remove(head) => {
                    turn::fill_later(|turn| turn.counts.add(Count::Delivered));
                    if let Some(here) = self.here() {
                        here.letters.remove(&head.arrival);
                    }
                    self.remove_delivered(head, ctx);
                }
                Output::Fail(head, why) => self.fail(head, why, now, ctx),
                Output::Queued(queued) => {
                    if let Some(here) = self.here() {
                        here.queued = queued;
                    }
                    self.publish();
                }
            }
        }
    }

    fn load_letters(&mut self, after: u64, limit: usize, ctx: &mut Context<Self>) {
        let loading = self.house.store.letters(&self.aor, after, limit);
        self.under_way();
        self.when(loading, ctx, move |letters, this, ctx| {
            let now = this.house.now();
            let Some(here) = this.here() else { return };
            let input = match letters {
                Ok(letters) => {
                    let more = letters.len() >= limit;
                    let mut heads = Vec::with_capacity(letters.len());
                    for letter in letters {
                        let arrival = letter.arrival;
                        let entry = Arc::new(to_entry(letter));
                        heads.push(head_of(arrival, &entry));
                        here.letters.insert(arrival, entry);
                    }
                    Input::Loaded { heads, more }
                }
                Err(error) => {
                    tracing::warn!(%error, "Letters could not be read");
                    Input::LoadFailed
                }
            };
            this.mailbox_input(input, now, ctx);
            this.drop_letters();
            this.done(ctx);
        });
    }

    fn offer_letter(&mut self, head: Head, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        if let Some(entry) = here.letters.get(&head.arrival) {
            let entry = entry.clone();
            return self.attempt_letter(head, entry, now, ctx);
        }
        let reading = self.house.store.letters(&self.aor, head.arrival - 1, 1);
        self.under_way();
        self.when(reading, ctx, move |letters, this, ctx| {
            let now = this.house.now();
            let Some(here) = this.here() else { return };
            let outcome = match letters.map(|mut letters| letters.pop()) {
                Ok(Some(letter)) if letter.arrival == head.arrival => {
                    let entry = Arc::new(to_entry(letter));
                    here.letters.insert(head.arrival, entry.clone());
                    this.attempt_letter(head, entry, now, ctx);
                    return this.done(ctx);
                }
                // The store does not show what is over; back in hand it is given up as such.
                Ok(_) if head.expires_unix_s <= now.unix_s() => Outcome::Away,
                Ok(_) => Outcome::Gone,
                Err(_) => Outcome::Away,
            };
            this.mailbox_input(Input::Outcome { arrival: head.arrival, outcome }, now, ctx);
            this.done(ctx);
        });
    }

    /// Delivered letters leave the store many at a time: those that were delivered while a commit was under way by the
    /// next one. Only bookkeeping waits for it, and the next letter does not.
    fn remove_delivered(&mut self, head: Head, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        here.leaving.push(head);
        if !here.removing {
            self.remove_leaving(ctx);
        }
    }

    fn remove_leaving(&mut self, ctx: &mut Context<Self>) {
        let (store, aor) = (self.house.store.clone(), self.aor.clone());
        let Some(here) = self.here() else { return };
        let heads = std::mem::take(&mut here.leaving);
        here.removing = !heads.is_empty();
        if heads.is_empty() {
            return;
        }
        let rows = heads.iter().map(|head| (head.arrival, message_id(head.id), head.expires_unix_s));
        let removing = store.remove_letters(&aor, rows);
        self.under_way();
        self.when(removing, ctx, move |removed, this, ctx| {
            let now = this.house.now();
            if let Err(error) = &removed {
                tracing::warn!(%error, "Letters could not be taken out");
            }
            this.remove_leaving(ctx);
            for Head { arrival, .. } in heads {
                let input = if removed.is_ok() { Input::Removed { arrival } } else { Input::RemoveFailed { arrival } };
                this.mailbox_input(input, now, ctx);
            }
            this.done(ctx);
        });
    }

    /// Given up, and out of the store; its sender is told when it is out, if he asked and it was there.
    fn remove(&mut self, head: Head, lost: Arc<Entry>, ctx: &mut Context<Self>) {
        let arrival = head.arrival;
        let removing = self.house.store.remove_letter(&self.aor, arrival, &message_id(head.id));
        self.under_way();
        self.when(removing, ctx, move |removed, this, ctx| {
            let now = this.house.now();
            let input = match removed {
                Ok(was_there) => {
                    if was_there {
                        this.tell(&lost, Fate::Failed, now);
                    }
                    if was_there { Input::Removed { arrival } } else { Input::Absent { arrival } }
                }
                Err(error) => {
                    tracing::warn!(%error, "Letter could not be taken out");
                    this.have(arrival, lost);
                    Input::RemoveFailed { arrival }
                }
            };
            this.mailbox_input(input, now, ctx);
            this.done(ctx);
        });
    }

    /// Given up: out of the store, then its sender is told, if he asked.
    fn fail(&mut self, head: Head, why: Why, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        let Some(entry) = here.letters.remove(&head.arrival) else {
            // Not in memory, and the store shows it only to its sweep, which brings it soon.
            if !here.unread.contains(&head.arrival) {
                here.unread.push(head.arrival);
            }
            return self.mailbox_input(Input::RemoveFailed { arrival: head.arrival }, now, ctx);
        };
        tracing::debug!(?why, arrival = head.arrival, "Letter given up");
        turn::fill_later(|turn| turn.counts.add(Count::Failed));
        self.remove(head, entry, ctx);
    }

    /// Sends the notice that is owed for a message's fate, if one is (RFC 5438 §8).
    fn tell(&mut self, entry: &Entry, fate: Fate, now: Now) {
        let Some(asked) = &entry.asked else { return };
        let (Some(owed), _) = delivery::owed(asked.wants, fate) else { return };
        let house = &self.house;
        let sender = &entry.sender;
        if !house.config.is_ours(sender.domain()) && !sender.is_tel() {
            return; // other domains are not looked for yet
        }
        let domain =
            if self.aor.is_tel() { house.config.domains.first().map(String::as_str) } else { Some(self.aor.domain()) };
        let Some(system) = domain.and_then(|domain| Aor::new("im-system", domain).ok()) else { return };
        let parties = Parties { recipient: &self.aor, sender, system: &system };
        let expiry_s = house.config.letter_expiry_s;
        let notice = delivery::notice(parties, asked, owed, expiry_s, now, || house.ids.token());
        turn::fill_later(|turn| {
            turn.counts.add(Count::Notices);
            turn.offer(sender.clone(), Offer::Notice(Box::new(notice)));
        });
    }
}

pub(super) fn message_id(id: EntryId) -> MessageId {
    MessageId::of(id.as_bytes())
}

fn entry_id(id: &MessageId) -> EntryId {
    let mut octets = [0; 16];
    let count = id.bytes().len().min(16);
    octets[..count].copy_from_slice(&id.bytes()[..count]);
    EntryId::from_bytes(octets)
}

fn head_of(arrival: u64, entry: &Entry) -> Head {
    Head { arrival, id: entry.id, size: entry.size() as u64, expires_unix_s: entry.expires_unix_s }
}

/// A message as it is written down. What its sender still wants to hear is what is left after the notice that it is
/// stored.
pub(super) fn draft<'a>(entry: &'a Entry, id: &'a MessageId, owner: &'a Aor) -> Draft<'a> {
    let asked = entry.asked.as_ref();
    Draft {
        id,
        sender: entry.sender.as_str(),
        request_uri: owner.as_str(),
        from: &entry.from,
        to: &entry.to,
        call_id: &entry.call_id,
        cseq: entry.cseq,
        date: &entry.date,
        expires_unix_s: entry.expires_unix_s,
        content_type: &entry.content_type,
        extra_lines: &entry.lines,
        body: &entry.body,
        wants: asked.map(|asked| delivery::owed(asked.wants, Fate::Stored).1.bits()).unwrap_or_default(),
        imdn_id: asked.map(|asked| asked.message_id.as_str()).unwrap_or_default(),
    }
}

fn to_entry(letter: Letter) -> Entry {
    let kind = base::mime::MediaType::parse(letter.content_type.as_bytes());
    let envelope = kind.filter(|kind| kind.is("message/cpim")).and_then(|_| body::Cpim::parse(&letter.body).ok());
    let asked = envelope
        .as_ref()
        .and_then(body::Asked::of)
        .map(|asked| body::Asked { wants: body::Wants::from_bits_truncate(letter.wants), ..asked });
    let kind = im::Kind::of(kind, &letter.body);
    Entry {
        id: entry_id(&letter.id),
        // Every letter was written by us with a sender that parsed; a damaged one is nobody's.
        sender: Aor::parse(&letter.sender).unwrap_or_else(|_| unknown()),
        from: letter.from,
        to: letter.to,
        call_id: letter.call_id,
        cseq: letter.cseq,
        date: letter.date,
        expires_unix_s: letter.expires_unix_s,
        content_type: letter.content_type,
        lines: letter.extra_lines,
        body: letter.body,
        asked,
        kind,
        may_wait: true,
    }
}

fn unknown() -> Aor {
    Aor::new("anonymous", "anonymous.invalid").expect("a valid address")
}
