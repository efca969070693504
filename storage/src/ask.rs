//! A question to the store whose answer comes later: a future, or a blocking wait.
//!
//! Nobody waits on the disk inside an actor. On a thread that has a [`Desk`] the answers to one group commit come as one
//! batch with one wake (decisions D22); elsewhere each answer wakes its asker directly. An [`Ask`] may be dropped: what
//! was asked for is done all the same.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use parking_lot::Mutex;

use crate::desk::Desk;
use crate::error::StoreError;

/// An answer that will come: `.await` it, or [`Ask::wait`] for it on a thread that may block.
#[must_use = "the answer says whether it lasts"]
pub struct Ask<T>(Inner<T>);

enum Inner<T> {
    Ready(Option<Result<T, StoreError>>),
    Slot(Arc<Slot<T>>),
    Later(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>),
}

// Nothing in it is ever pinned in place: what needs it is in a box of its own.
impl<T> Unpin for Ask<T> {}

thread_local! {
    /// Whether this thread sleeps until an answer comes: then it cannot serve its desk.
    static WAITING: Cell<bool> = const { Cell::new(false) };
}

impl<T> Ask<T> {
    /// An answer that is there already.
    pub fn ready(answer: Result<T, StoreError>) -> Self {
        Self(Inner::Ready(Some(answer)))
    }

    /// What a future will say.
    pub fn later(future: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Self {
        Self(Inner::Later(Box::pin(future)))
    }

    /// What a thread of its own will say: for work of seconds.
    pub(crate) fn on_thread(name: &str, work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Self
    where
        T: Send + 'static,
    {
        let (ask, reply) = Self::open();
        let started = std::thread::Builder::new().name(name.into()).spawn(move || {
            let mut answers = Answers::default();
            reply.send(work(), &mut answers);
            answers.deliver();
        });
        match started {
            Ok(_) => ask,
            Err(error) => Self::ready(Err(StoreError::disk(format!("no thread for {name}: {error}")))),
        }
    }

    /// An open question and the way to answer it. The answer goes over the desk of the calling thread, if it has one.
    pub(crate) fn open() -> (Self, Reply<T>) {
        let slot =
            Arc::new(Slot { state: Mutex::new(State::Waiting { waker: None, direct: false }), desk: Desk::here() });
        (Self(Inner::Slot(Arc::clone(&slot))), Reply(Some(slot)))
    }

    /// The same question with its answer seen through `view`.
    pub fn map<U>(self, view: impl FnOnce(Result<T, StoreError>) -> Result<U, StoreError> + Send + 'static) -> Ask<U>
    where
        T: Send + 'static,
    {
        match self.0 {
            Inner::Ready(Some(answer)) => Ask::ready(view(answer)),
            inner => Ask::later(async move { view(Ask(inner).await) }),
        }
    }

    /// Blocks this thread until the answer is there. Not for shard threads at work: for start, end and commands.
    pub fn wait(mut self) -> Result<T, StoreError> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let before = WAITING.replace(true);
        let answer = loop {
            match Pin::new(&mut self).poll(&mut context) {
                Poll::Ready(answer) => break answer,
                Poll::Pending => std::thread::park(),
            }
        };
        WAITING.set(before);
        answer
    }
}

impl<T> Future for Ask<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            // Polled again after its answer: a fault of the caller's, answered as such and not by a panic.
            Inner::Ready(answer) => Poll::Ready(answer.take().unwrap_or(Err(StoreError::Closed))),
            Inner::Slot(slot) => slot.poll(context),
            Inner::Later(future) => future.as_mut().poll(context),
        }
    }
}

/// Where an answer lies until it is fetched.
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    desk: Option<Desk>,
}

enum State<T> {
    /// `direct`: the asker sleeps, or left the thread of the desk; wake it without the desk.
    Waiting {
        waker: Option<Waker>,
        direct: bool,
    },
    Done(Result<T, StoreError>),
    Taken,
}

impl<T> Slot<T> {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<T, StoreError>> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(answer) => Poll::Ready(answer),
            State::Taken => Poll::Ready(Err(StoreError::Closed)),
            State::Waiting { .. } => {
                let direct = WAITING.get();
                *state = State::Waiting { waker: Some(context.waker().clone()), direct };
                Poll::Pending
            }
        }
    }
}

/// The answering side of an [`Ask`]. Dropped without an answer, it says [`StoreError::Closed`].
pub(crate) struct Reply<T>(Option<Arc<Slot<T>>>);

impl<T> Reply<T> {
    /// Puts the answer down; its asker is woken when `answers` are delivered.
    pub(crate) fn send(mut self, answer: Result<T, StoreError>, answers: &mut Answers) {
        if let Some(slot) = self.0.take() {
            settle(&slot, answer, answers);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            let mut answers = Answers::default();
            settle(&slot, Err(StoreError::Closed), &mut answers);
            answers.deliver();
        }
    }
}

fn settle<T>(slot: &Slot<T>, answer: Result<T, StoreError>, answers: &mut Answers) {
    let before = std::mem::replace(&mut *slot.state.lock(), State::Done(answer));
    if let State::Waiting { waker: Some(waker), direct } = before {
        match &slot.desk {
            Some(desk) if !direct => answers.at_desk(desk, waker),
            _ => answers.direct.push(waker),
        }
    }
}

/// Wakers of one group, by desk: each desk gets its share at once and is woken once.
#[derive(Default)]
pub(crate) struct Answers {
    desks: Vec<(Desk, Vec<Waker>)>,
    direct: Vec<Waker>,
}

impl Answers {
    fn at_desk(&mut self, desk: &Desk, waker: Waker) {
        match self.desks.iter_mut().find(|(known, _)| known.is(desk)) {
            Some((_, wakers)) => wakers.push(waker),
            None => self.desks.push((desk.clone(), vec![waker])),
        }
    }

    /// Wakes everybody: one wake a desk.
    pub(crate) fn deliver(&mut self) {
        for (desk, wakers) in self.desks.drain(..) {
            desk.hand_over(wakers);
        }
        self.direct.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_wakes_a_thread_that_waits_for_it() {
        let (ask, reply) = Ask::open();
        let answering = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            let mut answers = Answers::default();
            reply.send(Ok(7), &mut answers);
            answers.deliver();
        });
        assert_eq!(ask.map(|n: Result<i32, _>| n.map(|n| n + 1)).wait(), Ok(8));
        answering.join().unwrap();
    }

    #[test]
    fn a_question_that_nobody_will_answer_is_closed() {
        let (ask, reply) = Ask::<u8>::open();
        drop(reply);
        assert_eq!(ask.wait(), Err(StoreError::Closed));
    }

    #[test]
    fn an_answer_to_a_dropped_question_is_fine() {
        let (ask, reply) = Ask::open();
        drop(ask);
        let mut answers = Answers::default();
        reply.send(Ok(1), &mut answers);
        answers.deliver();
        assert!(answers.direct.is_empty());
    }
}
