//! The flight recorder: what the worker is told, on its way to a file.
//!
//! Nothing of this holds the worker up. Lines go to a desk in memory, and a thread of its own takes them from there to the
//! file. Where the file cannot take them they are dropped, that is heard, and after a while a new segment begins.

mod files;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parti_core::recording::Recorder;
use parti_core::{Action, Event, GroupName, Instant, Status, Worker};
use tokio::sync::oneshot;

use crate::clock;
use crate::health::Signs;
use files::{Desk, Files};

/// How long to wait until a recording that has failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long lines that are no news wait for others at least: so much of a recording is lost where the process is killed.
const TOGETHER: Duration = Duration::from_secs(10);
/// How long the end of the worker waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How many things that the worker was told wait at most until they are made into lines.
const MOST_WAITING: usize = 256;
/// The smallest segment whose lines are made together: how much they take is known only then, so that there has to be room
/// for several records of the largest size.
const ROOMY_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// The smallest segment.
const MIN_SEGMENT_BYTES: u64 = 64 * 1024;

/// How much of a flight recording is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// How many bytes all files together have at most; 64 MiB by default.
    ///
    /// At rest a worker writes 1 to 1.5 kB a second, one that leads about 400 B more for each worker of the group.
    pub bytes: u64,
    /// How many files that is, each of which can be replayed by itself; 4 by default, at least 2. When the newest is full,
    /// the oldest is removed. A segment of less than 64 KiB counts as one of that.
    pub segments: u32,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { bytes: 64 * 1024 * 1024, segments: 4 }
    }
}

impl RecordLimits {
    fn segments(self) -> u32 {
        self.segments.max(2)
    }

    fn segment_bytes(self) -> u64 {
        (self.bytes / u64::from(self.segments())).max(MIN_SEGMENT_BYTES)
    }
}

/// Where a worker is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) path: PathBuf,
    pub(crate) limits: RecordLimits,
}

/// A worker, and who records what it is told, if anybody does.
#[derive(Debug)]
pub(crate) struct Recorded {
    worker: Worker,
    /// What it has asked for.
    actions: Vec<Action>,
    flight: Option<Flight>,
}

impl Recorded {
    /// A worker of which nothing is recorded.
    pub(crate) fn new(worker: Worker) -> Self {
        Self { worker, actions: Vec::new(), flight: None }
    }

    /// The same, recorded there.
    pub(crate) fn recorded(self, to: Destination, group: &GroupName, signs: &Arc<Signs>) -> Self {
        let flight = Flight::new(Recorder::new(group.clone(), &self.worker), to, signs);
        Self { flight: Some(flight), ..self }
    }

    pub(crate) fn handle(&mut self, now: Instant, event: Event) {
        if let Some(flight) = &mut self.flight {
            flight.told(&self.worker, now, &event);
        }
        self.worker.handle(now, event);
        let known = self.actions.len();
        self.actions.extend(std::iter::from_fn(|| self.worker.poll_action()));
        if let Some(flight) = &mut self.flight {
            flight.did(&self.actions[known..]);
        }
    }

    /// All that it has asked for since this was called last.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(crate) fn status(&self) -> Status {
        self.worker.status()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.worker.poll_timeout()
    }

    /// Waits a while until what is recorded is written.
    pub(crate) async fn close(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        let ended = flight.close();
        // Where the disk does not answer, it has had its time.
        let _ = tokio::time::timeout(LAST_LINES, ended).await;
    }
}

/// The recording of one process.
#[derive(Debug)]
struct Flight {
    lines: Recorder,
    desk: Arc<Desk>,
    /// How many bytes a segment may have, and has.
    segment_bytes: u64,
    in_segment: u64,
    /// Since when nothing is recorded, if so. At the beginning nothing is, and that is tried at once.
    silent: Silence,
    line: Vec<u8>,
    /// What the worker is being told, if that is to wait for others.
    told: Option<(Instant, Event)>,
    /// What it was told since lines were made last, each with how many of the actions are its.
    ///
    /// To make a line takes ten times as long where it is made alone, between other work, as where many are made in one go.
    waiting: Vec<(Instant, Event, usize)>,
    /// What it asked for then.
    asked: Vec<Action>,
    /// When the worker was told something last, and when lines were last sent to the file.
    now: Instant,
    sent_at: Instant,
    ended: Option<oneshot::Receiver<()>>,
}

