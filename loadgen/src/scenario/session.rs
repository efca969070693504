//! Sessions of two through the server: set up by INVITE, then both say as much as the window lets them, then BYE.
//! Every octet is checked, and every message has an end: delivered, reported failed, or lost with its connection.
//!
//! Without SIP the same load runs over a blind relay ([`Route::Direct`]) or an MSRP relay ([`Route::Auth`]): the limit
//! and a peer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::crowd::Event;
use crate::flight::Errand;
use crate::interrupt;
use crate::plan::{Load, Route};
use crate::scenario::{RunError, Stand};
use crate::stream;
use crate::talk::{End, Speech, Talk, auth};

/// Sessions that are set up at once.
const SETUP_AT_ONCE: usize = 64;
/// The other side of a connection answers within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a turn of the sessions sleeps: so often SIP and the progress have theirs.
const TURN: Duration = Duration::from_millis(20);

/// Plays it.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    let plan = stand.plan;
    let mut sessions = Sessions::new(stand)?;
    let pairs = u32::try_from(plan.pairs).unwrap_or(u32::MAX);
    if plan.route == Route::Invite {
        register(stand, pairs)?;
    }
    sessions.set_up(stand, pairs, None)?;
    sessions.talk.speak(true);
    sessions.talk_for(stand, plan.warmup, "warming up")?;
    stand.watch.begin(stand.crowd, "session", "SEND")?;
    sessions.talk_for(stand, plan.duration, "talking")?;
    stand.watch.end(stand.crowd)?;
    sessions.talk.speak(false);
    sessions.drain(stand)?;
    sessions.hang_up(stand)
}

/// Registers the users whom so many sessions need.
pub(super) fn register(stand: &mut Stand<'_>, pairs: u32) -> Result<(), RunError> {
    let users = pairs.saturating_mul(2).min(stand.crowd.size() & !1);
    stand.register_afresh(0..users)
}

/// The sessions of a run.
pub(super) struct Sessions {
    pub talk: Talk,
    /// Calls by pair.
    calls: Vec<u32>,
    windows: [usize; 2],
}

impl Sessions {
    pub fn new(stand: &Stand<'_>) -> Result<Self, RunError> {
        let plan = stand.plan;
        let speech = Speech { chunk_bytes: plan.chunk_bytes, failure_report: plan.failure_report.into() };
        let talk = Talk::new(stand.crowd.run(), speech, plan.body_bytes, plan.seed)?;
        let in_flight = match plan.load {
            Load::InFlight(count) => count,
            Load::Rate(_) => 16,
        };
        let callee = if plan.one_way { 0 } else { in_flight / 2 };
        Ok(Self { talk, calls: Vec::new(), windows: [in_flight - callee, callee] })
    }

    /// Callees of sessions set up from now on say nothing.
    pub fn callers_only(&mut self) {
        self.windows = [self.windows[0] + self.windows[1], 0];
    }

    /// Sets sessions up by the plan's route, each end of them with a quota of messages, and waits until all are known
    /// to the server.
    pub fn set_up(&mut self, stand: &mut Stand<'_>, count: u32, quota: Option<u64>) -> Result<(), RunError> {
        let first = self.calls.len();
        match stand.plan.route {
            Route::Invite => self.invite(stand, count, quota)?,
            Route::Direct => self.connect_through(stand, count, quota)?,
            Route::Auth => self.ask_relay(stand, count, quota)?,
        }
        let begun = Instant::now();
        let (all, ready) = (first + count as usize, |talk: &Talk, pair| talk.is_ready(pair));
        while let Some(pair) = (first..all).find(|pair| !ready(&self.talk, *pair)) {
            self.turn(stand, TURN)?;
            let tally = self.talk.tally();
            if begun.elapsed() > PATIENCE || tally.closed + tally.refused_hellos > 0 {
                let first = format!("session {pair}: its empty SEND was not answered 200; {}", tally.text());
                return Err(RunError::Sessions { failed: 1, of: u64::from(count), first });
            }
        }
        Ok(())
    }

