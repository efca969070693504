//! Letters to receivers who are away, while the server is killed with -9 at random moments and started again; then
//! everybody registers, and every letter that was answered 202 must come, none twice in effect.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::crowd::{Crowd, Event};
use crate::flight::Errand;
use crate::scenario::{RunError, Stand, letter, messages};
use crate::watch::SECOND_NS;

/// The longest between a kill and the next start, nanoseconds.
const DOWN_NS: u64 = SECOND_NS / 2;
/// A kill falls at most this long behind the message at which it was rolled.
const JITTER_NS: u64 = SECOND_NS / 200;
/// While letters are owed, receivers register again this often, as phones do.
const AGAIN_NS: u64 = 15 * SECOND_NS;

/// The server, started by us, killed by us, started again.
struct Victim<'a> {
    command: &'a str,
    child: Option<Child>,
    start_ns: u64,
    /// How often it was killed.
    kills: u32,
}

impl<'a> Victim<'a> {
    fn new(command: &'a str) -> Self {
        Self { command, child: None, start_ns: 0, kills: 0 }
    }

    /// Starts it when it is time to, and sees that it lives. Whether it was started now.
    fn tend(&mut self, now_ns: u64) -> Result<bool, RunError> {
        match &mut self.child {
            Some(child) => match child.try_wait()? {
                // POSIX sh §2.8.2: there is no such program, or it is none.
                Some(status) if matches!(status.code(), Some(126 | 127)) => {
                    Err(RunError::NoServer { command: in_place_of_the_shell(self.command), status })
                }
                Some(status) => Err(RunError::ServerEnded(status)),
                None => Ok(false),
            },
            None if now_ns >= self.start_ns => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &in_place_of_the_shell(self.command)]);
                shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                self.child = Some(shell.spawn()?);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// kill -9; it is started again after `down_ns`.
    fn kill(&mut self, now_ns: u64, down_ns: u64) -> Result<(), RunError> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
            self.kills += 1;
            self.start_ns = now_ns + down_ns;
        }
        Ok(())
    }
}

/// The process that we kill is to be the server, not a shell above it.
fn in_place_of_the_shell(command: &str) -> String {
    let mut program = command.trim_start();
    while let Some(rest) = program.strip_prefix("exec ") {
        program = rest.trim_start();
    }
    // `exec` takes no variables before the program; `env` does.
    let sets_variables = program.split_whitespace().next().is_some_and(|word| word.contains('='));
    format!("exec {}{program}", if sets_variables { "env " } else { "" })
}

impl Drop for Victim<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The moments of killing: when so many letters have been counted, and a little later.
struct Moments {
    counts: Vec<u64>,
    at_ns: Option<u64>,
}

impl Moments {
    /// `kills` random counts of `of`, in order.
    fn roll(crowd: &mut Crowd, kills: u32, of: u64) -> Self {
        let mut counts: Vec<u64> = (0..kills).map(|_| 1 + crowd.dice().below(of.saturating_sub(1))).collect();
        counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
        Self { counts, at_ns: None }
    }

    /// Whether no kill is left.
    fn are_over(&self) -> bool {
        self.counts.is_empty() && self.at_ns.is_none()
    }

    /// Whether to kill now.
    fn now(&mut self, crowd: &mut Crowd, counted: u64) -> bool {
        let now_ns = crowd.now_ns();
        if self.at_ns.is_none() && self.counts.last().is_some_and(|count| counted >= *count) {
            self.counts.pop();
            self.at_ns = Some(now_ns + crowd.dice().below(JITTER_NS));
        }
        self.at_ns.take_if(|at| *at <= now_ns).is_some()
    }
}

