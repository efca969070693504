//! Letters: messages that wait for somebody, in the order in which they came.
//!
//! A letter and its `seen` id are one commit (D3): a repeat finds the id and is not stored again. The writer gives the
//! letter its arrival, which only grows, whatever the clock does (D2).

use base::Aor;
use base::limits::SEEN_EXPIRY_S;
use bytes::Bytes;

use crate::ask::Ask;
use crate::engine::{Batch, Expect, Row, Tally};
use crate::error::StoreError;
use crate::families::Family;
use crate::flow::Flow;
use crate::keys::{self, Key};
use crate::record::{Reader, Writer};
use crate::store::Store;

const KIND: &str = "letter";
const VERSION: u8 = 1;

/// What a message is known by: Call-ID ‖ CSeq ‖ From tag, or its IMDN Message-ID (D3). Opaque here.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Bytes);

impl MessageId {
    /// An id of these octets, copied.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// Its octets.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A message that waits for its recipient, with all that its delivery needs to look like the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// What it is known by.
    pub id: MessageId,
    /// When it came, microseconds since 1970, unique and growing in its mailbox. The writer fills it in.
    pub arrival: u64,
    /// Address of record of who sent it.
    pub sender: String,
    /// The Request-URI that it came with.
    pub request_uri: String,
    /// From, the whole header value.
    pub from: String,
    /// To, the whole header value.
    pub to: String,
    /// Call-ID.
    pub call_id: String,
    /// Number of its CSeq.
    pub cseq: u32,
    /// Date, the whole header value: when it was sent.
    pub date: String,
    /// When it is given up, unix seconds.
    pub expires_unix_s: u64,
    /// Content-Type, the whole header value.
    pub content_type: String,
    /// Further header lines, each with CRLF.
    pub extra_lines: String,
    /// What it says.
    pub body: Bytes,
    /// Which notifications its sender asked for: flags of `body::imdn`.
    pub wants: u8,
    /// IMDN Message-ID; empty: none.
    pub imdn_id: String,
}

/// A letter as it is to be written, borrowed: see [`Letter`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of a letter")]
pub struct Draft<'a> {
    pub id: &'a MessageId,
    pub sender: &'a str,
    pub request_uri: &'a str,
    pub from: &'a str,
    pub to: &'a str,
    pub call_id: &'a str,
    pub cseq: u32,
    pub date: &'a str,
    pub expires_unix_s: u64,
    pub content_type: &'a str,
    pub extra_lines: &'a str,
    pub body: &'a [u8],
    pub wants: u8,
    pub imdn_id: &'a str,
}

impl Draft<'_> {
    fn write(&self) -> Bytes {
        let texts = [self.sender, self.request_uri, self.from, self.to, self.call_id, self.date, self.content_type];
        let octets = texts.iter().map(|text| text.len()).sum::<usize>() + self.extra_lines.len() + self.body.len();
        let mut record = Writer::with_capacity(VERSION, 64 + octets + self.imdn_id.len());
        record.text(self.sender).text(self.request_uri).text(self.from).text(self.to).text(self.call_id);
        record.number(u64::from(self.cseq)).text(self.date).number(self.expires_unix_s).text(self.content_type);
        record.text(self.extra_lines).bytes(self.body).number(u64::from(self.wants)).text(self.imdn_id);
        record.finish()
    }
}

impl Letter {
    /// As it is to be written.
    pub fn draft(&self) -> Draft<'_> {
        Draft {
            id: &self.id,
            sender: &self.sender,
            request_uri: &self.request_uri,
            from: &self.from,
            to: &self.to,
            call_id: &self.call_id,
            cseq: self.cseq,
            date: &self.date,
            expires_unix_s: self.expires_unix_s,
            content_type: &self.content_type,
            extra_lines: &self.extra_lines,
            body: &self.body,
            wants: self.wants,
            imdn_id: &self.imdn_id,
        }
    }

    /// Arrival and id stand in the key.
    fn read(key: &Key, record: &Bytes) -> Result<(Aor, Self), StoreError> {
        let damaged = StoreError::Damaged { kind: KIND, what: "its key is not one of a letter" };
        let (aor, arrival, id) = keys::read_spool(key).ok_or(damaged.clone())?;
        let (_, mut fields) = Reader::open(KIND, VERSION, record)?;
        let letter = Self {
            id: MessageId::of(id),
            arrival,
            sender: fields.text()?,
            request_uri: fields.text()?,
            from: fields.text()?,
            to: fields.text()?,
            call_id: fields.text()?,
            cseq: fields.narrow()?,
            date: fields.text()?,
            expires_unix_s: fields.number()?,
            content_type: fields.text()?,
            extra_lines: fields.text()?,
            body: fields.bytes()?,
            wants: fields.narrow()?,
            imdn_id: fields.text()?,
        };
        Ok((Aor::parse(aor).map_err(|_| damaged)?, letter))
    }
}

/// What became of a letter that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is stored, and came at this moment.
    New {
        /// See [`Letter::arrival`].
        arrival: u64,
    },
    /// Its id was seen already: nothing was stored.
    Repeat,
}

