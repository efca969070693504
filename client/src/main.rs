//! `parlour-client`: an IM client for a terminal and for scripts, on the library of this crate.

mod terminal;

use std::process::ExitCode;

use clap::Parser;

use terminal::args::Arguments;
use terminal::faults::ProgramError;
use terminal::screen::Screen;
use terminal::{password, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status: 0 success, 1 the thing asked for failed, 2 usage.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new(arguments.json);
    match work(arguments, &screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.fault(&error);
            error.code()
        }
    }
}

fn work(arguments: Arguments, screen: &Screen) -> Result<(), ProgramError> {
    let password = password::get(&arguments.login, &arguments.aor)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|reason| ProgramError::File { what: "starting".to_owned(), reason })?;
    let done = runtime.block_on(run::run(arguments, password, screen));
    // Nothing that still runs is worth waiting for: a name being looked up, a line being typed.
    runtime.shutdown_background();
    done
}
