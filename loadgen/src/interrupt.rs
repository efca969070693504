//! Asked to end (SIGINT, SIGTERM), a run ends what it started and removes what it wrote: scenarios look here once a turn,
//! and give up as if they had met a fault. A second signal ends the program on the spot.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

static CAME: AtomicBool = AtomicBool::new(false);

/// What a shell makes of a program that SIGINT ended.
const ENDED: i32 = 130;

/// From now on the two signals do not end the program by themselves.
///
/// # Errors
/// The system gives no thread, or no place for signals.
pub fn listen() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if CAME.swap(true, Ordering::Relaxed) {
                    std::process::exit(ENDED);
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Whether one of them has come.
pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// An error, if one of them has come.
///
/// # Errors
/// Just that.
pub fn check() -> io::Result<()> {
    if came() {
        let what = "ended by a signal: what was started has been ended, and what was written removed";
        return Err(io::Error::new(io::ErrorKind::Interrupted, what));
    }
    Ok(())
}
