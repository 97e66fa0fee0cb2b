//! From memory to the files, by a thread that may wait for the disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::health::Signs;

/// How much waits at most until it is written at once.
const MOST_TOGETHER: usize = 256 * 1024;
/// How much waits at most for a disk that does not answer, beside the beginning of a segment.
const MOST_WAITING: usize = 8 * 1024 * 1024;

/// The warning that nothing is recorded, and the name of the log event.
const RECORDING_FAILED: &str = "recording_failed";

/// Where lines wait to be written.
#[derive(Debug)]
pub(super) struct Desk {
    waiting: Mutex<Waiting>,
    news: Condvar,
    /// Whether what comes is dropped until another segment begins.
    pub(super) has_failed: AtomicBool,
    signs: Arc<Signs>,
    path: PathBuf,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: Vec<Piece>,
    bytes: usize,
    urgent: bool,
    closed: bool,
}

/// Bytes for one file.
#[derive(Debug)]
struct Piece {
    begins: bool,
    bytes: Vec<u8>,
}

impl Desk {
    pub(super) fn new(signs: Arc<Signs>, path: PathBuf) -> Self {
        let waiting = Mutex::default();
        Self { waiting, news: Condvar::new(), has_failed: AtomicBool::new(false), signs, path }
    }

    /// The first lines of a segment.
    pub(super) fn begin(&self, bytes: Vec<u8>) {
        self.has_failed.store(false, Ordering::Relaxed);
        let mut waiting = self.waiting();
        waiting.bytes += bytes.len();
        waiting.pieces.push(Piece { begins: true, bytes });
        waiting.urgent = true;
        self.news.notify_one();
    }

    /// More lines of the segment. They are written when some are urgent: each time that the thread wakes costs more than
    /// all lines of some seconds.
    pub(super) fn put(&self, lines: &[u8], urgent: bool) {
        if self.has_failed.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.bytes > MOST_WAITING {
            waiting.pieces.clear();
            waiting.bytes = 0;
            drop(waiting);
            return self.fail("the disk takes lines more slowly than they come");
        }
        waiting.bytes += lines.len();
        match waiting.pieces.last_mut() {
            Some(piece) => piece.bytes.extend_from_slice(lines),
            None => waiting.pieces.push(Piece { begins: false, bytes: lines.to_vec() }),
        }
        let hurries = !waiting.urgent && (urgent || waiting.bytes > MOST_TOGETHER);
        waiting.urgent |= hurries;
        if hurries {
            self.news.notify_one();
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.news.notify_one();
    }

    /// Nothing can be recorded for now: that is heard.
    pub(super) fn fail(&self, why: &str) {
        self.has_failed.store(true, Ordering::Relaxed);
        if let Some(metrics) = &self.signs.metrics {
            metrics.recording_failed();
        }
        let text = format!("what this worker is told is not recorded in {}: {why}", self.path.display());
        if self.signs.warnings.set(RECORDING_FAILED, &text) {
            tracing::warn!(event = RECORDING_FAILED, path = %self.path.display(), "{text}; it is tried again, and the worker goes on");
        }
    }

    fn works(&self) {
        if self.signs.warnings.clear(RECORDING_FAILED) {
            tracing::info!(event = "recording_resumed", path = %self.path.display(), "what this worker is told is recorded again");
        }
    }

    /// What waits, as soon as it is to be written; none when nothing more comes.
    fn take(&self) -> Option<Vec<Piece>> {
        let may_wait = |waiting: &mut Waiting| !waiting.urgent && !waiting.closed;
        let mut waiting = self.news.wait_while(self.waiting(), may_wait).unwrap_or_else(PoisonError::into_inner);
        (waiting.bytes, waiting.urgent) = (0, false);
        let pieces = std::mem::take(&mut waiting.pieces);
        (!pieces.is_empty() || !waiting.closed).then_some(pieces)
    }

    /// What is held there is whole at every moment, even if somebody has panicked.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files: the newest under the name that was given, the older ones with a number behind it.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    segments: u32,
    desk: Arc<Desk>,
    newest: Option<File>,
    /// Locked as long as this worker records: whoever else counted the files on would take them away from it.
    lock: Option<File>,
}

impl Files {
    pub(super) fn new(path: PathBuf, segments: u32, desk: Arc<Desk>) -> Self {
        Self { path, segments, desk, newest: None, lock: None }
    }

    /// Writes what comes, until nothing more does.
    pub(super) fn write(mut self) {
        while let Some(pieces) = self.desk.take() {
            for piece in pieces {
                if let Err(error) = self.write_piece(&piece) {
                    self.newest = None;
                    self.desk.fail(&error.to_string());
                } else if piece.begins {
                    self.desk.works();
                }
            }
        }
    }

    fn write_piece(&mut self, piece: &Piece) -> io::Result<()> {
        if piece.begins {
            self.newest = None;
            self.have_it_alone()?;
            self.newest = Some(self.make_room()?);
        }
        // After a failure everything up to the next beginning is dropped.
        self.newest.as_mut().map_or(Ok(()), |file| file.write_all(&piece.bytes))
    }

    /// Fails where another worker, of this process or another one, records under the same path.
    fn have_it_alone(&mut self) -> io::Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other("what is there is no file: name another path"));
        }
        if self.lock.is_none() {
            let lock = open(OpenOptions::new().write(true).create(true).truncate(false), &locked(&self.path))?;
            match lock.try_lock() {
                Ok(()) => self.lock = Some(lock),
                Err(TryLockError::WouldBlock) => {
                    let why = "another worker records there: give each worker a path of its own";
                    return Err(io::Error::other(why));
                }
                // A file system that knows no locks; its users have read that no two workers may have one path.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes the oldest file, counts the others on, and makes a new one.
    fn make_room(&self) -> io::Result<File> {
        let names: Vec<_> = (0..self.segments).map(|number| numbered(&self.path, number)).collect();
        for pair in names.windows(2).rev() {
            match fs::rename(&pair[0], &pair[1]) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        open(OpenOptions::new().write(true).create_new(true), &self.path)
    }
}

/// Opens a file that, where it is made, its owner alone can read.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// The name of the file that is locked; hidden, so that who names all segments by a pattern does not name it.
fn locked(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".lock");
    path.with_file_name(name)
}

/// The name of the segment before which so many newer ones are.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
