//! Each example does what its first lines say, with a real server, and ends well when it is told to.

#[path = "../../../parti-nats/tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::Server;

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// An example that runs. It ends with its test.
struct Example {
    process: Child,
    lines: Receiver<String>,
    /// What it logs.
    log: Receiver<String>,
}

impl Example {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let piped = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = piped.spawn().expect("it starts");
        let lines = read(process.stdout.take().expect("piped"));
        let log = read(process.stderr.take().expect("piped"));
        Self { process, lines, log }
    }

    /// Waits until it has said that many different lines which have `what` in them.
    fn says(&self, what: &str, how_many: usize) -> BTreeSet<String> {
        hear(&self.lines, what, how_many)
    }

    /// Tells it to stop, waits until it has, and returns what it said meanwhile.
    fn stop(mut self) -> Vec<String> {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("a child can be signalled");
        let status = self.process.wait().expect("a child can be waited for");
        assert!(status.success(), "it has ended with {status}");
        self.lines.iter().collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The lines that come from a process, as they come.
fn read(output: impl Read + Send + 'static) -> Receiver<String> {
    let (said, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| said.send(line))
    });
    lines
}

/// Waits until that many different lines have come which have `what` in them.
fn hear(lines: &Receiver<String>, what: &str, how_many: usize) -> BTreeSet<String> {
    let (began, mut said) = (Instant::now(), BTreeSet::new());
    while said.len() < how_many {
        let left = DEADLINE.saturating_sub(began.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) if line.contains(what) => _ = said.insert(line),
            Ok(_) => {}
            Err(error) => panic!("{what:?} was to come {how_many} times, but {error} after {said:?}"),
        }
    }
    said
}

/// Waits for a condition.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "never {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

macro_rules! bin {
    ($name:literal) => {
        env!(concat!("CARGO_BIN_EXE_", $name))
    };
}

#[test]
fn a_strategy_of_ones_own_gives_neighbours() {
    let server = Server::start();
    let url = server.url();
    let one = Example::start(bin!("custom_strategy"), &["--url", &url]);
    one.says("is mine", 12);
    let other = Example::start(bin!("custom_strategy"), &["--url", &url]);
    // One after another, as the move budget allows.
    let moved = other.says("is mine", 6);
    let expected: BTreeSet<String> = (6..12).map(|number| format!("shelf-{number:02} is mine")).collect();
    assert_eq!(moved, expected);
    other.stop();
    one.stop();
}

