//! MSRP forwarding (RFC 4975), control plane's side: session ids, the two legs that each leads to, and what the session's
//! actor programs there. The data plane's side is [`ingress`]; neither knows a socket.
//!
//! ```text
//!   session's actor ── open, set_their_path, connect, close ──> Switch: session id -> (Pair, side)
//!   connection task ── Ingress::read ── looks the id up once a connection, then compares ──> Turn ──> Outbox of the other leg
//! ```
//! A 1-1 chunk passes no mailbox: only that a leg was bound or lost climbs to the actor.

pub mod ingress;
pub mod turn;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base::{IdMaker, KeyedHash};
use bytes::Bytes;
use hashbrown::HashMap;
use msrp::{ByteRange, ParseError, Path, TidMaker, Uri};
use parking_lot::{Mutex, RwLock};

use crate::hop::ConnId;
use crate::message::{SessionKey, Side};
use crate::outbox::{Flows, Outbox};

/// 128 random bits in hex (RFC 4975 §14.1).
pub type SessionId = [u8; 32];

const STRIPES: usize = 64;

/// Where MSRP is spoken: what our paths say.
#[derive(Clone, Debug)]
pub struct Place {
    /// Host as in a URI, IPv6 in brackets.
    pub host: String,
    /// The listener's port.
    pub port: u16,
}

type Entries = HashMap<SessionId, (Arc<Pair>, Side)>;

/// The forwarding table.
pub struct Switch {
    stripes: Box<[RwLock<Entries>]>,
    ids: IdMaker,
    pub(crate) tids: TidMaker,
    place: Option<Place>,
    dialer: OnceLock<LegDialer>,
    born: Instant,
}

/// Opens a connection for a leg and lends it to the outbox, later; `false`: it cannot be asked for now.
pub type LegDialer = Box<dyn Fn(Opened, Arc<Outbox>) -> bool + Send + Sync>;

/// The two legs of a session.
pub struct Pair {
    /// The session.
    pub owner: SessionKey,
    legs: [Leg; 2],
    /// Rises with every change that a reader must not miss.
    epoch: AtomicU32,
    /// When something came over it, milliseconds after `born`.
    heard_ms: AtomicU64,
    born: Instant,
}

struct Leg {
    id: SessionId,
    path: String,
    programmed: Mutex<Programmed>,
}

struct Programmed {
    /// Their path, whole, as their SDP gave it.
    their: Option<Bytes>,
    /// The way to them: of the connection that carries the leg, or of none yet.
    out: Arc<Outbox>,
    conn: Option<ConnId>,
}

/// Why a SEND may not use a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is bound to another connection (RFC 4975 §7.3: 506).
    Elsewhere,
    /// It comes from another path than the SDP named.
    Stranger,
}

/// What a reader needs to forward from one leg to the other; taken once, good until the epoch moves.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) pair: Arc<Pair>,
    pub(crate) side: Side,
    pub(crate) epoch: u32,
    /// To the other side: connection, its path, our URI there.
    pub(crate) peer: Arc<Outbox>,
    pub(crate) peer_path: Bytes,
    pub(crate) peer_own: Bytes,
    /// Back to this side: its path, our URI here.
    pub(crate) path: Bytes,
    pub(crate) own: Bytes,
}