/// Plays it.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    let command = stand.plan.start_command.clone().unwrap_or_default();
    let mut victim = Victim::new(&command);
    victim.tend(0)?;
    let everybody = 0..stand.crowd.size();
    stand.register_while(everybody.clone(), 0, || victim.tend(0).map(|_| ()))?;

    let wanted = messages(stand.plan);
    let mut moments = Moments::roll(stand.crowd, stand.plan.kills, wanted);
    let mut pace = stand.plan.load.pace(stand.crowd.now_ns());
    let mut number = 0;
    while stand.ledger.accepted() < wanted || stand.crowd.under_way() > 0 || !moments.are_over() {
        tend(stand, &mut victim, &mut moments, |stand| stand.ledger.accepted())?;
        while stand.ledger.accepted() + (stand.crowd.under_way() as u64) < wanted
            && let Some(due_ns) = pace.take(stand.crowd.now_ns(), stand.crowd.under_way())
        {
            let errand = letter(stand.crowd, number);
            stand.crowd.begin(errand, due_ns);
            number += 1;
        }
        let until_ns = pace.next_ns().unwrap_or(u64::MAX).min(moments.at_ns.unwrap_or(u64::MAX));
        // A kill may leave a request with 503 or without an answer: nothing was promised then, and it is no error.
        stand.turn(until_ns, |watch, _, event| {
            if let Event::Done { status, .. } = event {
                watch.outcome(*status, &[202, 503, 0]);
            }
        })?;
        stand.watch.tick(stand.crowd, "storing", stand.ledger.accepted(), wanted);
    }
    let (accepted, storing) = (stand.ledger.accepted(), victim.kills);
    stand.watch.note(format!("{accepted} of {number} messages were answered 202; killed {storing} times meanwhile"));

    let mut moments = Moments::roll(stand.crowd, stand.plan.kills_delivering, stand.ledger.owed());
    let patience_ns = u64::try_from(stand.plan.drain.as_nanos()).unwrap_or(u64::MAX);
    let (mut waiting, mut again_ns, mut last) =
        (everybody.clone(), stand.crowd.now_ns() + AGAIN_NS, Progress::new(stand));
    while stand.ledger.owed() > 0 && stand.crowd.now_ns() - last.at_ns < patience_ns {
        let started = tend(stand, &mut victim, &mut moments, |stand| stand.ledger.delivered())?;
        if started || stand.crowd.now_ns() >= again_ns {
            waiting = everybody.clone();
            again_ns = stand.crowd.now_ns() + AGAIN_NS;
        }
        while stand.crowd.under_way() < 64
            && let Some(user) = waiting.next()
        {
            let now_ns = stand.crowd.now_ns();
            stand.crowd.begin(Errand::Register { user, expires: stand.plan.expires }, now_ns);
        }
        stand.turn(moments.at_ns.unwrap_or(u64::MAX), |_, _, _| {})?;
        last.look(stand);
        let owed = stand.ledger.owed();
        stand.watch.tick(stand.crowd, "delivering", accepted.saturating_sub(owed), accepted);
    }
    let kills = victim.kills - storing;
    stand.watch.note(format!("killed {kills} times while they were delivered"));
    stand.drain()
}

/// Kills or starts the server, when it is time; whether it was started.
fn tend(
    stand: &mut Stand<'_>,
    victim: &mut Victim<'_>,
    moments: &mut Moments,
    counted: impl Fn(&Stand<'_>) -> u64,
) -> Result<bool, RunError> {
    let counted = counted(stand);
    let now_ns = stand.crowd.now_ns();
    if victim.child.is_some() && moments.now(stand.crowd, counted) {
        let down_ns = stand.crowd.dice().below(DOWN_NS);
        victim.kill(now_ns, down_ns)?;
        let (at, down) = (Duration::from_nanos(now_ns), Duration::from_nanos(down_ns));
        stand.watch.note(format!("kill -9 at {at:.3?}, letter {counted}; down for {down:.0?}"));
    }
    let started = victim.tend(now_ns)?;
    if started {
        stand.watch.look_at(victim.child.as_ref().map(Child::id))?;
    }
    Ok(started)
}

/// When the last letter came.
struct Progress {
    owed: u64,
    at_ns: u64,
}

impl Progress {
    fn new(stand: &Stand<'_>) -> Self {
        Self { owed: stand.ledger.owed(), at_ns: stand.crowd.now_ns() }
    }

    fn look(&mut self, stand: &Stand<'_>) {
        if stand.ledger.owed() < self.owed {
            *self = Self::new(stand);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_takes_the_place_of_its_shell_however_it_is_written() {
        for (command, run) in [
            ("parlour serve", "exec parlour serve"),
            ("exec parlour serve", "exec parlour serve"),
            ("  exec  exec parlour serve", "exec parlour serve"),
            ("A=b C='d e' parlour serve", "exec env A=b C='d e' parlour serve"),
            ("executor --now", "exec executor --now"),
        ] {
            assert_eq!(in_place_of_the_shell(command), run, "{command}");
        }
    }
}
