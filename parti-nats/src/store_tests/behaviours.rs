//! The suite of behaviours that the model of the simulator is held to, held against real servers.

use parti_core::conformance::{BEHAVIOURS, StoreUnderTest};
use tokio::runtime::Runtime;

use super::*;

/// The suite of behaviours that the model of the simulator is held to, held against a real server: each with a group of
/// its own.
#[expect(clippy::print_stdout, reason = "the last behaviour that a failed test shows is the one that does not hold")]
fn behaves_as_the_model_does(servers: &Servers) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    for (number, behaviour) in BEHAVIOURS.iter().enumerate() {
        let group = GroupName::new(format!("behaviour-{number}")).expect("a valid name");
        let world = runtime.block_on(World::of(servers.known_elsewhere(), group));
        let racers = runtime.block_on(world.stores(RACERS));
        let (sender, shown) = mpsc::channel(1024);
        let mut real = Real { runtime: &runtime, world, racers, sender, shown, watching: JoinSet::new() };
        println!("{}", behaviour.what);
        (behaviour.check)(&mut real);
    }
}

#[test]
fn an_unknown_outcome_is_settled_by_what_is_stored() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let world = runtime.block_on(World::new(Servers::single()));
    runtime.block_on(async {
        let settled = async |write: &Write, known: &[Revision]| world.settled(write, Outcome::Unknown, known).await;
        let write = create(slot(1), 1);
        let first = Revision::new(1);
        assert_eq!(settled(&write, &[]).await, Outcome::Committed(first), "it had not arrived");
        assert_eq!(settled(&write, &[]).await, Outcome::Committed(first), "it had");
        assert_eq!(settled(&write, &[first]).await, Outcome::Conflict, "another one had");
        assert_eq!(settled(&create(slot(1), 2), &[]).await, Outcome::Conflict, "another value had");
        let appended = append(0, 1, 0);
        assert_eq!(settled(&appended, &[]).await, Outcome::Committed(first));
        world.commit(append(0, 1, 1)).await;
        assert_eq!(settled(&appended, &[]).await, Outcome::Conflict, "the same value, from a later append");
    });
}

#[test]
fn a_server_behaves_as_the_model_does() {
    behaves_as_the_model_does(&Servers::single());
}

#[test]
fn a_cluster_behaves_as_the_model_does() {
    behaves_as_the_model_does(&Servers::cluster());
}

/// As many as race at the same time in the suite, at most.
const RACERS: usize = 8;

/// A real server, for the suite.
struct Real<'a> {
    runtime: &'a Runtime,
    world: World,
    /// Each with a connection of its own.
    racers: Vec<Store>,
    sender: mpsc::Sender<Event>,
    shown: mpsc::Receiver<Event>,
    watching: JoinSet<()>,
}

impl StoreUnderTest for Real<'_> {
    fn write(&mut self, write: Write) -> Outcome {
        self.runtime.block_on(async { self.world.settled(&write, self.world.store.execute(&write).await, &[]).await })
    }

    fn race(&mut self, writes: Vec<Write>) -> Vec<Outcome> {
        assert!(writes.len() <= self.racers.len(), "one connection for each");
        let tries = self.racers.iter().zip(&writes).map(|(store, write)| store.execute(write));
        self.runtime.block_on(async {
            let mut outcomes = join_all(tries).await;
            for (place, write) in writes.iter().enumerate() {
                let committed = |outcome: &Outcome| match outcome {
                    Outcome::Committed(revision) => Some(*revision),
                    Outcome::Conflict | Outcome::Refused | Outcome::Unknown => None,
                };
                let known: Vec<_> = outcomes.iter().filter_map(committed).collect();
                outcomes[place] = self.world.settled(write, outcomes[place], &known).await;
            }
            outcomes
        })
    }

    fn put(&mut self, key: Key, bytes: &[u8]) -> Revision {
        self.runtime.block_on(self.world.put(key, bytes.to_vec()))
    }

    fn recreate(&mut self, bucket: Bucket) {
        self.runtime.block_on(self.world.recreate(bucket));
    }

    fn watch(&mut self, watch: WatchId, bucket: Bucket, interest: Interest) {
        let request = snapshot::Request { watch, bucket, interest };
        let watch = self.world.watch_of(request, self.sender.clone(), Duration::from_secs(600));
        self.watching.spawn_on(watch.run(), self.runtime.handle());
    }

    fn next(&mut self, patience: Duration) -> Option<KvEvent> {
        let next = async { tokio::time::timeout(patience, self.shown.recv()).await };
        match self.runtime.block_on(next).ok()?? {
            Event::Kv(event) => Some(event),
            other => panic!("not of a watch: {other:?}"),
        }
    }
}
