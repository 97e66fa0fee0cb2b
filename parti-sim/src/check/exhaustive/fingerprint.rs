//! When two states of a small world are the same: what is in them, but for names and for when it was.
//!
//! A state is read from its debugging text, which shows all of it. Of numbers that only name things or points in time,
//! nothing but their order or their distance matters: revisions, operations and watches are numbered anew, and instants
//! count from now. Thus a world in which nothing has happened for a while is one state, and not one per heartbeat. Two
//! ages of what was heard of a worker, both longer than its lease as others see it, are one; so are two times of a next
//! look that have both come.

use std::fmt::{self, Debug, Write as _};
use std::rc::Rc;

use parti_core::{Bucket, Instant};

use super::state::State;
use crate::rng::Rng;
use crate::told::fact::PartitionIndex;
use crate::world::clock::{Moment, nanos};
use crate::world::event::Shown;
use crate::world::event::What;
use crate::world::process::{Life, Process};

/// Where the revisions of `plan` begin in a small world, so that they can be told from those of `members`. Appends make
/// their own revisions by counting on, so of these it matters whether one follows directly on another.
pub(super) const PLAN_BEGINS_AT: u64 = 1 << 32;
/// The invariants whose memory is no part of the state: it is of the step alone.
const WITHOUT_MEMORY: [&str; 1] = ["bounded"];

/// A piece of a state's text: what stands between two numbers, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    kind: Kind,
    /// Whose number it is, where processes count for themselves.
    process: u8,
    value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Plain,
    /// A point in time on a process's own clock.
    Instant,
    /// When something was heard of another worker: it is only asked whether that is longer ago than a lease as others see
    /// it, or than some part of one.
    Heard,
    /// When to look again: it is only asked whether that time has come.
    Look,
    /// A point in time in the world.
    Moment,
    Revision,
    Operation,
    Watch,
    Session,
    Connection,
    Check,
    Probe,
    Evidence,
    /// A count of what was noticed: it is only asked whether it is still the same.
    Count,
}

/// The text of a part of a state, read.
type Tokens = Rc<[Token]>;
/// The processes of a state, each with what was read of it.
pub(super) type Read = Vec<(Rc<Process>, Tokens)>;

/// A number that two states share if, as far as anybody can tell, they are the same. `before` is what was read of the
/// processes in the state that this one follows on; what is read now takes its place.
pub(super) fn fingerprint(state: &State, before: &[(Rc<Process>, Tokens)]) -> (u64, Read) {
    let world = &state.world;
    let mut processes = Vec::with_capacity(world.ground.processes.len());
    for (index, process) in world.ground.processes.iter().enumerate() {
        let known = before.get(index).filter(|(earlier, _)| Rc::ptr_eq(earlier, process));
        let tokens = known.map_or_else(|| read_process(index, process), |(_, tokens)| Rc::clone(tokens));
        processes.push((Rc::clone(process), tokens));
    }
    let mut rest = Scanner::default();
    rest.read(&(state.faults_left, &state.connects_at_once, &world.servers, &world.kept.lost_writes_at));
    for bucket in Bucket::ALL {
        if state.faults_left > 0 {
            rest.read(&world.kept.store.journal(bucket));
        }
        let (store, watches) = (&world.kept.store, world.watchers.of(bucket));
        rest.read(&(store.incarnation(bucket), store.last_revision(bucket), store.entries(bucket)));
        for (process, watch) in watches.iter() {
            rest.read(&(process, watch.id, &watch.interest, watch.open, watch.heard));
        }
    }
    for partition in 0..world.ground.options.partitions as usize {
        rest.read(&world.ground.observers.ownership.workers_on(PartitionIndex::new(partition)));
    }
    for invariant in world.ground.observers.invariants().filter(|invariant| !WITHOUT_MEMORY.contains(&invariant.name()))
    {
        rest.read(&invariant);
    }
    let pending = read_pending(state);
    let parts = || processes.iter().map(|(_, tokens)| tokens.as_ref()).chain([rest.tokens.as_slice()]);
    let lasts = Bucket::ALL.map(|bucket| world.kept.store.last_revision(bucket).value());
    let names = Names::of(parts().chain(pending.iter().map(Vec::as_slice)).flatten(), lasts);
    let locals: Vec<Instant> =
        world.ground.processes.iter().map(|process| process.clock.at(world.ground.now)).collect();
    let heard = nanos(world.ground.options.observed_lease());
    let sight = Sight { now: world.ground.now, locals: &locals, horizon: state.horizon, heard, names: &names };
    let mut hash = parts().fold(0, |hash, tokens| sight.hash(hash, tokens));
    // What is to come has no order but that of time and of the watches, which its text tells.
    hash = mix(hash ^ pending.iter().map(|tokens| sight.hash(1, tokens)).fold(0, u64::wrapping_add));
    (hash, processes)
}

