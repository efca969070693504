//! The judgement: what the reference has seen, held against what was promised.

use base::limits::{LETTER_EXPIRY_S, SILENCE};

use crate::reference::{Entered, Kind, Offered, Reference, Said};

/// How a world ended.
pub struct End {
    /// The wall clock.
    pub unix_ms: u64,
    /// The latest that it ever showed.
    pub latest_unix_ms: u64,
    /// Numbers of what lies in the store, and for whom.
    pub letters: Vec<(usize, usize)>,
    /// Begin and end of each life, in world time.
    pub lives: Vec<(u64, u64)>,
    /// Users who could be reached, calmly and for long enough: nothing may wait for them any more.
    pub reachable: Vec<usize>,
    /// Users with one phone: their letters have one order.
    pub single: Vec<usize>,
    /// A mailbox may have been full: then notices for its owner are its losers.
    pub is_narrow: bool,
    /// Nothing was killed, nothing fell, and the disk never failed: then notices are owed too.
    pub is_sound: bool,
    /// Whether the disk said that it failed when it had written, or a commit's asker died before its answer.
    pub is_unsure: bool,
    /// How long a letter waits when its sender names no time, seconds.
    pub letter_expiry_s: u64,
    /// How long the disk may have taken to answer, milliseconds; what waited for it longer is excused.
    pub disk_ms: u64,
}

impl Default for End {
    fn default() -> Self {
        Self {
            unix_ms: 0,
            latest_unix_ms: 0,
            letters: Vec::new(),
            lives: Vec::new(),
            reachable: Vec::new(),
            single: Vec::new(),
            is_narrow: false,
            is_sound: true,
            is_unsure: false,
            letter_expiry_s: LETTER_EXPIRY_S,
            disk_ms: 3_000,
        }
    }
}

/// Everything that is wrong.
pub fn judge(reference: &Reference, end: &End) -> Vec<String> {
    let mut faults = reference.faults.clone();
    for said in &reference.said {
        nothing_kept_is_lost(said, end, &mut faults);
        nothing_refused_is_delivered(said, end, &mut faults);
        nothing_expired_is_delivered(said, end, &mut faults);
        nothing_answered_is_sent_again(said, end, &mut faults);
        everybody_is_answered(said, end, &mut faults);
    }
    letters_keep_their_order(reference, end, &mut faults);
    notices_are_told_once(reference, end, &mut faults);
    faults
}

impl Said {
    /// When the house first answered so.
    pub fn promised_ms(&self, status: u16) -> Option<u64> {
        let answers = self.entered.iter().filter_map(|entered| entered.answer);
        answers.filter(|(_, given)| *given == status).map(|(at, _)| at).min()
    }

    /// Its requests that were more than challenged.
    fn heeded(&self) -> impl Iterator<Item = &Entered> {
        self.entered.iter().filter(|entered| !matches!(entered.answer, Some((_, 401 | 407))))
    }

    /// When it is over, by the wall clock, milliseconds: at the latest.
    fn over_unix_ms(&self, end: &End) -> u64 {
        let last = self.heeded().map(|entered| entered.unix_ms).max().unwrap_or(0);
        let asked_s = self.expires_s.map_or(end.letter_expiry_s, |asked| u64::from(asked).min(end.letter_expiry_s));
        last + asked_s * 1_000 + 1_000
    }

    /// The same, at the soonest.
    fn soonest_over_unix_ms(&self, end: &End) -> u64 {
        let first = self.heeded().map(|entered| entered.unix_ms).min().unwrap_or(0);
        first + self.expires_s.map_or(end.letter_expiry_s, |asked| u64::from(asked).min(end.letter_expiry_s)) * 1_000
    }

    /// Offers that a phone answered so.
    fn answered(&self, is: impl Fn(u16) -> bool) -> impl Iterator<Item = (&Offered, u64)> {
        self.offers.iter().filter_map(move |offer| {
            let (at, _, status) = offer.answered?;
            is(status).then_some((offer, at))
        })
    }

    fn was_taken(&self) -> bool {
        self.answered(is_taken).next().is_some()
    }

    fn was_refused(&self) -> bool {
        self.answered(|status| !is_taken(status) && !is_passing(status)).next().is_some()
    }
}

fn is_taken(status: u16) -> bool {
    matches!(status, 200..300 | 482)
}

fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 430 | 480 | 486 | 491 | 500 | 502 | 503 | 504)
}

/// Architecture §4: what was answered 202 is delivered, refused by its receiver, over, or still there; what was answered
/// 200 was taken.
fn nothing_kept_is_lost(said: &Said, end: &End, faults: &mut Vec<String>) {
    let number = said.number;
    if said.promised_ms(200).is_some() && !said.was_taken() {
        faults.push(format!("#{number} was answered 200, and nobody has it"));
    }
    if said.promised_ms(202).is_none() {
        return;
    }
    let is_there = end.letters.contains(&(said.to, number));
    let is_over = end.latest_unix_ms + 1_000 >= said.soonest_over_unix_ms(end);
    if !(said.was_taken() || said.was_refused() || is_over || is_there) {
        faults.push(format!("#{number} was answered 202, and is lost"));
    }
    if is_there && end.reachable.contains(&said.to) {
        faults.push(format!("#{number} still waits, though its receiver has been there for long"));
    }
    if is_there && end.unix_ms >= said.over_unix_ms(end) + 20_000 {
        faults.push(format!("#{number} is over for long, and still in the store"));
    }
}

/// Architecture §4: nothing is delivered that was refused. A 503 leaves the outcome open where the disk did (D22).
fn nothing_refused_is_delivered(said: &Said, end: &End, faults: &mut Vec<String>) {
    let mut last_ms = 0;
    for entered in said.entered.iter().filter(|entered| entered.credentials) {
        match entered.answer {
            Some((_, 401 | 407)) => {}
            Some((_, 503)) if end.is_unsure => return,
            Some((at, 300..)) => last_ms = last_ms.max(at),
            Some(_) => return,
            // Killed before the answer: nobody was told anything.
            None => return,
        }
    }
    for offer in said.offers.iter().filter(|offer| offer.first_ms > last_ms && last_ms > 0) {
        faults.push(format!("#{} was refused at {last_ms} ms, and sent on at {} ms", said.number, offer.first_ms));
    }
    let typing_ms = said.entered.iter().map(|entered| entered.at_ms).max().unwrap_or(0) + 26_000;
    if said.kind == Kind::Typing
        && let Some(offer) = said.offers.iter().find(|offer| offer.first_ms > typing_ms)
    {
        faults.push(format!("typing #{} was sent on at {} ms, long after it came", said.number, offer.first_ms));
    }
}

/// RFC 3428 §7, D4: a letter whose time is over is not delivered.
fn nothing_expired_is_delivered(said: &Said, end: &End, faults: &mut Vec<String>) {
    let Some(kept_ms) = said.promised_ms(202) else { return };
    for offer in said.offers.iter().filter(|offer| offer.first_ms > kept_ms) {
        let queued_ms = if offer.by_stream { 10_000 } else { 0 };
        if offer.unix_ms >= said.over_unix_ms(end) + queued_ms {
            faults.push(format!("#{} was over, and sent on at {} ms", said.number, offer.first_ms));
        }
    }
}

/// D3, D4: once the house has heard that a message was taken, it does not send it again, unless its sender does.
fn nothing_answered_is_sent_again(said: &Said, end: &End, faults: &mut Vec<String>) {
    // Among several phones a letter's round may be under way when another says that he has it.
    if !end.is_sound || !end.single.contains(&said.to) {
        return;
    }
    if said.heeded().count() > 1 {
        return;
    }
    for (offer, _) in said.answered(is_taken) {
        let Some(returned_ms) = offer.returned_ms.filter(|at| *at < offer.first_ms + 31_000) else { continue };
        // What left by a connection may have waited for the socket since before.
        let is_again = |other: &&Offered| {
            (other.to, other.life) == (offer.to, offer.life) && other.first_ms > returned_ms && !other.by_stream
        };
        let again = said.offers.iter().find(is_again);
        if let Some(again) = again {
            faults.push(format!(
                "#{}: the house heard at {returned_ms} ms that it was taken, and sent it again at {} ms",
                said.number, again.first_ms
            ));
        }
    }
}

