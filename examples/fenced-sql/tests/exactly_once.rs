//! Each unit of work has its effect once: in a simulated cluster with faults, and with processes that are killed.

#[path = "../../../parti-nats/tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parti_example_fenced_sql::{Totals, TotalsError, work};
use parti_nats::{Config, Generation, PartitionId, Token};
use parti_sim::kit::{Cluster, Failure};
use support::Server;

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn token(epoch: u64) -> Token {
    Token { epoch: Generation::new(epoch), ..Token::default() }
}

fn open(folder: &Path) -> Totals {
    Totals::open(&folder.join("totals.db")).expect("a folder of its own")
}

/// Each position has one effect, and there is none without its position.
fn assert_exactly_once(totals: &Totals) {
    for (partition, position, effects, sum) in totals.all().expect("it can be read") {
        assert_eq!((effects, sum), (position, i64::try_from(position).expect("few")), "{partition}");
    }
}

#[test]
fn a_lower_token_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let totals = open(folder.path());
    let one = PartitionId::new("one").expect("a valid id");
    assert_eq!(totals.claim(&one, token(1)).expect("nobody has it"), 0);
    totals.note(&one, token(1), 1, 5).expect("it is the owner");
    assert_eq!(totals.claim(&one, token(2)).expect("it is newer"), 1);
    for refused in [totals.note(&one, token(1), 2, 7), totals.claim(&one, token(1)).map(drop)] {
        let error = refused.expect_err("its token is lower");
        assert!(matches!(error, TotalsError::Fenced { .. }) && error.to_string().contains("another owner"), "{error}");
    }
    assert_eq!(totals.all().expect("it can be read"), [("one".to_owned(), 1, 1, 5)], "the effect is rolled back too");
    totals.note(&one, token(2), 2, 1).expect("it is the owner");
    // The same position again is a bug of the handler: the database has it already.
    assert!(matches!(totals.note(&one, token(2), 2, 1), Err(TotalsError::Database(_))));
}

/// Nothing to wait for once all is settled.
fn config() -> Config {
    Config { rebalance_interval: Duration::from_secs(10), ..Config::default() }
}

#[test]
fn the_handler_counts_exactly_once_through_random_faults() -> Result<(), Failure> {
    for seed in 0..3 {
        let totals = Arc::new(Totals::open(Path::new(":memory:")).expect("memory is there"));
        let shared = Arc::clone(&totals);
        let handler = move |guard| work(guard, Arc::clone(&shared));
        let mut cluster =
            Cluster::of(3).partition_ids(["a", "b", "c", "d"]).config(config()).handler(handler).seed(seed).start()?;
        cluster.settle()?;
        cluster.random_faults(Duration::from_secs(60))?;
        cluster.freeze(cluster.running()[0], Duration::from_secs(20))?;
        cluster.finish()?;
        assert_exactly_once(&totals);
        assert!(totals.all().expect("it can be read").iter().all(|(_, position, ..)| *position > 500));
    }
    Ok(())
}

/// Ends with its test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn processes_that_are_killed_leave_nothing_done_twice_or_not_at_all() {
    let (server, folder) = (Server::start(), tempfile::tempdir().expect("a folder"));
    let start = || {
        let database = folder.path().join("totals.db");
        let mut command = Command::new(env!("CARGO_BIN_EXE_parti-example-fenced-sql"));
        Worker(command.args(["--url", &server.url()]).arg("--database").arg(database).spawn().expect("it starts"))
    };
    let mut workers = vec![start(), start()];
    let totals = open(folder.path());
    let positions = || -> Vec<u64> { totals.all().expect("it can be read").iter().map(|row| row.1).collect() };
    let go_on = |from: Vec<u64>| {
        let began = Instant::now();
        let further =
            || positions().len() == 8 && positions().iter().zip(&from).all(|(now, before)| *now > before + 10);
        while !further() {
            assert!(began.elapsed() < DEADLINE, "{:?} after {from:?}", positions());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    go_on(vec![0; 8]);
    for _ in 0..3 {
        let mut killed = workers.remove(0);
        killed.0.kill().expect("it runs");
        workers.push(start());
        go_on(positions());
        assert_exactly_once(&totals);
    }
}