fn read_process(index: usize, process: &Process) -> Tokens {
    let mut scanner = Scanner { process: u8::try_from(index).unwrap_or(u8::MAX), ..Scanner::default() };
    if process.life == Life::Ended {
        scanner.read(&process.life);
    } else {
        let link = &process.link;
        scanner.read(&(&process.worker, &process.app, process.life));
        scanner.read(&(link.broken, link.noticed, link.closed, link.epoch, &link.held));
        scanner.read(&(&process.pending, &process.clock, &process.successor, &process.ear));
    }
    scanner.tokens.into()
}

/// What is to come, each with what orders it.
fn read_pending(state: &State) -> Vec<Vec<Token>> {
    let world = &state.world;
    let pending = state.pending();
    let read = |(place, (at, number, what)): (usize, &(Moment, u64, &What))| {
        let mut scanner = Scanner::default();
        let due = if *at <= world.ground.now { Moment::START } else { *at };
        scanner.read(&due);
        if let What::Show { process, bucket, watch, shown } = what {
            // Snapshots and changes do not overtake each other.
            let is_whole = |shown: &Shown| !matches!(shown, Shown::Change(..));
            let before = pending[..place].iter().filter(|(_, earlier, other)| {
                earlier < number
                    && matches!(other, What::Show { process: p, bucket: b, watch: w, shown: s }
                        if (p, b, w) == (process, bucket, watch) && (is_whole(s) || is_whole(shown)))
            });
            scanner.read(&before.count());
        }
        scanner.read(what);
        scanner.tokens
    };
    pending.iter().enumerate().map(read).collect()
}

/// Reads debugging text as it is written, piece by piece: a number, a name, or what stands between.
#[derive(Default)]
struct Scanner {
    tokens: Vec<Token>,
    process: u8,
    /// What stands since the last number.
    text: u64,
    /// The last name, and the last one with a colon: those of a type and of a field.
    name: Name,
    field: Name,
}

/// A name that tells what a number is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Other,
    Some,
    Process,
    Named(Kind),
    /// A point in time of which it matters only what the kind says.
    At(Kind),
    /// A number for people, or the time of the last event, which decides nothing.
    Beat,
}

impl Name {
    fn of(name: &str) -> Self {
        match name {
            "Some" => Self::Some,
            "ProcessId" => Self::Process,
            "Instant" => Self::Named(Kind::Instant),
            "Moment" => Self::Named(Kind::Moment),
            "Revision" => Self::Named(Kind::Revision),
            "OperationId" => Self::Named(Kind::Operation),
            "WatchId" => Self::Named(Kind::Watch),
            "Session" => Self::Named(Kind::Session),
            "connection" => Self::Named(Kind::Connection),
            "CheckId" => Self::Named(Kind::Check),
            "ProbeId" => Self::Named(Kind::Probe),
            "Evidence" => Self::Named(Kind::Evidence),
            "changes" | "roster_of" | "looked_at" => Self::Named(Kind::Count),
            "observed_at" | "deaf_until" | "checks" | "silent_since" => Self::At(Kind::Heard),
            "next_expiry" | "earned" | "next_check" | "next_round" => Self::At(Kind::Look),
            "beat" | "decisions" | "now" => Self::Beat,
            _ => Self::Other,
        }
    }
}

impl Scanner {
    fn read(&mut self, part: &dyn Debug) {
        write!(self, "{part:?}").expect("reading takes everything");
        self.end_text();
    }

    fn end_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.push(Kind::Plain, text);
    }

    fn number(&mut self, number: u64) {
        self.end_text();
        match (std::mem::take(&mut self.name), self.field) {
            (Name::Beat, _) | (Name::Named(Kind::Instant), Name::Beat) => {}
            (Name::Named(Kind::Instant), Name::At(kind)) | (Name::Named(kind), _) | (Name::Some, Name::Named(kind)) => {
                self.push(kind, number);
            }
            (Name::Process, _) => {
                self.process = u8::try_from(number).unwrap_or(u8::MAX);
                self.push(Kind::Plain, number);
            }
            (Name::Other | Name::Some | Name::At(_), _) => self.push(Kind::Plain, number),
        }
    }

    fn push(&mut self, kind: Kind, value: u64) {
        self.tokens.push(Token { kind, process: self.process, value });
    }
}

