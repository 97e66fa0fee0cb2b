//! A transport of one's own: `parti-core` around a store in memory, each worker in a thread. Three workers start, one ends
//! without a word, the others take its partitions, and then all hand over and leave. No server, no runtime.
//!
//! ```sh
//! cargo run -p parti-example-services --bin custom_transport
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

mod store;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use parti_core::{Action, Command, Config, Event, Instant, KvEvent, PartitionList, ServerId, Session, Worker};

use crate::store::Store;

/// Runs one worker until it has left, or `dies` after that time.
fn run(number: usize, store: &Mutex<Store>, own: &Sender<Event>, events: &Receiver<Event>, dies: Option<Duration>) {
    let began = std::time::Instant::now(); // a real one goes on while the machine sleeps
    let now = || Instant::ORIGIN + began.elapsed();
    // Nobody can ask here whether a process still listens, so that a crash is found out when its lease is over.
    let config =
        Config { lease: Duration::from_secs(1), probe_confirm: None, expected_workers: Some(3), ..Config::default() };
    let seed = RandomState::new().build_hasher().finish(); // from the randomness of the operating system
    let mut worker = Worker::new(config, seed, now()).expect("these settings fit");
    while !worker.status().halted && dies.is_none_or(|dies| began.elapsed() < dies) {
        let wait = worker.poll_timeout().map_or(Duration::MAX, |due| due.since(now())).min(Duration::from_millis(100));
        worker.handle(now(), events.recv_timeout(wait).unwrap_or(Event::Timeout));
        while let Some(action) = worker.poll_action() {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = match action {
                Action::Kv(request) => {
                    let outcome = store.write(&request.write);
                    Event::Kv(KvEvent::Done { operation: request.operation, outcome })
                }
                Action::Watch { watch, bucket, interest } => {
                    store.watch(number, watch, bucket, interest, own);
                    continue;
                }
                Action::Acquire { partition, token } => {
                    println!("worker {number} acquires {} ({token})", partition.id);
                    continue;
                }
                Action::Release { partition, token, .. } | Action::Cancel { partition, token } => {
                    println!("worker {number} releases {partition}");
                    Event::Released { partition, token }
                }
                Action::Check { session, check } => Event::Present { session, check },
                // Nothing listens, warms up, or has to be told; a store in memory is never out of reach.
                Action::Listen
                | Action::Probe { .. }
                | Action::Prepare { .. }
                | Action::Notice(_)
                | Action::Halt
                | Action::Suspend { .. }
                | Action::Resume => continue,
            };
            let _ = own.send(answer); // to itself
        }
    }
}

fn main() {
    let store = Arc::new(Mutex::new(Store::default()));
    let list = PartitionList::from_pairs((0..6).map(|number| (format!("orders-{number}"), 1))).expect("valid ids");
    let workers = [None, None, Some(Duration::from_secs(3))].into_iter().enumerate().map(|(number, dies)| {
        let ((own, events), store) = (channel(), Arc::clone(&store));
        let told = own.clone();
        let _ = told.send(Event::Partitions(list.clone()));
        let _ = told.send(Event::Listening { session: Session::new(1), server: ServerId::new("memory") });
        (told, thread::spawn(move || run(number, &store, &own, &events, dies)))
    });
    let workers: Vec<_> = workers.collect();
    thread::sleep(Duration::from_secs(8));
    for (told, thread) in workers {
        let _ = told.send(Event::Command(Command::Leave));
        thread.join().expect("no worker panics");
    }
    println!("all have left");
}