impl Switch {
    /// Empty. Without a place nothing can be opened.
    pub fn new(ids: &IdMaker, place: Option<Place>) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| RwLock::default()).collect(),
            ids: IdMaker::new(ids.key()),
            tids: TidMaker::new(KeyedHash::new(ids.key())),
            place,
            dialer: OnceLock::new(),
            born: Instant::now(),
        }
    }

    /// Where MSRP is spoken here, if it is.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Opens a session: two legs with unguessable ids, over which nothing passes until their paths are known. Nothing
    /// where MSRP is not spoken.
    pub fn open(&self, owner: SessionKey) -> Option<Arc<Pair>> {
        let place = self.place.as_ref()?;
        let leg = || {
            let mut id = SessionId::default();
            id.copy_from_slice(self.ids.token().as_bytes());
            let mut path = Vec::with_capacity(96);
            msrp::session_uri(&mut path, msrp::Scheme::Msrp, &place.host, place.port, &id);
            // Until a connection carries it, what goes there waits in an outbox without a socket (decisions D9).
            let out = Outbox::new(ConnId(0), None);
            let programmed = Mutex::new(Programmed { their: None, out, conn: None });
            Leg { id, path: String::from_utf8_lossy(&path).into_owned(), programmed }
        };
        let pair = Arc::new(Pair {
            owner,
            legs: [leg(), leg()],
            epoch: AtomicU32::new(0),
            heard_ms: AtomicU64::new(millis(self.born.elapsed())),
            born: self.born,
        });
        for side in [Side::Caller, Side::Callee] {
            let id = pair.legs[side as usize].id;
            self.stripe(&id).write().insert(id, (pair.clone(), side));
        }
        Some(pair)
    }

    /// The session ends: its ids lead nowhere any more, and connections that carry no other are closed.
    pub fn close(&self, pair: &Pair) {
        for leg in &pair.legs {
            self.stripe(&leg.id).write().remove(&leg.id);
        }
        pair.epoch.fetch_add(1, Ordering::AcqRel);
        for leg in &pair.legs {
            let out = leg.programmed.lock().out.clone();
            leave(&out);
        }
    }

    /// Introduces who opens connections for sessions; once.
    pub fn introduce(&self, dialer: LegDialer) {
        let _ = self.dialer.set(dialer);
    }

    /// A new connection for a leg: what is sent waits for it. Nothing when nobody opens connections.
    fn dial(&self, opened: Opened, flows: &Flows) -> Option<Arc<Outbox>> {
        let dialer = self.dialer.get()?;
        let outbox = flows.open(None);
        if dialer(opened, outbox.clone()) {
            return Some(outbox);
        }
        flows.remove(outbox.id());
        None
    }

    /// Sessions that are open.
    pub fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.read().len()).sum::<usize>() / 2
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Legs that a connection carries.
    pub fn bound_legs(&self) -> usize {
        let bound = |entries: &Entries| entries.values().filter(|(pair, side)| pair.is_bound(*side)).count();
        self.stripes.iter().map(|stripe| bound(&stripe.read())).sum()
    }

    /// Whose session id this is.
    pub(crate) fn find(&self, id: &[u8]) -> Option<(Arc<Pair>, Side)> {
        let id = SessionId::try_from(id).ok()?;
        self.stripe(&id).read().get(&id).cloned()
    }

    fn stripe(&self, id: &SessionId) -> &RwLock<Entries> {
        // The ids are random: any octet of theirs spreads.
        &self.stripes[usize::from(id[0] ^ id[1].rotate_left(4) ^ id[2]) % STRIPES]
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Pair {
    /// Our path on this side: for the SDP that this side gets.
    pub fn our_path(&self, side: Side) -> &str {
        &self.legs[side as usize].path
    }

    /// What this side's SDP gives as its path; again when a new offer moves it.
    ///
    /// # Errors
    /// It is no path.
    pub fn set_their_path(&self, side: Side, path: &str) -> Result<(), ParseError> {
        Path::parse(path.as_bytes())?;
        let mut leg = self.legs[side as usize].programmed.lock();
        if leg.their.as_deref() == Some(path.as_bytes()) {
            return Ok(());
        }
        let before = leg.their.replace(Bytes::copy_from_slice(path.as_bytes()));
        let has_moved = before.is_some_and(|before| !same_first(&before, path.as_bytes()));
        // Who has moved connects anew; until then what is said to him waits, as before his first connection.
        let left = (has_moved && leg.conn.take().is_some())
            .then(|| std::mem::replace(&mut leg.out, Outbox::new(ConnId(0), None)));
        drop(leg);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        if let Some(left) = left {
            leave(&left);
        }
        Ok(())
    }

    /// We are the active one on this side (RFC 4975 §5.4, RFC 6135): a connection to the first URI of its path is opened,
    /// and an empty SEND binds the session there. Nothing when the address is no number, or nobody opens connections.
    pub fn connect(self: &Arc<Self>, side: Side, switch: &Switch, flows: &Flows) -> Option<()> {
        let leg = &self.legs[side as usize];
        let their = leg.programmed.lock().their.clone()?;
        let first = Path::parse(&their).ok()?.first().addr()?;
        let outbox = switch.dial(Opened { pair: self.clone(), side, peer: first }, flows)?;
        let (mut frame, tid) = (Vec::with_capacity(256), switch.tids.next());
        let id = switch.tids.next();
        msrp::send_head(
            &mut frame,
            &msrp::Send {
                tid: &tid,
                to_path: &their,
                from_path: leg.path.as_bytes(),
                message_id: id.as_bytes(),
                byte_range: ByteRange { start: 1, end: Some(0), total: Some(0) },
                success_report: false,
                failure_report: msrp::FailureReport::Yes,
                lines: b"",
                content_type: None,
            },
        );
        msrp::end_line(&mut frame, &tid, msrp::Flag::Complete, false);
        let mut held = outbox.hold();
        // It goes first, before what waits for the leg.
        held.queue(Bytes::from(frame));
        drop(held);
        self.bind_to(side, &outbox);
        Some(())
    }

    /// Whether a connection carries this leg.
    pub fn is_bound(&self, side: Side) -> bool {
        self.legs[side as usize].programmed.lock().conn.is_some()
    }

    /// When something came over either leg.
    pub fn last_heard(&self) -> Instant {
        self.born + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn hear(&self, now: Instant) {
        self.heard_ms.store(millis(now.saturating_duration_since(self.born)), Ordering::Relaxed);
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn id(&self, side: Side) -> &SessionId {
        &self.legs[side as usize].id
    }

    /// Binds a leg to the connection that its first SEND came by; `Ok(true)`: it is new there.
    pub(crate) fn bind(&self, side: Side, outbox: &Arc<Outbox>, from: &[u8]) -> Result<bool, Unfit> {
        let leg = self.legs[side as usize].programmed.lock();
        match leg.conn {
            Some(conn) if conn == outbox.id() => return Ok(false),
            Some(_) => return Err(Unfit::Elsewhere),
            None => {}
        }
        // RFC 4975 §7.3.1 step 1: the From-Path is the peer's that the SDP named.
        if let Some(their) = &leg.their
            && !same_first(their, from)
        {
            return Err(Unfit::Stranger);
        }
        drop(leg);
        self.bind_to(side, outbox);
        Ok(true)
    }

    fn bind_to(&self, side: Side, outbox: &Arc<Outbox>) {
        let mut leg = self.legs[side as usize].programmed.lock();
        let before = std::mem::replace(&mut leg.out, outbox.clone());
        leg.conn = Some(outbox.id());
        // Whoever forwards has the old outbox until it sees the epoch: what it leaves there in between is lost to nobody,
        // because the old one is closed under its lock and says so.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let mut held = outbox.hold();
        held.msrp().legs += 1;
        if !Arc::ptr_eq(&before, outbox) {
            held.take_over(&before, outbox);
        }
    }

    /// A leg's connection is gone; `false`: it was another's, or the leg has moved on.
    pub(crate) fn unbind(&self, side: Side, conn: ConnId) -> bool {
        let mut leg = self.legs[side as usize].programmed.lock();
        if leg.conn != Some(conn) {
            return false;
        }
        leg.conn = None;
        self.epoch.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// What is needed to forward what comes from `side`; nothing until both paths are known.
    pub(crate) fn route(self: &Arc<Self>, side: Side) -> Option<Route> {
        let epoch = self.epoch();
        let (path, own) = {
            let leg = &self.legs[side as usize];
            (leg.programmed.lock().their.clone()?, Bytes::copy_from_slice(leg.path.as_bytes()))
        };
        let other = &self.legs[side.other() as usize];
        let programmed = other.programmed.lock();
        Some(Route {
            pair: self.clone(),
            side,
            epoch,
            peer: programmed.out.clone(),
            peer_path: programmed.their.clone()?,
            peer_own: Bytes::copy_from_slice(other.path.as_bytes()),
            path,
            own,
        })
    }
}

/// A connection carries one leg less: without any it closes when what waits has left.
fn leave(out: &Outbox) {
    let mut held = out.hold();
    let left = held.msrp().legs.saturating_sub(1);
    held.msrp().legs = left;
    drop(held);
    if left == 0 {
        out.close_when_drained();
    }
}

fn same_first(path: &[u8], from: &[u8]) -> bool {
    let first = |text: &[u8]| text.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
    let (one, other) = (first(path), first(from));
    matches!((Uri::parse(&one), Uri::parse(&other)), (Ok(one), Ok(other)) if one.same_as(&other))
}

/// Where a connection that is opened for a leg leads: said to whoever opens it.
#[derive(Clone)]
pub struct Opened {
    /// The session.
    pub pair: Arc<Pair>,
    /// Its leg.
    pub side: Side,
    /// To whom.
    pub peer: SocketAddr,
}

#[cfg(test)]
mod tests;