/// Whether something is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It is.
    None,
    /// A new segment begins with what is told next.
    UntilTold,
    /// The same, but not before then.
    Until(Instant),
}

impl Flight {
    fn new(lines: Recorder, to: Destination, signs: &Arc<Signs>) -> Self {
        let segment_bytes = to.limits.segment_bytes();
        let (ends, ended) = oneshot::channel();
        let desk = Arc::new(Desk::new(Arc::clone(signs), to.path.clone()));
        let files = Files::new(to.path, to.limits.segments(), Arc::clone(&desk));
        let thread = std::thread::Builder::new().name("parti-recorder".into()).spawn(move || {
            files.write();
            drop(ends);
        });
        if let Err(error) = thread {
            desk.fail(&format!("no thread could be started for it: {error}"));
        }
        Self {
            lines,
            desk,
            segment_bytes,
            in_segment: 0,
            silent: Silence::UntilTold,
            line: Vec::new(),
            told: None,
            waiting: Vec::new(),
            asked: Vec::new(),
            now: Instant::ORIGIN,
            sent_at: Instant::ORIGIN,
            ended: Some(ended),
        }
    }

    fn told(&mut self, worker: &Worker, now: Instant, event: &Event) {
        self.now = now;
        if self.silent == Silence::None && self.desk.has_failed.load(Ordering::Relaxed) {
            self.silent = Silence::Until(now + RETRY_AFTER);
        }
        if matches!(self.silent, Silence::Until(then) if now < then) {
            return self.lines.skip();
        }
        if self.silent == Silence::None && self.has_room() {
            self.told = Some((now, event.clone()));
            return;
        }
        self.make_lines(false);
        let bytes = self.lines.told(now, event) as u64;
        if self.silent != Silence::None || self.in_segment + bytes > self.segment_bytes {
            self.begin(worker, now, bytes);
        }
    }

    /// Whether the segment has room for whatever comes until lines are made.
    fn has_room(&self) -> bool {
        self.segment_bytes >= ROOMY_SEGMENT_BYTES && self.in_segment <= self.segment_bytes / 4 * 3
    }

    /// Makes lines of what waits, and sends them to the file.
    fn make_lines(&mut self, urgent: bool) {
        if self.waiting.is_empty() {
            return;
        }
        self.line.clear();
        let mut asked = self.asked.as_slice();
        for (at, event, actions) in &self.waiting {
            let (its, others) = asked.split_at(*actions);
            self.lines.told(*at, event);
            self.lines.did(its, &mut self.line);
            asked = others;
        }
        self.waiting.clear();
        self.asked.clear();
        let bytes = self.line.len() as u64;
        if self.in_segment + bytes > self.segment_bytes {
            // A quarter of a segment in a few seconds. What is left out shows, as the next segment has the number of its event.
            self.silent = Silence::UntilTold;
            return;
        }
        self.in_segment += bytes;
        self.desk.put(&self.line, urgent);
    }

    /// Begins another segment, if it has room for what the worker knows and these bytes more.
    fn begin(&mut self, worker: &Worker, now: Instant, bytes: u64) {
        let beginning = self.lines.begin(worker, now, Some(clock::since_1970()));
        self.in_segment = beginning.len() as u64;
        if self.in_segment + bytes > self.segment_bytes {
            let (needs, has) = (self.in_segment + bytes, self.segment_bytes);
            self.desk.fail(&format!(
                "what the worker knows takes {needs} bytes, and a segment may have {has}: raise RecordLimits::bytes"
            ));
            self.silent = Silence::Until(now + RETRY_AFTER);
            return self.lines.skip();
        }
        self.silent = Silence::None;
        self.desk.begin(beginning);
    }

