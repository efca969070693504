//! `parlour try`: the newcomer's command. A server of its own on free loopback ports, three users, and the main job played
//! over real sockets: register, a message to who is here, a message to who is away with `kill -9` of the server in between, a
//! session with text both ways and a picture.
//! One readable line a step, below it what went over the wire.

mod child;
mod session;
mod wire;

use std::time::Duration;

use base::Aor;
use client::{Account, Client, Inbox, Incoming, Options, Outgoing, Transport};

use crate::commands::Failure;
use crate::say;
use child::Child;
use wire::Wire;

/// How long a step may take on a busy machine.
const STEP: Duration = Duration::from_secs(20);
/// Nothing may come for this long where nothing should.
const QUIET: Duration = Duration::from_millis(1_500);
/// Who plays, with which password.
const PLAYERS: [(&str, &str); 3] = [("alice", "wonderland"), ("bob", "builder"), ("carol", "carillon")];

/// Plays the main job against a server of its own; with `exit` it ends after the steps.
///
/// # Errors
/// A step was not seen to work.
pub fn run(exit: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut child = Child::start()?;
        say::out(format!("Parlour {} on loopback, data in {}", crate::version::VERSION, child.dir().display()));
        play(&mut child).await?;
        if exit {
            return child.stop();
        }
        invite(&child);
        tokio::signal::ctrl_c().await?;
        child.stop()
    })
}

async fn play(child: &mut Child) -> Result<(), Failure> {
    let mut steps = Steps::default();
    child.add_users(&PLAYERS)?;
    steps.done("users", "alice, bob and carol are subscribers of example.com");

    let wire = Wire::default();
    let (alice, _alice_hears) = phone(child, 0, Transport::Udp, &wire).await?;
    let (bob, mut bob_hears) = phone(child, 1, Transport::Tcp, &wire).await?;
    let bound = alice.register().await?;
    bob.register().await?;
    steps.done(
        "register",
        &format!("alice by UDP, bob by TCP; bindings last {} s and are on the disk", bound.expires.as_secs()),
    );
    wire.show();

    let sent = alice.message(&aor(1)?, Outgoing::text("Hello Bob")).await?;
    expect("the message to bob", sent.status, 200)?;
    let heard = hear(&mut bob_hears, "bob").await?;
    same("what bob hears", heard.text.as_deref(), "Hello Bob")?;
    steps.done("message", "alice to bob, who is here: relayed, and answered 200 by bob himself");
    wire.show();

    let sent = alice.message(&aor(2)?, Outgoing::text("See you at eight")).await?;
    expect("the message to carol", sent.status, 202)?;
    steps.done("offline message", "alice to carol, who is away: stored, synced to the disk, then answered 202");
    wire.show();

    let pid = child.kill_and_restart()?;
    steps.done("kill -9", &format!("the server (process {pid}) is killed and started again on the same data"));

    let (carol, mut carol_hears) = phone(child, 2, Transport::Udp, &wire).await?;
    carol.register().await?;
    let letter = hear(&mut carol_hears, "carol").await?;
    same("what carol hears", letter.text.as_deref(), "See you at eight")?;
    same("who it is from", Some(letter.from.as_str()), aor(0)?.as_str())?;
    steps.done("delivered", "carol registers, and the stored message comes, with its sender and its time");
    wire.show();

    carol.register().await?;
    if tokio::time::timeout(QUIET, carol_hears.message()).await.is_ok() {
        return Err(Failure::new("carol got the stored message twice"));
    }
    steps.done("once", "carol registers again: nothing comes a second time");

    // The server forgot their connections with its death: they come again.
    alice.register().await?;
    bob.register().await?;
    wire.forget();
    session::play(&mut steps, &wire, &alice, &bob, &mut bob_hears, child.dir().join("received")).await?;
    for phone in [alice, bob, carol] {
        // The server forgot the others' connections with its death: how they part is their own business.
        phone.leave().await;
    }
    Ok(())
}

async fn phone(child: &Child, who: usize, transport: Transport, wire: &Wire) -> Result<(Client, Inbox), Failure> {
    let (name, password) = PLAYERS[who];
    let account = Account::new(aor(who)?, password, child.sip(), transport);
    let (tap, msrp_tap) = (Some(wire.tap(name)), Some(wire.msrp_tap(name)));
    let options = Options { tap, msrp_tap, ..Options::default() };
    Ok(Client::connect(account, options).await?)
}

async fn hear(inbox: &mut Inbox, who: &str) -> Result<Incoming, Failure> {
    let heard = tokio::time::timeout(STEP, inbox.message()).await;
    heard.ok().flatten().ok_or_else(|| Failure::new(format!("{who} heard nothing within {} s", STEP.as_secs())))
}

fn aor(who: usize) -> Result<Aor, Failure> {
    Ok(Aor::new(PLAYERS[who].0, "example.com")?)
}

fn expect(what: &str, got: u16, wanted: u16) -> Result<(), Failure> {
    if got == wanted { Ok(()) } else { Err(Failure::new(format!("{what} was answered {got}, not {wanted}"))) }
}

fn same(what: &str, got: Option<&str>, wanted: &str) -> Result<(), Failure> {
    if got == Some(wanted) { Ok(()) } else { Err(Failure::new(format!("{what} is {got:?}, not {wanted:?}"))) }
}

/// Numbers the steps that were seen to work.
#[derive(Default)]
struct Steps(u32);

impl Steps {
    fn done(&mut self, name: &str, what: &str) {
        self.0 += 1;
        say::out(format!("\n{}. {name}: {what}", self.0));
    }
}

fn invite(child: &Child) {
    say::out("\nThe server stays. Join it from other terminals:");
    for (name, password) in PLAYERS {
        say::out(format!(
            "  PARLOUR_PASSWORD={password} parlour-client --aor sip:{name}@example.com --server {}",
            child.sip()
        ));
    }
    say::out(format!("  curl http://{}/metrics", child.admin()));
    say::out(format!(
        "  curl -H \"Authorization: Bearer $(cat {})\" http://{}/tree",
        child.token_file().display(),
        child.admin()
    ));
    say::out("Ctrl-C ends it and removes its data.");
}
