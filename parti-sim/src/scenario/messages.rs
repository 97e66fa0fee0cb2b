//! Messages of a stream follow the assignment.

use std::time::Duration;

use parti_core::delivery::{DeliveryConfig, Policy};

use super::{Scenario, Stage};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::scenario::stage::show;
use crate::setting::messages::MessageOptions;
use crate::setting::options::Options;

/// How long the figures are taken at least.
const WATCHED: Duration = Duration::from_secs(20);
/// How long all may take to be finished when nothing more is published.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a handoff may add to the drain: the last write, the grant, and the first reading.
const HANDOFF: Duration = Duration::from_millis(200);

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "delivery-handoff",
        "workers join and leave while messages come in: none is repeated, and none waits for long",
        |options| with(options, |_| {}),
        handoff,
        &[Mark::LetGo, Mark::Drained, Mark::MessageFinished],
    ),
    scenario(
        "delivery-crash",
        "a worker dies with messages in hand and read in advance: the next owner begins with the lowest unfinished one",
        |options| with(options, |messages| messages.batch = 16),
        crash,
        &[Mark::Crashed, Mark::PlannedEmergency, Mark::MessageFinished],
    ),
    scenario(
        "delivery-thawed-owner",
        "a worker is cut off with writes of positions on their way: they are refused when they come after the next owner's",
        |options| {
            with(options, |messages| {
                messages.work_ms = (100, 400);
                messages.delivery.commit_after = 1;
            });
        },
        thawed_owner,
        &[Mark::PositionRefused, Mark::NotPresent, Mark::EvictedByProbe],
    ),
    scenario(
        "delivery-store-rollback",
        "the bucket of positions loses its last writes, and a worker dies: what was stored there is repeated, no more",
        |options| with(options, |_| {}),
        store_rollback,
        &[Mark::PositionsLost, Mark::Crashed, Mark::MessageFinished],
    ),
    scenario(
        "delivery-stream-made-anew",
        "the stream is deleted and made anew: that is told, and its messages are delivered from the first one on",
        |options| with(options, |messages| messages.delivery.made_anew = Policy::Earliest),
        made_anew,
        &[Mark::StreamMadeAnew, Mark::MisfitTold, Mark::DeliveryStopped],
    ),
    scenario(
        "delivery-gap",
        "nobody reaches the store for longer than messages are kept: what was removed unread is told, partition by partition",
        |options| {
            with(options, |messages| {
                messages.kept_ms = 15_000;
                messages.delivery.gap = Policy::Earliest;
            });
        },
        gap,
        &[Mark::MessagesRemoved, Mark::GapTold],
    ),
    scenario(
        "delivery-poison",
        "a message ends each process that works on it: it leaves after its tries, and its partition goes on",
        |options| {
            with(options, |messages| {
                messages.poison_at = POISON;
                messages.delivery.dead_letters = true;
                messages.delivery.max_tries = 2;
            });
        },
        poison,
        &[Mark::MessageKilled, Mark::DeadLetter],
    ),
    scenario(
        "delivery-slow-partition",
        "handlers of some partitions are slow: no other partition waits for them",
        |options| {
            with(options, |messages| {
                messages.slow_every = 10;
                messages.work_ms = (20, 40);
                messages.delivery.buffer_messages = 4;
            });
        },
        slow_partition,
        &[Mark::MessageFinished],
    ),
];

/// The message with this number is poison, and the one with twice as much.
pub(super) const POISON: u64 = 6_000;

pub(super) const fn scenario(
    name: &'static str,
    shows: &'static str,
    adjust: fn(&mut Options),
    act: fn(&mut Stage),
    marks: &'static [Mark],
) -> Scenario {
    Scenario { name, shows, workers: 10, partitions: 100, adjust, act, marks }
}

/// Adds messages to a setting: a hundred a second, committed each second, with these changes.
pub(super) fn with(options: &mut Options, change: impl FnOnce(&mut MessageOptions)) {
    let mut messages = MessageOptions { delivery: DeliveryConfig::new("MESSAGES"), ..MessageOptions::default() };
    change(&mut messages);
    options.messages = Some(messages);
}

pub(super) fn begin(stage: &mut Stage) {
    stage.begin();
    stage.run_for(WATCHED);
    stage.measure();
}

/// Nothing more is published: soon everything is finished, and what was removed unread was told.
pub(super) fn finish(stage: &mut Stage) {
    stage.run_for(WATCHED);
    if let Some(mut delivering) = stage.world.delivering() {
        delivering.close_after(Duration::ZERO);
    }
    stage.run_until(PATIENCE, |world| world.ground.observers.messages.left() == 0);
    let left = stage.world.ground.observers.messages.left();
    stage.expect(Kind::Safety, "messages skipped", left, "0", left == 0);
    let finished = stage.world.ground.observers.messages.counts.finished;
    stage.expect(Kind::Liveness, "messages finished", finished, "> 1000", finished > 1_000);
}