    fn did(&mut self, actions: &[Action]) {
        if self.silent != Silence::None {
            return;
        }
        let is_due = self.now.since(self.sent_at) >= TOGETHER || actions.iter().any(is_news);
        if is_due {
            self.sent_at = self.now;
        }
        if let Some((at, event)) = self.told.take() {
            self.asked.extend_from_slice(actions);
            self.waiting.push((at, event, actions.len()));
            if is_due || self.waiting.len() >= MOST_WAITING {
                self.make_lines(is_due);
            }
            return;
        }
        self.line.clear();
        self.lines.did(actions, &mut self.line);
        self.in_segment += self.line.len() as u64;
        self.desk.put(&self.line, is_due);
    }

    /// Nothing more comes. What is returned is over when all is written.
    fn close(mut self) -> oneshot::Receiver<()> {
        self.ended.take().expect("it is closed once")
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.silent == Silence::None {
            self.make_lines(false);
        }
        if self.silent == Silence::None {
            // Where the worker has panicked, this is what it was told last.
            if let Some((at, event)) = self.told.take() {
                self.lines.told(at, &event);
            }
            self.line.clear();
            self.lines.gave_no_answer(&mut self.line);
            self.desk.put(&self.line, true);
        }
        self.desk.close();
    }
}

/// Whether somebody may look for this soon: all but what a worker asks for every few seconds.
const fn is_news(action: &Action) -> bool {
    !matches!(
        action,
        Action::Kv(_) | Action::Check { .. } | Action::Probe { .. } | Action::Listen | Action::Watch { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use parti_core::recording::{Junction, Replay, Shown};
    use parti_core::{Command, Config, PartitionList, ServerId, Session};

    use super::*;
    use crate::support::folder;

    /// A worker that is recorded there, and what is said of it.
    fn recorded(path: PathBuf, limits: RecordLimits) -> (Recorded, Arc<Signs>) {
        let worker = Worker::new(Config::default(), 7, Instant::ORIGIN).expect("a valid config");
        let signs = Arc::new(Signs::new("orders"));
        let group = GroupName::new("orders").expect("a valid name");
        (Recorded::new(worker).recorded(Destination { path, limits }, &group, &signs), signs)
    }

    /// Tells it so many things, a second apart from this one on.
    fn tell(worker: &mut Recorded, from: u64, events: u64) {
        for second in from..from + events {
            let event = match second % 3 {
                0 => Event::Timeout,
                1 => Event::Listening { session: Session::new(second), server: ServerId::new("a server") },
                _ => Event::Command(if second % 2 == 0 { Command::Drain } else { Command::Undrain }),
            };
            worker.handle(Instant::from_millis(second * 1_000), event);
            worker.take_actions();
        }
    }

    /// What is in the files of this recording.
    fn files(path: &Path) -> Vec<Vec<u8>> {
        (0..9).filter_map(|number| fs::read(files::numbered(path, number)).ok()).collect()
    }

    /// The numbers of the events in these files, whether each goes on from the one before, and which have no answer.
    fn replayed(files: &[Vec<u8>]) -> (Vec<u64>, Vec<Option<Junction>>, Vec<u64>) {
        let (mut steps, mut junctions, mut unanswered) = (Vec::new(), Vec::new(), Vec::new());
        for shown in Replay::new(files.iter().map(Vec::as_slice)).expect("recordings") {
            match shown {
                Shown::Segment(begun) => junctions.push(begun.junction),
                Shown::Step(step) => {
                    assert_ne!(step.agrees, Some(false), "{}", step.event);
                    steps.push(step.number);
                    unanswered.extend(step.agrees.is_none().then_some(step.number));
                }
                Shown::Broken { file, error } => panic!("{file}: {error}"),
            }
        }
        (steps, junctions, unanswered)
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let soon = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), soon).await.unwrap_or_else(|_| panic!("never {what}"));
    }

    #[tokio::test]
    async fn the_files_stay_within_their_limits_and_the_end_is_in_them() {
        let folder = folder();
        let path = folder.join("worker.rec");
        let limits = RecordLimits { bytes: 0, segments: 3 };
        let (mut worker, signs) = recorded(path.clone(), limits);
        worker.handle(Instant::ORIGIN, Event::Partitions(PartitionList::from_pairs([("eu", 1)]).expect("a list")));
        tell(&mut worker, 1, 6_000);
        worker.close().await;
        let files = files(&path);
        assert_eq!(files.len(), 3);
        assert!(files.iter().all(|bytes| bytes.len() as u64 <= MIN_SEGMENT_BYTES));
        let (steps, junctions, unanswered) = replayed(&files);
        assert_eq!((steps.last(), steps.len() as u64), (Some(&6_000), 6_001 - steps[0]), "all up to the last");
        assert_eq!(junctions, [None, Some(Junction::Seamless), Some(Junction::Seamless)]);
        assert!(steps[0] > 0 && unanswered.is_empty() && signs.warnings.list().is_empty());
        fs::remove_dir_all(folder).expect("its own");
    }

    #[tokio::test]
    async fn lines_that_are_made_together_are_whole_and_within_the_limits() {
        let folder = folder();
        let path = folder.join("worker.rec");
        let limits = RecordLimits { bytes: 2 * ROOMY_SEGMENT_BYTES, segments: 2 };
        let (mut worker, signs) = recorded(path.clone(), limits);
        let mut now = Instant::ORIGIN;
        let mut tell = |worker: &mut Recorded, later: Duration, event: Event| {
            now = now + later;
            worker.handle(now, event);
            worker.take_actions();
        };
        // A server with a long name, so that a segment is soon full; and so late that all is written, now and then something.
        for number in 0..30 {
            for session in 0..50 {
                let server = ServerId::new(&"x".repeat(10_000));
                let event = Event::Listening { session: Session::new(number * 50 + session), server };
                tell(&mut worker, Duration::from_millis(1), event);
            }
            let flight = worker.flight.as_ref().expect("it is recorded");
            assert!(flight.waiting.len() > 1 || !flight.has_room(), "they wait for each other");
            tell(&mut worker, TOGETHER, Event::Timeout);
            let in_segment = worker.flight.as_ref().expect("it is recorded").in_segment;
            until("written", || fs::metadata(&path).is_ok_and(|file| file.len() == in_segment)).await;
        }
        worker.close().await;
        let files = files(&path);
        assert!(files.len() == 2 && files.iter().all(|bytes| bytes.len() as u64 <= ROOMY_SEGMENT_BYTES));
        let (steps, junctions, unanswered) = replayed(&files);
        assert_eq!((steps[0], steps.last(), steps.len()), (0, Some(&1_529), 1_530));
        assert_eq!(junctions, [None, Some(Junction::Seamless)]);
        assert!(unanswered.is_empty() && signs.warnings.list().is_empty());
        fs::remove_dir_all(folder).expect("its own");
    }

    #[tokio::test]
    async fn lines_for_which_a_segment_has_no_room_are_left_out_and_the_next_segment_begins_behind_them() {
        let folder = folder();
        let path = folder.join("worker.rec");
        let limits = RecordLimits { bytes: 2 * ROOMY_SEGMENT_BYTES, segments: 2 };
        let (mut worker, _) = recorded(path.clone(), limits);
        let server = ServerId::new(&"x".repeat(100_000));
        for session in 0..150 {
            let event = Event::Listening { session: Session::new(session), server: server.clone() };
            worker.handle(Instant::from_millis(session), event);
        }
        // Then lines are due, and take too much; what is told next begins a segment.
        for minute in [1, 2] {
            worker.handle(Instant::from_millis(minute * 60_000), Event::Timeout);
        }
        worker.close().await;
        let files = files(&path);
        assert!(files.iter().all(|bytes| bytes.len() as u64 <= ROOMY_SEGMENT_BYTES));
        let (steps, junctions, _) = replayed(&files);
        let known = steps.len() as u64 - 1;
        assert!(steps.last() == Some(&151) && steps[..steps.len() - 1].iter().copied().eq(0..known), "{steps:?}");
        assert_eq!(junctions, [None, Some(Junction::Gap(151 - known))]);
        fs::remove_dir_all(folder).expect("its own");
    }

    #[tokio::test]
    async fn what_an_earlier_process_has_left_is_kept() {
        let folder = folder();
        let path = folder.join("worker.rec");
        for events in [5, 8] {
            let (mut worker, _) = recorded(path.clone(), RecordLimits::default());
            tell(&mut worker, 0, events);
            worker.close().await;
        }
        let lengths: Vec<_> = files(&path).iter().map(|bytes| replayed(std::slice::from_ref(bytes)).0.len()).collect();
        assert_eq!(lengths, [8, 5]);
        fs::remove_dir_all(folder).expect("its own");
    }

    #[tokio::test]
    async fn files_that_cannot_be_written_are_heard_and_the_worker_goes_on() {
        let folder = folder();
        let path = folder.join("missing").join("worker.rec");
        let (mut worker, signs) = recorded(path.clone(), RecordLimits::default());
        tell(&mut worker, 0, 2);
        until("heard", || signs.warnings.get("recording_failed").is_some_and(|text| text.contains("os error 2"))).await;
        tell(&mut worker, 2, 3);
        assert!(worker.status().draining, "it hears what it is told");
        // What is there in its place is not touched.
        fs::create_dir_all(&path).expect("a folder");
        tell(&mut worker, 100, 1);
        until("heard", || signs.warnings.get("recording_failed").is_some_and(|text| text.contains("no file"))).await;
        fs::remove_dir(&path).expect("its own");
        tell(&mut worker, 101, 1);
        tell(&mut worker, 200, 1);
        until("recorded again", || signs.warnings.list().is_empty()).await;
        tell(&mut worker, 201, 3);
        worker.close().await;
        assert_eq!(replayed(&files(&path)).0, [7, 8, 9, 10]);
        fs::remove_dir_all(folder).expect("its own");
    }

    #[tokio::test]
    async fn two_workers_that_are_given_one_path_do_not_take_each_others_files() {
        let folder = folder();
        let path = folder.join("worker.rec");
        let (mut first, _) = recorded(path.clone(), RecordLimits::default());
        tell(&mut first, 0, 2);
        until("recorded", || path.is_file()).await;
        let (mut second, signs) = recorded(path.clone(), RecordLimits::default());
        tell(&mut second, 0, 2);
        until("heard", || signs.warnings.get("recording_failed").is_some_and(|text| text.contains("path of its own")))
            .await;
        tell(&mut first, 2, 3);
        first.close().await;
        assert_eq!(files(&path).len(), 1, "nobody has counted it on");
        assert_eq!(replayed(&files(&path)).0, [0, 1, 2, 3, 4]);
        // Once the path is free, the other one has it: it looks again after a while.
        tell(&mut second, 100, 1);
        tell(&mut second, 200, 1);
        until("recorded", || signs.warnings.list().is_empty()).await;
        second.close().await;
        assert_eq!(files(&path).len(), 2);
        fs::remove_dir_all(folder).expect("its own");
    }

    #[tokio::test]
    async fn limits_that_are_too_small_for_what_it_knows_are_heard() {
        let folder = folder();
        let (mut worker, signs) = recorded(folder.join("worker.rec"), RecordLimits { bytes: 0, segments: 2 });
        let many = (0..4_000).map(|number| (format!("partition-{number:09}"), 1));
        worker.handle(Instant::ORIGIN, Event::Partitions(PartitionList::from_pairs(many).expect("a list")));
        until("heard", || signs.warnings.get("recording_failed").is_some_and(|text| text.contains("RecordLimits")))
            .await;
        fs::remove_dir_all(folder).expect("its own");
    }

    #[tokio::test]
    async fn what_it_was_told_last_is_kept_where_it_panics() {
        let folder = folder();
        let path = folder.join("worker.rec");
        let (mut worker, _) = recorded(path.clone(), RecordLimits::default());
        tell(&mut worker, 0, 4);
        let flight = worker.flight.as_mut().expect("it is recorded");
        flight.told(&worker.worker, Instant::from_millis(9_000), &Event::Command(Command::Leave));
        drop(worker);
        until("written", || {
            files(&path).first().is_some_and(|bytes| replayed(std::slice::from_ref(bytes)).0.len() == 5)
        })
        .await;
        let (steps, _, unanswered) = replayed(&files(&path));
        assert_eq!((steps, unanswered), (vec![0, 1, 2, 3, 4], vec![4]));
        fs::remove_dir_all(folder).expect("its own");
    }
}