    fn invite(&mut self, stand: &mut Stand<'_>, count: u32, quota: Option<u64>) -> Result<(), RunError> {
        let size = stand.crowd.size() & !1;
        let (mut begun, mut ended, mut failed, mut first) = (0, 0, 0_u64, String::new());
        let base = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        let mut answered = Vec::new();
        while ended < count {
            while begun < count && (begun - ended) < SETUP_AT_ONCE as u32 {
                let caller = 2 * (base + begun) % size;
                let now_ns = stand.crowd.now_ns();
                stand.crowd.invite(caller, caller + 1, now_ns);
                begun += 1;
            }
            let now_ns = stand.crowd.now_ns();
            stand.turn(now_ns + 1_000_000, |_, _, event| {
                if let Event::Done { errand: Errand::Invite { call, .. }, status, .. } = event {
                    answered.push((*call, *status));
                }
            })?;
            for (call, status) in answered.drain(..) {
                ended += 1;
                let opened = if status == 200 {
                    self.open(stand, call, quota).map_err(|error| error.to_string())
                } else {
                    Err(format!("INVITE answered {status}"))
                };
                if let Err(error) = opened {
                    first = if failed == 0 { error } else { first };
                    failed += 1;
                }
            }
            // Whoever has a session says so at once: the server waits for its connections (decisions D9).
            self.turn_alone(stand, Duration::ZERO)?;
            stand.watch.tick(stand.crowd, "setting up", u64::from(ended), u64::from(count));
        }
        if failed > 0 {
            return Err(RunError::Sessions { failed, of: u64::from(count), first });
        }
        Ok(())
    }

    /// Connects both ends of a call that was answered; the number of their pair.
    pub fn open(&mut self, stand: &mut Stand<'_>, call: u32, quota: Option<u64>) -> io::Result<usize> {
        let ends = stand.crowd.ends(call).ok_or(io::ErrorKind::NotFound)?;
        let sockets = [socket_to(stand, &ends[0].1, 0)?, socket_to(stand, &ends[1].1, 1)?];
        let [caller, callee] = sockets;
        let end = |socket, at: usize, window| End {
            socket,
            own: ends[at].0.as_bytes(),
            to: ends[at].1.as_bytes(),
            window,
            hello: true,
        };
        let pair = self.talk.add([end(caller, 0, self.windows[0]), end(callee, 1, self.windows[1])], quota)?;
        if pair >= self.calls.len() {
            self.calls.resize(pair + 1, u32::MAX);
        }
        self.calls[pair] = call;
        Ok(pair)
    }

    /// Callers connect to the server, which is blind, and callees accept what it opens.
    fn connect_through(&mut self, stand: &mut Stand<'_>, count: u32, quota: Option<u64>) -> Result<(), RunError> {
        let Some(at) = stand.plan.receivers_at else { return Err(io::Error::from(io::ErrorKind::InvalidInput).into()) };
        let door = stream::listener(at)?;
        door.set_nonblocking(true)?;
        for n in 0..count {
            let caller = TcpStream::connect(stand.plan.server)?;
            let callee = accept(&door)?;
            let (own, to) = (format!("msrp://{}/a{n};tcp", caller.local_addr()?), format!("msrp://{at}/b{n};tcp"));
            let end = |socket, own, to, window, hello| End { socket, own, to, window, hello };
            let caller = end(caller, own.as_bytes(), to.as_bytes(), self.windows[0], true);
            let callee = end(callee, to.as_bytes(), own.as_bytes(), self.windows[1], false);
            self.talk.add([caller, callee], quota)?;
            self.calls.push(u32::MAX);
        }
        Ok(())
    }

    /// Both ends have a URI at one relay: each sends to the relay's URI of the other, and the other's own behind it.
    fn ask_relay(&mut self, stand: &mut Stand<'_>, count: u32, quota: Option<u64>) -> Result<(), RunError> {
        let server = stand.plan.server;
        let relay = format!("msrp://{server};tcp");
        for n in 0..count {
            let mut ends = Vec::new();
            for side in ['a', 'b'] {
                let mut socket = TcpStream::connect(server)?;
                let own = format!("msrp://{}/{side}{n};tcp", socket.local_addr()?);
                let user = format!("{}{n}", stand.plan.user_prefix);
                let path = auth::use_path(&mut socket, &relay, &own, &user, &stand.plan.password)?;
                ends.push((socket, own, path));
            }
            let (Some(callee), Some(caller)) = (ends.pop(), ends.pop()) else { continue };
            let (to_callee, to_caller) = (format!("{} {}", callee.2, callee.1), format!("{} {}", caller.2, caller.1));
            let end = |socket, own, to, window| End { socket, own, to, window, hello: false };
            let windows = self.windows;
            self.talk.add(
                [
                    end(caller.0, caller.1.as_bytes(), to_callee.as_bytes(), windows[0]),
                    end(callee.0, callee.1.as_bytes(), to_caller.as_bytes(), windows[1]),
                ],
                quota,
            )?;
            self.calls.push(u32::MAX);
        }
        Ok(())
    }

