//! The world: phones, the network between them and the house, the disk, and lives of the house one after another. A test
//! says what people do and when; the world plays it, always in the same way from the same seed.

mod wires;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_rt::{System, SystemRunner};
use actors::Config;
use actors::config::ListenerName;
use actors::locator::Names;
use actors::message::Offer;
use actors::metrics::Count;
use actors::supervise::Fall;
use base::{Aor, Partitions};
use sip::Layout;
use sip::digest::Ha1;
use storage::engine::memory::Memory;
use storage::{Account, Store};

use crate::bus::Bus;
use crate::clock;
use crate::conn::Conn;
use crate::dice::Dice;
use crate::disk::Temper;
use crate::house::{self, Life};
use crate::judge::{End, judge};
use crate::net::Weather;
use crate::phone::Phone;
use crate::phone_words as words;
use crate::reference::{Kind, Promise, Reference};

/// Where the house is.
const HOUSE: &str = "192.0.2.1:5060";

/// Something that happens at a time.
pub enum Event {
    /// A datagram comes to the house.
    ToHouse(SocketAddr, Vec<u8>),
    /// A datagram comes to a phone.
    ToPhone(usize, Vec<u8>),
    /// Octets of a connection come to the house; none: its end.
    StreamIn(usize, Vec<u8>),
    /// Octets of a connection come to its phone; none: its end.
    StreamOut(usize, Vec<u8>),
    /// A connection's socket has room again.
    Room(usize),
    /// What a test or a script wants.
    Do(Box<dyn FnOnce(&mut World)>),
}

/// Everything.
pub struct World {
    /// What made it.
    pub seed: u64,
    /// What a test did to it besides, for who must play it again.
    pub story: String,
    /// Chance.
    pub dice: Dice,
    /// The network.
    pub weather: Weather,
    /// The disk, as it will be in the next life; [`World::set_disk`] changes it in this one.
    pub temper: Temper,
    /// The house's settings.
    pub config: Config,
    /// Who knows the names of hosts, from the next life on.
    pub names: Option<Arc<dyn Names>>,
    /// The phones.
    pub phones: Vec<Phone>,
    /// What was promised.
    pub reference: Reference,
    /// This life, if the house lives.
    pub life: Option<Life>,
    /// What the house has sent to addresses where no phone is.
    pub strangers: Vec<Vec<u8>>,
    /// Datagrams of phones, if somebody listens on the wire.
    pub tap: Option<Vec<Vec<u8>>>,
    /// Streams of these phones are cut after so many octets, and again.
    cuts: Vec<(usize, usize)>,
    /// What survives a kill.
    memory: Memory,
    runner: Option<SystemRunner>,
    lives: Vec<(u64, u64)>,
    rested: bool,
    unsound: bool,
    unsure: bool,
    disk_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    conns: Vec<Conn>,
    layout: Box<Layout>,
    users: usize,
}

impl World {
    /// A house, and nobody there but its subscribers.
    pub fn new(seed: u64, users: usize) -> Self {
        clock::reset();
        let partitions = Partitions::new(4);
        let udp = vec![ListenerName { sent_by: HOUSE.into(), is_v6: false }];
        let config = Config {
            udp,
            tcp: ListenerName { sent_by: HOUSE.into(), is_v6: false },
            challenges_per_source: 0,
            ..Config::default()
        };
        let memory = Memory::new(partitions, Arc::new(clock::Wall));
        let world = Self {
            seed,
            story: String::new(),
            dice: Dice::new(seed),
            weather: Weather::calm(),
            temper: Temper::calm(),
            config,
            names: None,
            phones: Vec::new(),
            reference: Reference::default(),
            life: None,
            strangers: Vec::new(),
            tap: None,
            cuts: Vec::new(),
            memory,
            runner: None,
            lives: Vec::new(),
            rested: false,
            unsound: false,
            unsure: false,
            disk_ms: 3_000,
            events: BTreeMap::new(),
            order: 0,
            conns: Vec::new(),
            layout: Box::default(),
            users,
        };
        let store = world.store();
        for user in 0..users {
            store.put_account(account(user), true).wait().expect("an empty store takes an account");
        }
        world
    }

    /// What is written, read past the disk.
    pub fn store(&self) -> Store {
        Store::over(Arc::new(self.memory.clone()), Arc::new(clock::Wall))
    }

    /// A new phone of a user.
    pub fn phone(&mut self, user: usize, is_tcp: bool) -> usize {
        let number = self.phones.len();
        let dice = self.dice.fork();
        self.phones.push(Phone::new(number, user, is_tcp, dice));
        number
    }

    // ---- lives

