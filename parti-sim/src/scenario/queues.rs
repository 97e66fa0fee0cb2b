//! Messages of a stream that removes what is acknowledged follow the assignment: a consumer for each partition.

use std::time::Duration;

use parti_core::delivery::Engine;

use super::messages::{
    POISON, begin, crash, expect_repeated, finish, handoff, in_two_intervals, made_anew, poison, scenario,
    slow_partition, with,
};
use super::{Scenario, Stage};
use crate::check::mark::Mark;
use crate::setting::messages::MessageOptions;
use crate::setting::options::Options;

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "delivery-queue-handoff",
        "workers join and leave while a work queue fills: no message is repeated, and none waits for long",
        |options| with_queue(options, |_| {}),
        handoff,
        &[Mark::LetGo, Mark::Drained, Mark::Acknowledged],
    ),
    scenario(
        "delivery-queue-crash",
        "a worker dies with messages of a work queue in hand and delivered in advance: the next owner begins with the lowest unfinished one",
        |options| {
            with_queue(options, |messages| {
                messages.batch = 16;
                messages.work_ms = (200, 400);
            });
        },
        crash,
        &[Mark::Crashed, Mark::PlannedEmergency, Mark::ConsumerRestored],
    ),
    scenario(
        "delivery-queue-thawed-owner",
        "a worker is cut off while its pulls wait at the server: what they take is missed and delivered again, in order",
        |options| {
            with_queue(options, |messages| {
                messages.work_ms = (100, 400);
                // They outlast the lease.
                messages.delivery.pull_time = Duration::from_secs(30);
            });
        },
        thawed_owner,
        &[Mark::ConsumerRestored, Mark::NotPresent, Mark::EvictedByProbe],
    ),
    scenario(
        "delivery-queue-made-anew",
        "a work queue is deleted and made anew: its consumers are made anew, and deliver from the first message on",
        |options| with_queue(options, |messages| messages.resets = false),
        made_anew,
        &[Mark::StreamMadeAnew, Mark::MisfitTold, Mark::DeliveryStopped],
    ),
    scenario(
        "delivery-queue-poison",
        "a message of a work queue ends each process that works on it: it leaves after its tries, and its partition goes on",
        |options| {
            with_queue(options, |messages| {
                messages.poison_at = POISON;
                messages.delivery.dead_letters = true;
                messages.delivery.max_tries = 2;
            });
        },
        poison,
        &[Mark::MessageKilled, Mark::DeadLetter, Mark::ConsumerRestored],
    ),
    scenario(
        "delivery-queue-slow-partition",
        "handlers of some partitions of a work queue are slow: no other partition waits for them",
        |options| {
            with_queue(options, |messages| {
                messages.slow_every = 10;
                messages.work_ms = (20, 40);
                messages.delivery.buffer_messages = 4;
            });
        },
        slow_partition,
        &[Mark::Acknowledged],
    ),
];

/// Adds the messages of a work queue to a setting, with these changes.
fn with_queue(options: &mut Options, change: impl FnOnce(&mut MessageOptions)) {
    with(options, |messages| {
        messages.delivery.engine = Engine::Queue;
        change(messages);
    });
}

fn thawed_owner(stage: &mut Stage) {
    begin(stage);
    let lease = Duration::from_millis(stage.options().worker.lease_ms);
    let victims: Vec<_> = stage.followers().into_iter().take(3).collect();
    for victim in &victims {
        stage.disturb("a worker is cut off for longer than its lease", true);
        // Its client does not notice; its pulls wait at the server, and take what comes.
        stage.world.links().isolate(*victim, Some(lease * 2), false);
        stage.run_for(lease * 2);
        stage.calm();
        stage.settle();
    }
    // Of each one what it had finished and not acknowledged.
    let most = victims.len() as u64 * in_two_intervals(stage);
    expect_repeated(stage, most);
    finish(stage);
}
