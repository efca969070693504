//! Somebody at a client: the library of `parlour-client`, each call waiting for its outcome.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base::Aor;
use client::{
    Account, Binding, Client, ClientError, Event, Inbox, Incoming, Options, Outgoing, Receipt, Sent, Transport,
};
use support::Node;
use tokio::runtime::Runtime;

use crate::house::{self, PATIENCE};

/// One client of one user. Dropped, it goes without a word, as a phone whose battery is empty.
pub struct Person {
    client: Client,
    inbox: Inbox,
    /// Heard and not yet asked for.
    heard: VecDeque<Event>,
}

impl Person {
    /// A client that has not registered.
    pub fn new(node: &Node, user: &str, transport: Transport) -> Self {
        Self::with(node, user, transport, Options::default())
    }

    /// The same with other manners.
    pub fn with(node: &Node, user: &str, transport: Transport, options: Options) -> Self {
        let account = Account::new(address(user), &house::password(user), node.sip(), transport);
        let connected = runtime().block_on(Client::connect(account, options));
        let (client, inbox) = connected.unwrap_or_else(|fault| panic!("{user}: {fault}"));
        Self { client, inbox, heard: VecDeque::new() }
    }

    /// A client that is there.
    pub fn online(node: &Node, user: &str, transport: Transport) -> Self {
        let person = Self::new(node, user, transport);
        person.register();
        person
    }

    /// Registers, which must succeed.
    pub fn register(&self) -> Binding {
        let outcome = runtime().block_on(self.client.register());
        outcome.unwrap_or_else(|fault| panic!("{} does not register: {fault}", self.client.aor()))
    }

    /// Takes the binding back.
    pub fn unregister(&self) {
        let had_one = runtime().block_on(self.client.unregister());
        assert!(had_one.is_ok_and(|had_one| had_one), "{} had no binding to take back", self.client.aor());
    }

    /// Sends a message and gives the final answer.
    pub fn says(&self, to: &str, what: Outgoing) -> Sent {
        self.tries(to, what).unwrap_or_else(|fault| panic!("{} writes to {to}: {fault}", self.client.aor()))
    }

    /// Sends a text.
    pub fn writes(&self, to: &str, text: &str) -> Sent {
        self.says(to, Outgoing::text(text))
    }

    /// Sends a message that may fail.
    pub fn tries(&self, to: &str, what: Outgoing) -> Result<Sent, ClientError> {
        runtime().block_on(self.client.message(&address(to), what))
    }

    /// The next message, with everything before it that is none kept for later.
    pub fn hears(&mut self) -> Incoming {
        let message = self.next(PATIENCE, |event| matches!(event, Event::Message(_)));
        match message {
            Some(Event::Message(message)) => *message,
            _ => panic!("no message came to {} in {PATIENCE:?}; but {:?}", self.client.aor(), self.heard),
        }
    }

    /// The texts of the next messages.
    pub fn hears_texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.hears().text.unwrap_or_default()).collect()
    }

    /// The next notification.
    pub fn hears_receipt(&mut self) -> Receipt {
        let receipt = self.next(PATIENCE, |event| matches!(event, Event::Receipt(_)));
        match receipt {
            Some(Event::Receipt(receipt)) => receipt,
            _ => panic!("no notification came to {} in {PATIENCE:?}; but {:?}", self.client.aor(), self.heard),
        }
    }

    /// Sees that nothing that a person would see comes for so long.
    pub fn hears_nothing(&mut self, for_so_long: Duration) {
        if let Some(event) = self.next(for_so_long, |_| true) {
            panic!("nothing was due for {}, and this came: {event:?}", self.client.aor());
        }
    }

    fn next(&mut self, within: Duration, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        let end = Instant::now() + within;
        loop {
            if let Some(at) = self.heard.iter().position(&wanted) {
                return self.heard.remove(at);
            }
            let left = end.checked_duration_since(Instant::now())?;
            let next = runtime().block_on(async { tokio::time::timeout(left, self.inbox.recv()).await });
            self.heard.push_back(next.ok()??);
        }
    }
}

/// `alice` or a whole address.
pub fn address(user: &str) -> Aor {
    let text = if user.contains(':') { user.to_owned() } else { house::aor(user) };
    Aor::parse(&text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

/// One for all tests of a process; its one thread lets clients answer while a test waits for something else.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let start = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    RUNTIME.get_or_init(|| start().expect("the system gives a thread"))
}
