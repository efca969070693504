//! Where the answers for one thread arrive: as one batch and one wake, however many of its questions a group answers.
//!
//! A shard calls [`Desk::attach`] once on its thread and spawns [`Desk::run`] there. Questions asked on that thread are
//! woken from within `run`, on the thread itself, so that a commit of 512 letters costs a shard one wake-up and not 512.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// The desk of a thread. Clones are the same desk.
#[derive(Clone)]
pub struct Desk(Arc<Mutex<Tray>>);

/// What lies on it.
#[derive(Default)]
struct Tray {
    batches: Vec<Vec<Waker>>,
    clerk: Option<Waker>,
    /// Nobody serves it any more: askers are woken directly.
    closed: bool,
}

thread_local! {
    static HERE: RefCell<Option<Desk>> = const { RefCell::new(None) };
}

impl Desk {
    /// Gives the calling thread a desk: questions asked on this thread from now on are answered over it.
    pub fn attach() -> Self {
        let desk = Self(Arc::new(Mutex::new(Tray::default())));
        HERE.with_borrow_mut(|here| *here = Some(desk.clone()));
        desk
    }

    /// The desk of the calling thread.
    pub(crate) fn here() -> Option<Self> {
        HERE.try_with(|here| here.borrow().clone()).ok().flatten()
    }

    /// Serves the desk for ever: to be spawned on its thread. When it is dropped, askers are woken directly.
    pub fn run(self) -> impl Future<Output = ()> {
        let served = Served(self);
        poll_fn(move |context| {
            loop {
                let batches = {
                    let mut tray = served.0.0.lock();
                    if tray.batches.is_empty() {
                        match &mut tray.clerk {
                            Some(clerk) => clerk.clone_from(context.waker()),
                            none => *none = Some(context.waker().clone()),
                        }
                        return Poll::Pending;
                    }
                    std::mem::take(&mut tray.batches)
                };
                batches.into_iter().flatten().for_each(Waker::wake);
            }
        })
    }

    /// Whether both are one desk.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// One batch, one wake.
    pub(crate) fn hand_over(&self, wakers: Vec<Waker>) {
        let clerk = {
            let mut tray = self.0.lock();
            if tray.closed {
                drop(tray);
                return wakers.into_iter().for_each(Waker::wake);
            }
            tray.batches.push(wakers);
            tray.clerk.take()
        };
        if let Some(clerk) = clerk {
            clerk.wake();
        }
    }
}

/// Closes the desk when nobody serves it any more.
struct Served(Desk);

impl Drop for Served {
    fn drop(&mut self) {
        let batches = {
            let mut tray = self.0.0.lock();
            tray.closed = true;
            std::mem::take(&mut tray.batches)
        };
        batches.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;
    use crate::ask::{Answers, Ask};
    use crate::error::StoreError;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_answers_of_one_group_wake_a_desk_once_and_each_asker_from_there() {
        let desk = Desk::attach();
        let (clerk, askers) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (clerk_waker, asker_waker) = (Waker::from(Arc::clone(&clerk)), Waker::from(Arc::clone(&askers)));
        let mut run = pin!(desk.run());
        assert!(run.as_mut().poll(&mut Context::from_waker(&clerk_waker)).is_pending());

        let (mut asks, replies): (Vec<_>, Vec<_>) = (0..100).map(|_| Ask::<u8>::open()).unzip();
        for ask in &mut asks {
            assert!(pin!(ask).poll(&mut Context::from_waker(&asker_waker)).is_pending());
        }
        let mut answers = Answers::default();
        replies.into_iter().for_each(|reply| reply.send(Ok(1), &mut answers));
        answers.deliver();
        assert_eq!((clerk.0.load(Ordering::SeqCst), askers.0.load(Ordering::SeqCst)), (1, 0));

        assert!(run.as_mut().poll(&mut Context::from_waker(&clerk_waker)).is_pending());
        assert_eq!((clerk.0.load(Ordering::SeqCst), askers.0.load(Ordering::SeqCst)), (1, 100));
        assert!(asks.into_iter().all(|ask| ask.wait() == Ok(1)));
    }

    #[test]
    fn a_thread_with_a_desk_may_still_wait_for_an_answer() {
        let _unserved = Desk::attach();
        let (ask, reply) = Ask::<u8>::open();
        let answering = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(reply);
        });
        assert_eq!(ask.wait(), Err(StoreError::Closed));
        answering.join().unwrap();
    }

    #[test]
    fn a_desk_that_nobody_serves_any_more_wakes_directly() {
        let desk = Desk::attach();
        let askers = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&askers));
        drop(Served(desk.clone()));
        desk.hand_over(vec![waker]);
        assert_eq!(askers.0.load(Ordering::SeqCst), 1);
    }
}