/// What waits for one user.
pub type Mailbox = Tally;

/// A letter whose time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Whose mailbox it lies in.
    pub owner: Aor,
    /// The letter.
    pub letter: Letter,
}

impl Store {
    /// Stores a letter for a user, unless it was seen: one commit. Its `arrival` is not read but given.
    pub fn keep_letter(&self, aor: &Aor, letter: &Letter) -> Ask<Kept> {
        self.keep_draft(aor, &letter.draft())
    }

    /// The same of a letter that is only borrowed.
    pub fn keep_draft(&self, aor: &Aor, letter: &Draft<'_>) -> Ask<Kept> {
        let mut batch = Batch::new();
        let seen_until_s = self.now_unix_s() + SEEN_EXPIRY_S;
        batch.put(Family::Seen, keys::seen(aor, letter.id), seen_record(), Expect::Absent, Some(seen_until_s));
        let key = keys::spool(aor, 0, letter.id);
        batch.put_stamped(Family::Spool, key, keys::spool_arrival_at(aor), letter.write(), Some(letter.expires_unix_s));
        self.commit(self.partition(aor), batch).map(|receipt| match receipt {
            Ok(receipt) => Ok(Kept::New { arrival: receipt.arrival }),
            Err(StoreError::Conflict { .. }) => Ok(Kept::Repeat),
            Err(why) => Err(why),
        })
    }

    /// The letters of a user that came after `after_arrival` (0: all), oldest first; at most `limit`. Letters whose time
    /// is over are not among them.
    pub fn letters(&self, aor: &Aor, after_arrival: u64, limit: usize) -> Ask<Vec<Letter>> {
        let from = keys::mailbox_from(aor, after_arrival.saturating_add(1));
        let rows = self.engine().scan(self.partition(aor), Family::Spool, keys::mailbox(aor), from, limit);
        rows.map(|rows| rows?.iter().map(|row| Ok(Letter::read(&row.key, &row.value)?.1)).collect())
    }

    /// Removes a letter: it was delivered, failed, or taken back. `false`: it was gone already. An expired letter counts
    /// as there until it is removed.
    pub fn remove_letter(&self, aor: &Aor, arrival: u64, id: &MessageId) -> Ask<bool> {
        let mut batch = Batch::new();
        batch.delete(Family::Spool, keys::spool(aor, arrival, id), Expect::Present);
        self.commit(self.partition(aor), batch).map(|receipt| match receipt {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(why) => Err(why),
        })
    }

    /// Removes several letters of a user in one commit: arrival, id and the time that each was kept with. Nothing is
    /// read, and none is missed that is gone.
    pub fn remove_letters(&self, aor: &Aor, letters: impl IntoIterator<Item = (u64, MessageId, u64)>) -> Ask<()> {
        let mut batch = Batch::new();
        for (arrival, id, expires_unix_s) in letters {
            batch.delete_put_until(Family::Spool, keys::spool(aor, arrival, &id), expires_unix_s);
        }
        self.commit(self.partition(aor), batch).map(|receipt| receipt.map(drop))
    }

    /// How many letters wait for a user, and how many octets they are on disk: counted, hence exact.
    pub fn mailbox(&self, aor: &Aor) -> Ask<Mailbox> {
        self.engine().tally(self.partition(aor), Family::Spool, keys::mailbox(aor))
    }

    /// Letters of all users whose time is over; at most `limit`. They stay, unseen by [`Store::letters`], until they
    /// are removed: so that their senders can be told first.
    pub fn expired_letters(&self, limit: usize) -> Ask<Vec<Expired>> {
        let store = self.clone();
        Ask::later(async move {
            let mut expired = Vec::new();
            for partition in store.partitions().all() {
                let left = limit - expired.len();
                if left == 0 {
                    break;
                }
                for Row { key, value, .. } in store.engine().due(partition, Family::Spool, left).await? {
                    let (owner, letter) = Letter::read(&key, &value)?;
                    expired.push(Expired { owner, letter });
                }
            }
            Ok(expired)
        })
    }

    /// Everybody for whom a letter waits: asked at a start. One row of each mailbox is read, not all its letters.
    pub fn mailbox_owners(&self) -> Flow<Aor> {
        let store = self.clone();
        let mut partitions = self.partitions().all();
        Flow::new(move || {
            let Some(partition) = partitions.next() else { return Ask::ready(Ok(None)) };
            let store = store.clone();
            Ask::later(async move {
                let (mut owners, mut from) = (Vec::new(), Key::of(b""));
                loop {
                    let rows = store.engine().scan(partition, Family::Spool, Key::of(b""), from, 1).await?;
                    let Some(Row { key, value, .. }) = rows.into_iter().next() else { return Ok(Some(owners)) };
                    let (owner, _) = Letter::read(&key, &value)?;
                    match keys::mailbox(&owner).after_prefix() {
                        Some(next) => from = next,
                        None => return Ok(Some(owners)),
                    }
                    owners.push(owner);
                }
            })
        })
    }
}

/// The value of a `seen` row: that it stands there is all it says.
pub(crate) fn seen_record() -> Bytes {
    Writer::new(VERSION).finish()
}