impl fmt::Write for Scanner {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match text.as_bytes().first() {
            None => {}
            Some(b'0'..=b'9') => match text.parse() {
                Ok(number) => self.number(number),
                Err(_) => self.text = add_text(self.text, text),
            },
            Some(b'a'..=b'z' | b'A'..=b'Z') => {
                self.name = Name::of(text);
                self.text = add_text(self.text, text);
            }
            Some(_) => {
                if text.starts_with(':') {
                    self.field = self.name;
                }
                self.text = add_text(self.text, text);
            }
        }
        Ok(())
    }
}

fn add_text(hash: u64, text: &str) -> u64 {
    let add = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let hash = words.iter().fold(hash, |hash, word| add(hash, u64::from_le_bytes(*word)));
    add(hash, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

/// The names that occur in a state, in order, and the number that each is given.
struct Names(Vec<((Kind, u8, u64), u64)>);

impl Names {
    /// Of revisions of `plan` it matters whether one follows on another, and of those that the store has lost, which one
    /// it will give next: `lasts` are the last ones that it knows.
    fn of<'a>(tokens: impl Iterator<Item = &'a Token>, [members, plan]: [u64; 2]) -> Self {
        let mut names: Vec<_> = tokens.filter_map(Self::name).map(|name| (name, 0)).collect();
        names.sort_unstable();
        names.dedup();
        let (mut last, mut given) = ((Kind::Plain, 0, 0), 0);
        for (name, number) in &mut names {
            let follows = (last.0, last.1) == (name.0, name.1) && name.2 == last.2 + 1;
            let of_plan = name.2 >= PLAN_BEGINS_AT;
            let is_lost = name.0 == Kind::Revision && name.2 > if of_plan { plan } else { members };
            given += match (name.0 == Kind::Revision && of_plan, is_lost) {
                (_, true) => name.2 - last.2,
                (true, false) if !follows => 2,
                (_, false) => 1,
            };
            *number = given;
            last = *name;
        }
        Self(names)
    }

    fn name(token: &Token) -> Option<(Kind, u8, u64)> {
        match token.kind {
            Kind::Plain | Kind::Instant | Kind::Heard | Kind::Look | Kind::Moment => None,
            Kind::Revision => Some((token.kind, 0, token.value)),
            Kind::Operation
            | Kind::Watch
            | Kind::Session
            | Kind::Connection
            | Kind::Check
            | Kind::Probe
            | Kind::Evidence
            | Kind::Count => Some((token.kind, token.process, token.value)),
        }
    }

    fn number(&self, token: &Token) -> u64 {
        let Some(name) = Self::name(token).filter(|_| token.value > 0) else { return token.value };
        let place = self.0.partition_point(|(other, _)| *other < name);
        self.0[place].1
    }
}

/// From where a state is looked at.
struct Sight<'a> {
    now: Moment,
    locals: &'a [Instant],
    /// What is longer ago than this makes no difference to anybody.
    horizon: u64,
    /// The same of when something was heard.
    heard: u64,
    names: &'a Names,
}

impl Sight<'_> {
    fn hash(&self, start: u64, tokens: &[Token]) -> u64 {
        tokens.iter().fold(start, |hash, token| mix(hash ^ self.value(token)).wrapping_add(token.kind as u64))
    }

    fn value(&self, token: &Token) -> u64 {
        match token.kind {
            Kind::Plain => token.value,
            Kind::Moment => self.since(self.now.as_nanos(), token.value),
            Kind::Instant => self.since(self.local(token), token.value),
            Kind::Heard => self.since(self.local(token), token.value).max(self.horizon.saturating_sub(self.heard)),
            Kind::Look => self.since(self.local(token), token.value).max(self.horizon),
            Kind::Revision
            | Kind::Operation
            | Kind::Watch
            | Kind::Session
            | Kind::Connection
            | Kind::Check
            | Kind::Probe
            | Kind::Evidence
            | Kind::Count => self.names.number(token),
        }
    }

    /// What the clock of the token's process shows.
    fn local(&self, token: &Token) -> u64 {
        self.locals.get(usize::from(token.process)).copied().unwrap_or_default().as_nanos()
    }

    /// How far `at` is from `now`, both ways; far past and no time at all are one.
    fn since(&self, now: u64, at: u64) -> u64 {
        if at >= u64::MAX / 2 { at } else { at.saturating_add(self.horizon).saturating_sub(now) }
    }
}

/// Spreads a number over all bits.
const fn mix(number: u64) -> u64 {
    Rng::new(number).next_u64()
}