pub(super) fn expect_repeated(stage: &mut Stage, most: u64) {
    let repeated = stage.world.ground.observers.messages.counts.repeated;
    stage.expect(Kind::Safety, "messages repeated", repeated, format!("<= {most}"), repeated <= most);
}

fn expect_waits_within(stage: &mut Stage, most: Duration) {
    let longest = stage.world.ground.observers.messages.longest_wait(stage.world.ground.now);
    let expected = format!("<= {}", show(most));
    stage.expect(Kind::Liveness, "longest wait for work on a message", show(longest), expected, longest <= most);
}

/// How many messages come in within two commit intervals: no more can be finished and not stored.
pub(super) fn in_two_intervals(stage: &Stage) -> u64 {
    let elapsed = stage.world.ground.now.since(stage.measured_from).as_millis().max(1);
    let stored = u128::from(stage.world.ground.observers.messages.counts.stored);
    u64::try_from(stored * 2_000 / elapsed).unwrap_or(u64::MAX)
}

pub(super) fn handoff(stage: &mut Stage) {
    begin(stage);
    stage.start_more(3);
    stage.settle();
    stage.operate("two workers leave", true);
    for process in stage.followers().into_iter().take(2) {
        stage.leave(process);
    }
    stage.settle();
    expect_repeated(stage, 0);
    let drain = Duration::from_millis(stage.options().application.drain_ms.1);
    expect_waits_within(stage, drain + HANDOFF);
    finish(stage);
}

pub(super) fn crash(stage: &mut Stage) {
    begin(stage);
    let victim = stage.any_follower();
    stage.disturb("a worker dies", true);
    stage.crash(victim);
    stage.calm();
    stage.settle();
    let most = in_two_intervals(stage);
    expect_repeated(stage, most);
    let orphan = stage.window().longest_orphan;
    expect_waits_within(stage, orphan + HANDOFF);
    finish(stage);
}

fn thawed_owner(stage: &mut Stage) {
    begin(stage);
    let lease = Duration::from_millis(stage.options().worker.lease_ms);
    let victims: Vec<_> = stage.followers().into_iter().take(3).collect();
    for victim in victims {
        stage.disturb("a worker is cut off for longer than its lease", true);
        // Its client does not notice; what it has sent waits in the connection.
        stage.world.links().isolate(victim, Some(lease * 2), false);
        stage.run_for(lease * 2);
        stage.calm();
        stage.settle();
    }
    finish(stage);
}

fn store_rollback(stage: &mut Stage) {
    begin(stage);
    stage.disturb("the bucket of positions loses its last writes, and a worker dies", true);
    if let Some(mut delivering) = stage.world.delivering() {
        delivering.roll_back_positions(LOST_WRITES);
    }
    let victim = stage.any_follower();
    stage.crash(victim);
    stage.calm();
    stage.settle();
    let most = 2 * in_two_intervals(stage) + u64::from(LOST_WRITES);
    expect_repeated(stage, most);
    finish(stage);
}

/// How many writes the bucket of positions loses.
const LOST_WRITES: u32 = 30;

pub(super) fn made_anew(stage: &mut Stage) {
    begin(stage);
    stage.disturb("the stream is deleted and made anew", false);
    if let Some(mut delivering) = stage.world.delivering() {
        delivering.make_anew();
    }
    stage.run_for(WATCHED);
    stage.calm();
    expect_repeated(stage, 0);
    finish(stage);
    stage.expect_nothing_moved();
}

fn gap(stage: &mut Stage) {
    begin(stage);
    let kept = Duration::from_millis(stage.options().messages.as_ref().map_or(0, |messages| messages.kept_ms));
    stage.disturb("nobody reaches the store for longer than messages are kept", false);
    stage.world.links().isolate_all(kept * 2, false);
    stage.run_for(kept * 2);
    stage.calm();
    stage.settle();
    finish(stage);
    stage.expect_nothing_moved();
}

pub(super) fn poison(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    stage.run_for(WATCHED * 6);
    stage.calm();
    stage.settle();
    let buried = stage.world.ground.observers.messages.counts.buried;
    stage.expect(Kind::Liveness, "dead letters", buried, "> 0", buried > 0);
    finish(stage);
}

pub(super) fn slow_partition(stage: &mut Stage) {
    begin(stage);
    stage.run_for(WATCHED);
    expect_waits_within(stage, HANDOFF);
    expect_repeated(stage, 0);
    finish(stage);
}