    /// The house begins to live.
    pub fn start(&mut self) {
        let runner = System::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime without drivers can be made")
        });
        let number = u32::try_from(self.lives.len()).unwrap_or(u32::MAX) + 1;
        let bus = Bus::default();
        self.reference.life = number;
        self.lives.push((clock::world_ms(), u64::MAX));
        let (memory, temper, config) = (self.memory.clone(), self.temper.clone(), self.config.clone());
        let (dice, names) = (&mut self.dice, self.names.clone());
        self.life = Some(runner.block_on(async { Life::begin(&memory, dice, temper, config, names, bus) }));
        self.runner = Some(runner);
    }

    /// Kills it where it stands, as `kill -9` does or as the loss of power does.
    pub fn kill(&mut self) {
        let Some(life) = self.life.take() else { return };
        life.bus.kill();
        life.disk.cut_off();
        self.unsure |= life.disk.unsure() > 0;
        self.unsound = true;
        if let Some(runner) = self.runner.take() {
            runner.block_on(async { clock::end_life() });
            drop(life);
            drop(runner);
        }
        house::forget_the_dead();
        let now = clock::world_ms();
        if let Some(last) = self.lives.last_mut() {
            last.1 = now;
        }
        for at in 0..self.conns.len() {
            if !std::mem::replace(&mut self.conns[at].ended, true) {
                self.at(now + 5, Event::StreamOut(at, Vec::new()));
            }
        }
        self.check_bindings();
    }

    /// Decisions D8: a binding that was acknowledged is on the disk.
    pub fn check_bindings(&mut self) {
        let (store, now) = (self.store(), clock::world_ms());
        let latest_ms = clock::latest_unix_ms();
        for number in 0..self.phones.len() {
            let (user, contact) = (self.phones[number].user, self.phones[number].contact());
            let stored = store.bindings(&aor(user)).wait().unwrap_or_default();
            // What was over once is nobody's promise, though a clock that was set back shows it again.
            let over = |until_s: u64| until_s * 1_000 <= latest_ms;
            let stands = stored.iter().any(|binding| binding.contact == contact && !over(binding.expires_unix_s));
            match self.reference.promise(number) {
                Promise::Bound(until_s) if !over(until_s) && !stands => {
                    self.reference.fault(now, &format!("phone {number} was told that it is registered, and is not"));
                }
                Promise::Gone if stands => {
                    self.reference.fault(now, &format!("phone {number} is registered, and was never told so"));
                }
                _ => {}
            }
        }
    }

    /// Requests may have been answered 503 though what they asked for was done.
    pub fn note_unsure(&mut self) {
        (self.unsound, self.unsure) = (true, true);
    }

    /// The disk behaves so from now on.
    pub fn set_disk(&mut self, temper: Temper) {
        self.unsound |= temper.failing > 0 || temper.blind > 0 || temper.full || temper.stalled_until_ms > 0;
        self.unsure |= temper.failing > 0 || temper.stalled_until_ms > 0;
        self.disk_ms = self.disk_ms.max(4 * temper.write_ms.end + 4 * temper.read_ms.end);
        if temper.stalled_until_ms > 0 {
            self.disk_ms = self.disk_ms.max(10_000);
        }
        if let Some(life) = &self.life {
            life.disk.set(temper.clone());
        }
        self.temper = temper;
    }

    // ---- time

    /// World time.
    pub fn now(&self) -> u64 {
        clock::world_ms()
    }

    /// Something happens at a time.
    pub fn at(&mut self, at_ms: u64, event: Event) {
        self.order += 1;
        self.events.insert((at_ms, self.order), event);
    }

    /// A test's or a script's wish.
    pub fn at_do(&mut self, at_ms: u64, what: impl FnOnce(&mut World) + 'static) {
        self.at(at_ms, Event::Do(Box::new(what)));
    }

    /// Plays on for so long, dead or alive.
    pub fn run(&mut self, for_ms: u64) {
        let until = clock::world_ms() + for_ms;
        while clock::world_ms() < until {
            match self.runner.take() {
                Some(runner) => {
                    runner.block_on(self.live(until));
                    self.runner = Some(runner);
                    if self.life.as_ref().is_some_and(|life| life.bus.is_dead()) {
                        self.kill();
                        let down_ms = self.dice.within(200..4_000);
                        self.at_do(clock::world_ms() + down_ms, World::start);
                    }
                }
                None => self.lie_dead(until),
            }
        }
    }

    /// Until a condition holds; a fault if it does not within so long.
    pub fn run_until(&mut self, what: &str, within_ms: u64, holds: impl Fn(&World) -> bool) {
        let until = clock::world_ms() + within_ms;
        while !holds(self) {
            assert!(clock::world_ms() < until, "seed {}: not within {within_ms} ms: {what}", self.seed);
            self.run(1);
        }
    }

    async fn live(&mut self, until: u64) {
        let Some(bus) = self.life.as_ref().map(|life| life.bus.clone()) else { return };
        loop {
            self.collect();
            if bus.is_dead() {
                return;
            }
            let now = clock::world_ms();
            if self.happen(now) {
                if self.life.is_none() {
                    return;
                }
                for _ in 0..self.dice.below(4) {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            if now >= until {
                return;
            }
            let next = self.next_ms().min(until).max(now);
            tokio::select! {
                biased;
                () = bus.rung() => {}
                () = tokio::time::sleep_until(clock::runtime_at(next)) => {}
            }
        }
    }

    fn lie_dead(&mut self, until: u64) {
        while self.runner.is_none() {
            if self.happen(clock::world_ms()) {
                continue;
            }
            let next = self.next_ms();
            clock::pass_to(next.min(until));
            if next > until {
                return;
            }
        }
    }

    fn next_ms(&self) -> u64 {
        let event = self.events.keys().next().map(|(at, _)| *at);
        let disk = self.life.as_ref().and_then(|life| life.disk.next_ms());
        let phones = self.phones.iter().filter_map(Phone::next_ms);
        phones.chain(event).chain(disk).min().unwrap_or(u64::MAX)
    }

    /// One thing that is due. `false`: nothing is.
    fn happen(&mut self, now: u64) -> bool {
        if let Some(life) = &self.life
            && life.disk.turn(now)
        {
            return true;
        }
        if let Some(number) = self.phones.iter().position(|phone| phone.next_ms().is_some_and(|at| at <= now)) {
            self.phones[number].ring(&mut self.reference, now);
            self.post(number);
            return true;
        }
        let Some(first) = self.events.first_entry().filter(|first| first.key().0 <= now) else { return false };
        match first.remove() {
            Event::ToHouse(from, bytes) => self.reach_house(from, &bytes),
            Event::ToPhone(number, bytes) => self.reach_phone(number, &bytes),
            Event::StreamIn(at, octets) => self.stream_in(at, &octets),
            Event::StreamOut(at, octets) => self.stream_out(at, &octets),
            Event::Room(at) => {
                self.conns[at].pipe.widen();
                if !self.conns[at].ended && self.conns[at].outbox.flush().is_err() {
                    self.end_conn(at);
                }
            }
            Event::Do(what) => what(self),
        }
        true
    }

    // ---- what people do

    /// A phone registers for so many seconds; 0: leaves.
    pub fn register(&mut self, number: usize, expires_s: u32) {
        let now = clock::world_ms();
        self.phones[number].register(expires_s, &mut self.reference, now);
        self.post(number);
    }

    /// Somebody says something on a phone; its number.
    pub fn say(&mut self, number: usize, to: usize, kind: Kind, expires_s: Option<u32>) -> usize {
        self.say_more(number, to, kind, expires_s, 0)
    }

    /// The same with so many octets more.
    pub fn say_more(&mut self, number: usize, to: usize, kind: Kind, expires_s: Option<u32>, padding: usize) -> usize {
        let now = clock::world_ms();
        let said = self.reference.say(self.phones[number].user, to, kind, expires_s, now);
        self.reference.said[said].padding = padding;
        self.phones[number].say(said, &mut self.reference, now);
        self.post(number);
        said
    }

    /// How many lives there were.
    pub fn lives(&self) -> usize {
        self.lives.len()
    }

    /// How many subscribers there are.
    pub fn users(&self) -> usize {
        self.users
    }

    /// What a phone writes to its connection arrives in pieces of so many octets.
    pub fn cut_at(&mut self, number: usize, after: usize) {
        self.cuts.push((number, after));
    }

    /// Who stands at this path of the tree falls.
    pub fn fall(&self, path: &[&str]) {
        if let Some(life) = &self.life {
            life.tree.root.do_send(Fall::at(path));
        }
    }

    /// The next turn of the house that sends a datagram panics.
    pub fn panic_at_flush(&mut self) {
        if let Some(life) = &self.life {
            life.out.panic_at_flush.set(true);
        }
    }

    /// Whether the root of the tree has given up.
    pub fn has_fallen(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.out.fallen.get())
    }

    /// The engine ends under the house.
    pub fn close_store(&mut self) {
        let _ = storage::Engine::close(&self.memory).wait();
    }

    /// What the house has counted in this life.
    pub fn count(&self, what: Count) -> u64 {
        self.life.as_ref().map_or(0, |life| life.house.metrics.get(what))
    }

    /// What the sender of a message heard in the end.
    pub fn heard(&self, said: usize) -> Option<u16> {
        self.reference.said(said).heard.last().and_then(|(_, _, status)| *status)
    }

    /// The phones that have taken a message, in the order of their answers.
    pub fn taken_by(&self, said: usize) -> Vec<usize> {
        let offers = self.reference.said(said).offers.iter();
        offers
            .filter_map(|offer| offer.answered.filter(|(_, _, status)| *status < 300).map(|(_, phone, _)| phone))
            .collect()
    }

    /// Letters that wait for a user, by their numbers, in their order.
    pub fn waiting(&self, user: usize) -> Vec<usize> {
        let letters = self.store().letters(&aor(user), 0, 10_000).wait().unwrap_or_default();
        letters.iter().filter_map(|letter| words::number_of(&letter.body)).collect()
    }

    /// Something is offered to a user's actor.
    pub fn offer(&mut self, user: usize, offer: Offer) {
        if let Some(life) = &self.life {
            life.house.registry.offer(aor(user), offer);
        }
    }

    // ---- the end

    /// The sea is calm, everybody is there and answers; after two minutes all that could be done is done.
    pub fn come_to_rest(&mut self) {
        self.weather = Weather::calm();
        self.set_disk(Temper::calm());
        if self.life.is_none() && !self.events.values().any(|event| matches!(event, Event::Do(_))) {
            self.start();
        }
        let now = clock::world_ms();
        for number in 0..self.phones.len() {
            let phone = &mut self.phones[number];
            (phone.online, phone.manner) = (true, crate::phone::Manner::default());
            // What is still on its way must not be overtaken by what the phone says now.
            self.at_do(now + 45_000, move |world| world.register(number, 3_600));
        }
        self.run(190_000);
        self.rested = true;
    }

    /// What the world looks like now, for the judgement.
    pub fn end(&self) -> End {
        let store = self.store();
        let mut letters = Vec::new();
        for user in 0..self.users {
            for letter in store.letters(&aor(user), 0, 10_000).wait().unwrap_or_default() {
                letters.extend(words::number_of(&letter.body).map(|number| (user, number)));
            }
        }
        for expired in store.expired_letters(10_000).wait().unwrap_or_default() {
            let user = (0..self.users).find(|user| aor(*user) == expired.owner).unwrap_or(usize::MAX);
            letters.extend(words::number_of(&expired.letter.body).map(|number| (user, number)));
        }
        let owned = |user: usize| self.phones.iter().filter(move |phone| phone.user == user);
        let rests = |phone: &Phone| self.rested && matches!(self.reference.promise(phone.number), Promise::Bound(_));
        End {
            unix_ms: clock::unix_ms(),
            latest_unix_ms: clock::latest_unix_ms(),
            letters,
            lives: self.lives.clone(),
            reachable: (0..self.users)
                .filter(|user| owned(*user).next().is_some() && owned(*user).all(rests))
                .collect(),
            single: (0..self.users).filter(|user| owned(*user).count() == 1).collect(),
            is_narrow: self.config.letters_per_user < 100,
            is_sound: !self.unsound,
            is_unsure: self.unsure || self.life.as_ref().is_some_and(|life| life.disk.unsure() > 0),
            letter_expiry_s: self.config.letter_expiry_s,
            disk_ms: self.disk_ms,
        }
    }

    /// Fails, and says how to play it again, when anything is wrong.
    pub fn judge(&mut self) {
        self.check_bindings();
        let faults = judge(&self.reference, &self.end());
        let mut numbers: Vec<usize> = faults.iter().take(6).flat_map(|fault| words::numbers_in(fault)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut stories: Vec<String> = numbers.into_iter().map(|number| self.reference.story(number)).collect();
        stories.push(self.reference.registers());
        assert!(
            faults.is_empty(),
            "seed {seed} (PARLOUR_SIM_SEED={seed} plays it again) {}: {} faults\n{}\n{}",
            self.story,
            faults.len(),
            faults.iter().take(12).cloned().collect::<Vec<_>>().join("\n"),
            stories.join("\n"),
            seed = self.seed
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The next world on this thread must not find anything of this one.
        if self.life.is_some() {
            self.kill();
        }
    }
}

/// A user's address.
pub fn aor(user: usize) -> Aor {
    Aor::parse(&words::aor(user)).expect("a valid address")
}

fn account(user: usize) -> Account {
    let ha1 = Ha1::of(&format!("u{user}"), words::DOMAIN, words::PASSWORD);
    Account {
        aor: aor(user),
        ha1_sha256: ha1.sha256,
        ha1_md5: ha1.md5,
        realm: words::DOMAIN.into(),
        aliases: vec![Aor::parse(&words::alias(user)).expect("a valid number")],
        login: None,
        services: "all".into(),
        history_limit: None,
    }
}