/// RFC 4320 §2.2, D4: every request is answered before its sender's timer F, if the house lives so long.
fn everybody_is_answered(said: &Said, end: &End, faults: &mut Vec<String>) {
    let patience_ms = 25_000 + u64::try_from(SILENCE.as_millis()).unwrap_or(0) / 10 + end.disk_ms;
    for entered in &said.entered {
        let by_ms = entered.at_ms + patience_ms;
        let lived = end.lives.iter().any(|(begin, over)| (*begin..*over).contains(&entered.at_ms) && *over > by_ms);
        let broke = entered.broke_ms.is_some_and(|at| at <= by_ms);
        let answered = broke || entered.answer.is_some_and(|(at, _)| at <= by_ms);
        if lived && !answered {
            faults.push(format!(
                "#{} came at {} ms, and its answer was {:?}",
                said.number, entered.at_ms, entered.answer
            ));
        }
    }
}

/// D1: what was kept before another message of the same sender came is delivered before it.
fn letters_keep_their_order(reference: &Reference, end: &End, faults: &mut Vec<String>) {
    for first in &reference.said {
        let Some(kept_ms) = first.promised_ms(202) else { continue };
        // A letter that was refused has left; what of it comes later was under way.
        if !end.single.contains(&first.to) || first.kind == Kind::Typing || first.was_refused() {
            continue;
        }
        // What was taken was on the screen when it came, however late the phone said so.
        let Some(taken_ms) = first.answered(is_taken).filter_map(|(offer, _)| offer.arrived_ms).min() else { continue };
        for second in &reference.said[first.number + 1..] {
            let is_pair = (second.from, second.to) == (first.from, first.to) && second.kind != Kind::Typing;
            // What must not be kept cannot stand in line (RFC 3428 §7).
            let is_pair = is_pair && second.expires_s != Some(0);
            let after = second.entered.iter().map(|entered| entered.at_ms).min().is_some_and(|at| at > kept_ms);
            let over = |offer: &Offered| offer.latest_unix_ms + 1_000 >= first.soonest_over_unix_ms(end);
            let second_ms =
                second.answered(is_taken).filter(|(offer, _)| !over(offer)).filter_map(|(offer, _)| offer.arrived_ms);
            let second_ms = second_ms.min();
            if is_pair && after && second_ms.is_some_and(|at| at < taken_ms) {
                faults.push(format!(
                    "#{} was kept at {kept_ms} ms and taken at {taken_ms} ms; #{}, which came later, was taken at {second_ms:?} ms",
                    first.number, second.number
                ));
            }
        }
    }
}

/// RFC 5438 §8: who asked is told of storing and of failure, once each, and nobody else is told anything.
fn notices_are_told_once(reference: &Reference, end: &End, faults: &mut Vec<String>) {
    for said in &reference.said {
        let told =
            |stored| reference.notices.values().filter(move |one| one.about == said.number && one.stored == stored);
        let (stored, failed) = (told(true).count(), told(false).count());
        let number = said.number;
        if said.kind != Kind::Asking && stored + failed > 0 {
            faults.push(format!("#{number} asked for nothing, and its sender was told {stored} and {failed} times"));
        }
        if !end.is_sound || said.kind != Kind::Asking {
            continue;
        }
        let kept = said.promised_ms(202).is_some();
        let sender_is_there = end.reachable.contains(&said.from) && !end.is_narrow;
        // An answer that its connection lost may have been a 202.
        let may_be_kept = kept || said.entered.iter().any(|entered| entered.answer.is_none());
        if stored > usize::from(may_be_kept) || (kept && sender_is_there && stored == 0) {
            faults.push(format!("#{number} was kept: {kept}, and its sender was told so {stored} times"));
        }
        let over = end.unix_ms >= said.over_unix_ms(end) + 20_000;
        let is_there = end.letters.contains(&(said.to, number));
        let certain = kept && !said.was_taken() && (said.was_refused() || over) && !is_there && !said.is_split();
        if failed > 1 || (failed == 1 && !may_be_kept) || (certain && sender_is_there && failed == 0) {
            faults.push(format!("#{number} failed for certain: {certain}, and its sender was told so {failed} times"));
        }
    }
}

impl Said {
    /// Whether it was refused in a round before it was kept: then its refusal was not the letter's.
    fn is_split(&self) -> bool {
        let kept_ms = self.promised_ms(202).unwrap_or(0);
        self.answered(|status| !is_taken(status) && !is_passing(status)).all(|(_, at)| at < kept_ms)
            && self.was_refused()
    }
}
