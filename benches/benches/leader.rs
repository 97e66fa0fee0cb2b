//! How long a leader of 1 000 workers and 100 000 partitions takes for a heartbeat, and for a decision.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use parti_benches::leader::{Change, Fleet, SIZE};

fn heartbeat(criterion: &mut Criterion) {
    let (mut fleet, _) = Fleet::new(SIZE);
    let mut beats = fleet.heartbeats().into_iter();
    criterion.bench_function("leader/heartbeat", |bencher| {
        bencher.iter_custom(|times| {
            let mut total = Duration::ZERO;
            for _ in 0..times {
                let beat = beats.next().unwrap_or_else(|| {
                    beats = fleet.heartbeats().into_iter();
                    beats.next().expect("there are other workers")
                });
                let start = std::time::Instant::now();
                drop(fleet.handle(beat));
                total += start.elapsed();
            }
            total
        });
    });
}

/// A worker crashes and comes back, again and again: the emergency, and the plan that restores the balance.
fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("leader/decision");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(10));
    let (mut fleet, _) = Fleet::new(SIZE);
    for (change, undo) in [(Change::Crash, Change::Return), (Change::Return, Change::Crash)] {
        if change == Change::Return {
            fleet.bring(undo);
        }
        group.bench_function(change.name(), |bencher| {
            bencher.iter_custom(|times| {
                let mut total = Duration::ZERO;
                for _ in 0..times {
                    total += fleet.bring(change).decisions.iter().map(|(_, took)| *took).max().unwrap_or_default();
                    fleet.bring(undo);
                }
                total
            });
        });
    }
}

criterion_group!(benches, heartbeat, decisions);
criterion_main!(benches);