#[test]
fn a_list_in_a_file_is_followed() {
    let (server, folder) = (Server::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("partitions.txt");
    std::fs::write(&file, "small 1\nlarge 12\n").expect("a folder of its own");
    let example = Example::start(bin!("custom_source"), &["--url", &server.url(), "--file", &file.to_string_lossy()]);
    assert!(example.says("is mine", 2).contains("large is mine, and weighs 12"));
    // What is no list changes nothing.
    std::fs::write(&file, "small\n").expect("it can be written");
    hear(&example.log, "source_failed", 1);
    std::fs::write(&file, "small 1\nnew 3\n").expect("it can be written");
    example.says("new is mine, and weighs 3", 1);
    example.stop();
}

#[test]
fn a_transport_of_ones_own_needs_no_server() {
    let mut example = Example::start(bin!("custom_transport"), &[]);
    assert!(example.process.wait().expect("a child can be waited for").success());
    let said: Vec<String> = example.lines.iter().collect();
    let acquired = |number: usize| said.iter().filter(|line| line.starts_with(&format!("worker {number} acq"))).count();
    assert!(acquired(2) >= 1, "the one that dies had something: {said:?}");
    assert!(acquired(0) + acquired(1) >= 6, "the others have it all in the end: {said:?}");
    assert_eq!(said.last().map(String::as_str), Some("all have left"));
}

#[test]
fn files_are_worked_on_once_and_are_gone() {
    let (server, folder) = (Server::start(), tempfile::tempdir().expect("a folder"));
    for partition in ["eu", "us", "asia"] {
        std::fs::create_dir(folder.path().join(partition)).expect("a folder of its own");
        for number in 0..5 {
            let file = folder.path().join(partition).join(number.to_string());
            std::fs::write(file, format!("letter {number}")).expect("a folder of its own");
        }
    }
    let inbox = folder.path().to_string_lossy().into_owned();
    let arguments = ["--url", &server.url(), "--inbox", &inbox];
    let workers = [(); 2].map(|()| Example::start(bin!("polling"), &arguments));
    let left =
        || ["eu", "us", "asia"].map(|partition| folder.path().join(partition).read_dir().expect("there").count());
    until("without files", || left() == [0; 3]);
    let said = workers.map(Example::stop).concat();
    assert_eq!(said.len(), 15, "each file once: {said:?}");
}

#[test]
fn tasks_are_done_by_lane_and_are_gone() {
    let server = Server::start();
    let one = Example::start(bin!("task_queue"), &["--url", &server.url(), "--publish", "100"]);
    let done = one.says("task ", 100);
    assert!(done.iter().all(|line| line.starts_with("lane.")), "{done:?}");
    one.stop();
    let other = Example::start(bin!("task_queue"), &["--url", &server.url(), "--publish", "1"]);
    other.says("task 0", 1);
    assert_eq!(other.stop().len(), 0, "nothing comes again");
}

#[test]
fn every_range_is_scanned_to_its_end() {
    let server = Server::start();
    let workers = [(); 2].map(|()| Example::start(bin!("token_ranges"), &["--url", &server.url()]));
    let [one, other] = &workers;
    let mut done = BTreeSet::new();
    until("all done", || {
        let said = one.lines.try_iter().chain(other.lines.try_iter());
        done.extend(said.filter_map(|line| Some(line.split_once(" is done")?.0.to_owned())));
        done.len() == 64
    });
    let _ = workers.map(Example::stop);
}

#[test]
fn what_is_in_flight_is_finished_before_the_process_ends() {
    let server = Server::start();
    let example = Example::start(bin!("graceful"), &["--url", &server.url()]);
    example.says("finished", 4);
    let said = example.stop();
    assert!(!said.iter().any(|line| line.contains("interrupted")), "{said:?}");
    assert_eq!(said.iter().filter(|line| line.contains("have ended")).count(), 4, "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("left with nothing in flight"));
}

#[test]
fn a_group_reads_what_was_published_and_says_what_it_is_assigned() {
    let server = Server::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        use parti_nats::async_nats::jetstream::{self, stream};
        let client = parti_nats::async_nats::connect(server.url()).await.expect("a server");
        let jetstream = jetstream::new(client);
        let wanted = stream::Config {
            name: "ORDERS".into(),
            subjects: vec!["orders.*".into()],
            allow_direct: true,
            ..stream::Config::default()
        };
        jetstream.create_stream(wanted).await.expect("there is none yet");
        for number in 0..120 {
            let subject = format!("orders.p{:05}", number % 12);
            jetstream.publish(subject, "order".into()).await.expect("connected").await.expect("stored");
        }
    });
    let example = Example::start(bin!("consumer_group"), &["--url", &server.url()]);
    let (began, mut read) = (Instant::now(), 0);
    while read < 120 {
        let left = DEADLINE.saturating_sub(began.elapsed());
        let line = example.lines.recv_timeout(left).expect("there are more messages");
        if let Some((_, batch)) = line.split_once(": ") {
            let (count, _) = batch.split_once(' ').expect("`p00001: 10 up to 110`");
            read += count.parse::<usize>().expect("a number");
        }
    }
    assert_eq!(example.stop().iter().filter(|line| line.ends_with("revoked")).count(), 12);
}

#[test]
fn one_holds_the_office_at_a_time_and_the_next_goes_on_where_it_was() {
    let server = Server::start();
    let start = || Example::start(bin!("leader_only"), &["--url", &server.url()]);
    let one = start();
    one.says("tick", 3);
    let other = start();
    let said = one.stop();
    let last = said.iter().rev().find_map(|line| line.strip_prefix("tick ")?.parse::<u64>().ok());
    let next = other.says("in office after tick", 1);
    if let Some(last) = last {
        assert_eq!(next, BTreeSet::from([format!("in office after tick {last}")]));
    }
    other.says("tick", 2);
    other.stop();
}

#[test]
fn every_example_says_how_to_reach_a_server() {
    let examples = [
        bin!("custom_strategy"),
        bin!("custom_source"),
        bin!("polling"),
        bin!("task_queue"),
        bin!("token_ranges"),
        bin!("graceful"),
        bin!("consumer_group"),
        bin!("leader_only"),
    ];
    for example in examples {
        let help = Command::new(example).arg("--help").output().expect("it starts");
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success() && text.contains("--url") && text.contains("NATS_URL"), "{example}: {text}");
    }
}
