//! How long a plan takes, for every size, weights and event that has a bound.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use parti_benches::{Event, Group, SIZES, Size, Weights, hash_all};
use parti_core::assign::{Balanced, ConsistentHash, RoundRobin, Strategy};

fn plans(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("balanced/{}x{}", size.partitions, size.workers));
        // Ten samples of a million partitions are a second; of ten thousand there are thousands in as long.
        group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
        group.throughput(Throughput::Elements(size.partitions as u64));
        for weights in Weights::ALL {
            let balanced = Group::new(size, weights);
            for event in Event::ALL {
                let case = balanced.after(event);
                group.bench_function(BenchmarkId::new(weights.name(), event.name()), |bencher| {
                    bencher.iter_with_large_drop(|| case.plan(&Balanced));
                });
            }
        }
        // What a plan is compared with: one pass of XXH3 over the ids.
        let case = Group::new(size, Weights::Equal).after(Event::FromNothing);
        group.bench_function("hash every id once", |bencher| bencher.iter(|| hash_all(black_box(&case.partitions))));
    }
}

fn strategies(criterion: &mut Criterion) {
    let size = Size { partitions: 10_000, workers: 200 };
    let mut group = criterion.benchmark_group("strategies/10000x200");
    group.sample_size(10).measurement_time(Duration::from_secs(1));
    let case = Group::new(size, Weights::Equal).after(Event::JoinOne);
    let all: [(&str, &dyn Strategy); 3] = [
        ("balanced", &Balanced),
        ("consistent-hash", &ConsistentHash { virtual_nodes: 150 }),
        ("round-robin", &RoundRobin),
    ];
    for (name, strategy) in all {
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(|| case.plan(strategy)));
    }
}

criterion_group!(benches, plans, strategies);
criterion_main!(benches);