    /// One turn of the sessions, of which only the account tells.
    pub fn talk_once(&mut self, wait: Duration) -> Result<(), RunError> {
        self.talk.turn(wait)?;
        self.talk.take_over();
        Ok(())
    }

    /// One turn of the sessions alone.
    pub fn turn_alone(&mut self, stand: &mut Stand<'_>, wait: Duration) -> Result<(), RunError> {
        interrupt::check()?;
        let before = self.talk.octets();
        self.talk.turn(wait)?;
        match self.talk.octets() - before {
            0 => {}
            heard => stand.watch.octets(heard),
        }
        for over in self.talk.take_over() {
            stand.watch.unit(Some(over.latency_ns));
        }
        Ok(())
    }

    /// One turn of the sessions, and SIP has one too.
    pub fn turn(&mut self, stand: &mut Stand<'_>, wait: Duration) -> Result<(), RunError> {
        self.turn_alone(stand, wait)?;
        stand.turn(0, |_, _, _| {})
    }

    /// Talks for so long.
    pub fn talk_for(&mut self, stand: &mut Stand<'_>, time: Duration, doing: &str) -> Result<(), RunError> {
        let begun = Instant::now();
        let mut turned = begun;
        loop {
            self.turn_alone(stand, TURN)?;
            let past = begun.elapsed();
            if past >= time {
                return Ok(());
            }
            if turned.elapsed() >= TURN {
                turned = Instant::now();
                stand.turn(0, |_, _, _| {})?;
                let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                stand.watch.tick(stand.crowd, doing, millis(past), millis(time));
            }
        }
    }

    /// Waits until all that was begun has ended, at most the plan's time for it.
    pub fn drain(&mut self, stand: &mut Stand<'_>) -> Result<(), RunError> {
        let begun = Instant::now();
        while self.talk.under_way() > 0 && begun.elapsed() < stand.plan.drain {
            self.turn(stand, TURN)?;
            let under_way = self.talk.under_way();
            stand.watch.tick(stand.crowd, "waiting for what was said", 0, under_way);
        }
        Ok(())
    }

    /// Ends all sessions by BYE, and the account.
    pub fn hang_up(&mut self, stand: &mut Stand<'_>) -> Result<(), RunError> {
        self.talk.end();
        let mut waiting = self.calls.iter().copied().filter(|call| *call != u32::MAX).collect::<Vec<_>>();
        let of = waiting.len() as u64;
        let mut ended = 0;
        while ended < of {
            while stand.crowd.under_way() < SETUP_AT_ONCE
                && let Some(call) = waiting.pop()
            {
                let now_ns = stand.crowd.now_ns();
                stand.crowd.bye(call, now_ns);
            }
            self.turn_alone(stand, Duration::ZERO)?;
            let now_ns = stand.crowd.now_ns();
            stand.turn(now_ns + 5_000_000, |watch, crowd, event| {
                if let Event::Done { errand: Errand::Bye { call, .. }, status, .. } = event {
                    ended += 1;
                    watch.outcome(*status, &[200]);
                    crowd.forget(*call);
                }
            })?;
            stand.watch.tick(stand.crowd, "hanging up", ended, of);
        }
        let begun = Instant::now();
        while stand.crowd.byes() < of && begun.elapsed() < Duration::from_secs(5) {
            self.turn(stand, TURN)?;
        }
        if stand.crowd.byes() < of {
            stand
                .watch
                .note(format!("only {} of {of} callees were told that their session is over", stand.crowd.byes()));
        }
        self.account(stand);
        Ok(())
    }

    /// What was said goes into the report.
    pub fn account(&mut self, stand: &mut Stand<'_>) {
        let mut tally = self.talk.tally();
        tally.byes = stand.crowd.byes();
        stand.watch.talked(tally);
    }
}

/// A connection to the first URI of a path. On loopback the two sides come from different addresses: a server may count
/// the connections of one.
fn socket_to(stand: &Stand<'_>, path: &str, side: u8) -> io::Result<TcpStream> {
    let first = path.split(' ').next().unwrap_or_default();
    let uri = msrp::Uri::parse(first.as_bytes()).map_err(io::Error::other)?;
    // A server that names itself by name is the one that we know.
    let port = uri.port.unwrap_or(2_855);
    let at = uri.addr().unwrap_or_else(|| SocketAddr::new(stand.plan.server.ip(), port));
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && side > 0 {
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into())?;
    }
    socket.connect_timeout(&at.into(), PATIENCE)?;
    Ok(socket.into())
}

fn accept(door: &TcpListener) -> io::Result<TcpStream> {
    let begun = Instant::now();
    loop {
        match door.accept() {
            Ok((socket, _)) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(error),
        }
    }
}
