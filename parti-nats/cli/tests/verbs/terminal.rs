//! What the command does on a terminal alone: it asks, paints, cuts off, and follows the group until a key is pressed.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};

use crate::fleet::{DEADLINE, Fleet, list};

/// What begins a colour, or ends it.
const ESCAPE: char = '\u{1b}';
/// What a terminal is told when a program takes all of it, and when it gives it back.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

const CURSOR_HIDDEN: &str = "\u{1b}[?25l";
const CURSOR_SHOWN: &str = "\u{1b}[?25h";
/// As the live view paints.
const GREEN: &str = "\u{1b}[38;5;2";

/// How long nothing is shown before somebody looks whether the command has ended.
const LOOKS: Duration = Duration::from_millis(100);

/// The command on a terminal of its own; ended with this.
struct Terminal {
    process: Child,
    pty: Arc<Pty>,
    shown: Receiver<Vec<u8>>,
    /// All that was shown so far.
    seen: String,
    /// Up to here it was looked at.
    looked: usize,
}

impl Terminal {
    fn run(fleet: &Fleet, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let (pty, child) = open().expect("a terminal");
        pty.resize(Size::new(40, 160)).expect("a size");
        let mut command = Command::new(snapbox::cmd::cargo_bin!("parti"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NATS_") || name == "NO_COLOR") {
            command = command.env_remove(name);
        }
        let command = command.args(["-g", "orders", "-s", &fleet.server.url()]).args(arguments);
        let command = command.env("XDG_CONFIG_HOME", "/nonexistent").env("USER", "ada").env("TERM", "xterm-256color");
        let process = command.envs(variables.iter().copied()).spawn(child).expect("it runs");
        let pty = Arc::new(pty);
        let (told, shown) = channel();
        let reading = Arc::clone(&pty);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            // What nobody has open any more is at its end, or fails; each system says that in its own way.
            while let Ok(read @ 1..) = (&*reading).read(&mut part) {
                if told.send(part[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { process, pty, shown, seen: String::new(), looked: 0 }
    }

    /// Waits until this is shown, behind what was waited for before.
    fn shows(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let words = words(&self.seen);
            if let Some(at) = words[self.looked..].find(text) {
                self.looked += at + text.len();
                return;
            }
            let left = DEADLINE.saturating_sub(begun.elapsed());
            let part = self.shown.recv_timeout(left);
            let part = part.unwrap_or_else(|error| panic!("{text:?} is not shown: {error}: {words}"));
            self.seen += &String::from_utf8_lossy(&part);
        }
    }

    fn press(&mut self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits until the command has ended by itself, and gives back how, with all that it has shown.
    fn end(self) -> (ExitStatus, String) {
        self.end_pressing("")
    }

    /// The same, and presses these keys again each time that it shows something instead.
    fn end_pressing(mut self, keys: &str) -> (ExitStatus, String) {
        let begun = Instant::now();
        let mut ended = None;
        loop {
            match self.shown.recv_timeout(LOOKS) {
                Ok(part) => {
                    self.seen += &String::from_utf8_lossy(&part);
                    // Who has ended reads no keys: then this fails, and the end is about to be seen.
                    let _ = (&*self.pty).write_all(keys.as_bytes());
                }
                // Whatever another test starts at the same time may have the terminal open as well: the end of the
                // process counts, once nothing more of what it has written comes.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) if ended.is_some() => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => ended = Some(self.process.wait().expect("its own")),
            }
            ended = ended.or(self.process.try_wait().expect("its own"));
            assert!(begun.elapsed() < DEADLINE, "it goes on: {}", words(&self.seen));
        }
        (ended.expect("it has ended"), std::mem::take(&mut self.seen))
    }
}

/// What was written, without colours, and with a space where the cursor jumped; up to the last sequence that is whole.
fn words(seen: &str) -> String {
    let mut parts = seen.split(ESCAPE);
    let mut words = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let Some(end) = part.find(|c: char| c.is_ascii_alphabetic()) else { break };
        words += if part[end..].starts_with('H') { " " } else { "" };
        words += &part[end + 1..];
    }
    words
}

/// Whether a terminal gives whole lines to programs and shows what is typed, as it does for a shell.
fn is_cooked(pty: &Pty) -> bool {
    let modes = tcgetattr(pty).expect("it is a terminal").local_modes;
    modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_change_is_asked_for_and_made_only_if_the_answer_is_yes() {
    let fleet = Fleet::settled(&list(4), &[(0, 1)]);
    let wishes = || fleet.json(&["status"])["wishes"].as_array().expect("a list").len();
    let ask = || {
        let mut terminal = Terminal::run(&fleet, &["pause", "--reason", "noon"], &[]);
        terminal.shows("Really keep the partitions of orders from moving for balance? [y/N] ");
        terminal
    };
    // No, nothing at all, something else, and the end of the input.
    for answer in ["n\r", "\r", "yolo\r", "\u{4}"] {
        let mut terminal = ask();
        terminal.press(answer);
        let (status, shown) = terminal.end();
        assert_eq!(status.code(), Some(2), "{answer:?}: {shown}");
        assert!(shown.contains("\r\nparti: nothing was done: to keep the partitions"), "{answer:?}: {shown}");
    }
    let mut terminal = ask();
    terminal.press("\u{3}");
    let (status, shown) = terminal.end();
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{shown}");
    assert_eq!(wishes(), 0);

    for (answer, verb) in [("y\r", "pause"), ("Y\r", "resume"), ("yes\r", "pause")] {
        let mut terminal = Terminal::run(&fleet, &[verb], &[]);
        terminal.shows("? [y/N] ");
        terminal.press(answer);
        let (status, shown) = terminal.end();
        assert_eq!(status.code(), Some(0), "{answer:?}: {shown}");
        assert_eq!(wishes(), usize::from(verb == "pause"), "{answer:?}: {shown}");
    }
    let (status, shown) = Terminal::run(&fleet, &["resume", "--force"], &[]).end();
    assert!(status.success() && !shown.contains("Really"), "{shown}");
}

#[test]
fn there_are_colours_unless_somebody_wants_none_and_long_texts_are_cut_off() {
    let fleet = Fleet::settled(&list(4), &[(0, 1)]);
    let reason = "x".repeat(100);
    fleet.parti(&["pause", "--force", "--reason", &reason]).assert().success();
    let show = |variables: &[(&str, &str)]| {
        let (status, shown) = Terminal::run(&fleet, &["status"], variables).end();
        assert!(status.success(), "{shown}");
        shown
    };
    for variables in [&[][..], &[("NO_COLOR", "")]] {
        let shown = show(variables);
        assert!(shown.contains("\u{1b}[32mworking, leads\u{1b}[0m"), "{variables:?}: {shown}");
        assert!(shown.contains(&format!(": {}…\r\n", "x".repeat(48))), "{variables:?}: {shown}");
    }
    for variables in [&[("NO_COLOR", "1")][..], &[("TERM", "dumb")]] {
        let shown = show(variables);
        assert!(!shown.contains(ESCAPE) && shown.contains("working, leads"), "{variables:?}: {shown}");
    }
    let (piped, _) = fleet.answer(&["status"]);
    assert!(!piped.contains(ESCAPE) && piped.contains(&reason), "{piped}");

    let (_, help) = Terminal::run(&fleet, &["--help"], &[]).end();
    let (_, plain) = Terminal::run(&fleet, &["--help"], &[("NO_COLOR", "1")]).end();
    assert!(help.contains(ESCAPE) && !plain.contains(ESCAPE) && plain.contains("who-owns"), "{plain}");
    let (status, document) = Terminal::run(&fleet, &["status", "--json"], &[]).end();
    assert!(status.success() && document.contains(&reason) && !document.contains(ESCAPE), "{document}");
}

#[test]
fn a_watch_takes_the_terminal_follows_the_group_and_gives_the_terminal_back() {
    let fleet = Fleet::settled(&list(4), &[(0, 1)]);
    let watch = |variables: &[(&str, &str)]| {
        let mut terminal = Terminal::run(&fleet, &["watch"], variables);
        terminal.shows(" orders · generation 1 · 4 partitions ");
        terminal.shows("worker-0 working, leads ");
        terminal.shows(" q quits ");
        assert!(terminal.seen.contains(TAKEN) && !terminal.seen.contains(GIVEN_BACK), "{:?}", terminal.seen);
        assert!(!is_cooked(&terminal.pty));
        terminal
    };
    let given_back = |terminal: Terminal, keys: &str| {
        let pty = Arc::clone(&terminal.pty);
        let (status, shown) = terminal.end_pressing(keys);
        assert_eq!(status.code(), Some(0), "{shown:?}");
        assert!(shown.contains(GIVEN_BACK) && shown.rfind(CURSOR_SHOWN) > shown.rfind(CURSOR_HIDDEN), "{shown:?}");
        assert!(is_cooked(&pty));
        shown
    };
    // Some keys, and some who end processes.
    for keys in ["q", "\u{3}", "\u{1b}"] {
        let mut terminal = watch(&[("NO_COLOR", "1")]);
        terminal.press(keys);
        let shown = given_back(terminal, "");
        assert!(!shown.contains(GREEN), "{shown:?}");
    }
    for signal in [Signal::TERM, Signal::INT] {
        let terminal = watch(&[]);
        kill_process(Pid::from_child(&terminal.process), signal).expect("a child can be signalled");
        given_back(terminal, "");
    }
    let mut terminal = watch(&[]);
    assert!(terminal.seen.contains(GREEN), "{:?}", terminal.seen);
    fleet.parti(&["list", "add", "q", "--force"]).assert().success();
    fleet.parti(&["wait", "settled"]).assert().success();
    // On another size all of it is drawn again, with what has changed meanwhile.
    terminal.pty.resize(Size::new(30, 120)).expect("a size");
    terminal.shows(" · 5 partitions ");
    terminal.shows("worker-0 working, leads ");
    // A key that comes with the news of the new size can be lost: crossterm reads one of the two.
    terminal.press("q");
    given_back(terminal, "q");
}
