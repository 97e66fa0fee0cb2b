//! Messages in random worlds: what is published, how it is delivered, and what goes wrong with it.

use parti_core::PlantedBug;
use parti_core::delivery::{DeliveryConfig, Engine, Policy, StartAt};

use super::Plan;
use super::deed::{Act, Deed, OnMessages, ToAll, ToOne};
use crate::fault::around::Around;
use crate::fault::plant::Plant;
use crate::rng::Rng;
use crate::setting::messages::MessageOptions;
use crate::setting::mix::Mix;
use crate::setting::options::Options;

/// How many worlds have messages where [`Some`](WithMessages::Some) are to have them, in parts per million.
const MESSAGES_PPM: u32 = 250_000;
/// How many of the worlds with messages have a stream that removes what is acknowledged, in parts per million.
const QUEUE_PPM: u32 = 500_000;
/// How many of the worlds with messages have each kind of trouble with them, in parts per million.
const EACH_PPM: u32 = 300_000;

/// Which random worlds have messages. What else happens in a world does not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WithMessages {
    /// None has, but those of a planted bug that shows in messages alone.
    None,
    /// A quarter has.
    #[default]
    Some,
    /// Each has, but those of a planted bug that has nothing to do with messages.
    All,
}

impl WithMessages {
    fn ppm(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Some => MESSAGES_PPM,
            Self::All => 1_000_000,
        }
    }
}

impl Plan {
    /// Puts messages into some worlds, or into this one if it `must` have them. All else that happens stays as it is.
    pub(super) fn add_messages(&mut self, with: WithMessages, must: bool, may_lose: bool, length_ms: u64) {
        let mut rng = Rng::for_purpose(self.options.seed, "messages-of-swarm");
        if !rng.chance(with.ppm()) && !must {
            return;
        }
        // What becomes of worlds with a stream that keeps its messages does not depend on it.
        let mut of_queue = Rng::for_purpose(self.options.seed, "queue-of-swarm");
        let is_queue = of_queue.chance(QUEUE_PPM);
        let mut messages = options(self.options.partitions, &mut rng);
        if is_queue {
            make_queue(&mut messages, &mut of_queue);
        } else {
            let mut of_positions = Rng::for_purpose(self.options.seed, "positions-of-swarm");
            messages.delivery.own_positions = of_positions.chance(EACH_PPM);
        }
        self.options.messages = Some(messages);
        if rng.chance(EACH_PPM * 2) {
            for _ in 0..rng.between(1, 4) {
                let deed = if is_queue { queue_deed(may_lose, &mut rng) } else { deed(may_lose, &mut rng) };
                let deed = Deed::All(ToAll::Messages(deed));
                self.acts.push(Act { at_ms: rng.below(length_ms), deed });
            }
            self.acts.sort_by_key(|act| act.at_ms);
        }
    }

    /// Makes it a world in which a bug of delivery shows soon.
    pub(super) fn provoke_delivery(&mut self, plant: Plant) {
        use PlantedBug as Bug;
        let who = |nth: u32| nth * 5;
        let leave = |nth: u32| Deed::One(ToOne::Leave { who: who(nth) });
        let join = |_: u32| Deed::All(ToAll::Join { ordinal: None });
        let replace = |nth: u32| Deed::One(ToOne::CrashAndReplace { who: who(nth), after_ms: 500 });
        let isolate =
            |nth: u32| Deed::One(ToOne::Isolate { who: who(nth), for_ms: 6_000, closed: nth.is_multiple_of(2) });
        let starve = |_: u32| Deed::All(ToAll::Messages(OnMessages::StarveTails { for_ms: None }));
        let remove = |nth: u32| Deed::All(ToAll::Messages(OnMessages::RemoveConsumer { which: nth }));
        let make_anew = |_: u32| Deed::All(ToAll::Messages(OnMessages::MakeAnew));
        let roll_back = |nth: u32| Deed::All(ToAll::Messages(OnMessages::RollBackPositions { writes: 10 * nth }));
        let kill_tails = |_: u32| Deed::All(ToAll::Messages(OnMessages::KillTails { told: true }));
        let deeds: &[&dyn Fn(u32) -> Deed] = match plant {
            Plant::Core(Bug::StoreThroughFence | Bug::HandWhileSuspended | Bug::IgnorePlaces)
            | Plant::Around(Around::PositionWithoutCondition | Around::ClaimOverProgress) => &[&isolate],
            Plant::Core(Bug::JoinRunningTail | Bug::TailFromEnd) => &[&join, &kill_tails, &leave],
            Plant::Core(Bug::ForgetTries | Bug::HandUncounted | Bug::TryAmongOthers) => &[],
            Plant::Core(Bug::NeverLook) => &[&starve],
            Plant::Around(Around::PositionOfAnyStream) => &[&make_anew, &roll_back],
            Plant::Around(Around::OneConsumerName) => &[&make_anew],
            Plant::Core(Bug::HandAgain) => &[&remove],
            Plant::Core(Bug::PullBeforeRestored) => &[&replace],
            Plant::Core(Bug::LetGoUnacknowledged) => &[&join, &leave],
            _ => &[&join, &leave, &replace],
        };
        let acts = if deeds.is_empty() { 0 } else { 12 };
        // A stream that is soon made anew again has given few numbers, which the next one soon gives.
        let is_twice = plant == Plant::Around(Around::OneConsumerName);
        let at_ms = |nth: u64| if is_twice { nth / 2 * 5_000 + nth % 2 * 1_500 } else { nth * 5_000 };
        let act = |nth: u32| Act { at_ms: at_ms(nth.into()), deed: deeds[nth as usize % deeds.len()](nth) };
        self.acts = (0..acts).map(act).collect();
        let options = &mut self.options;
        (options.workers, options.partitions, options.spare_partitions) = (4, 8, 0);
        (options.mix, options.zones, options.record_limit) = (Mix::default(), 0, 0);
        (options.worker.lease_ms, options.worker.other_lease_ms, options.worker.slots) = (2_000, 0, 1024);
        let mut messages = MessageOptions { every_ms: (1, 60), work_ms: (1, 60), ..MessageOptions::default() };
        let second = std::time::Duration::from_secs(1);
        messages.delivery = DeliveryConfig { dead_letters: true, commit_interval: 2 * second, ..messages.delivery };
        suit(plant, options, &mut messages);
        if plant.needs_queue() {
            messages.delivery.engine = Engine::Queue;
        }
        options.messages = Some(messages);
        self.lingers_ms = 60_000 * u64::from(deeds.is_empty());
    }
}

/// Sets what shows a bug of delivery soon.
fn suit(plant: Plant, options: &mut Options, messages: &mut MessageOptions) {
    use PlantedBug as Bug;
    match plant {
        Plant::Core(Bug::StoreThroughFence) | Plant::Around(Around::PositionWithoutCondition) => {
            options.mix.available_every = 1;
        }
        Plant::Around(Around::ClaimOverProgress) => {
            (options.mix.available_every, messages.delivery.own_positions) = (1, true);
            options.network.one_way_us = (1_000, 30_000);
            // Whoever is cut off goes on with what it has read, while others read and claim the position.
            (messages.every_ms, messages.work_ms) = ((5, 20), (30, 80));
        }
        Plant::Around(Around::PositionOfAnyStream) => {
            // What a worker still writes is how often a message has failed, among the last writes, which are lost.
            (messages.every_ms, messages.fails_ppm) = ((100, 800), 100_000);
            (messages.delivery.own_positions, messages.delivery.made_anew) = (true, Policy::Earliest);
        }
        Plant::Core(Bug::JoinRunningTail | Bug::TailFromEnd) => {
            (messages.lagging_ppm, messages.lag) = (600_000, 40);
            messages.delivery.ask_at_once = if options.seed.is_multiple_of(2) { 0 } else { 250 };
        }
        Plant::Around(Around::OneConsumerName) => {
            (options.network.slow_ppm, options.network.slow_us) = (200_000, (5_000, 4_000_000));
        }
        Plant::Core(Bug::LetGoUnacknowledged) => options.network.request_lost_ppm = 300_000,
        Plant::Core(Bug::ForgetReturned) => messages.fails_ppm = 100_000,
        Plant::Core(Bug::ForgetTries | Bug::HandUncounted) => {
            (messages.poison_at, messages.work_ms, messages.delivery.max_tries) = (200, (1, 1), 1);
            options.network.request_lost_ppm = if plant == Plant::Core(Bug::HandUncounted) { 300_000 } else { 0 };
        }
        // Whoever is slow has something in hand each time that the process ends.
        Plant::Core(Bug::TryAmongOthers) => {
            options.workers = 1;
            (messages.poison_at, messages.slow_every, messages.delivery.max_tries) = (50, 2, 3);
            (messages.every_ms, messages.work_ms) = ((50, 400), (50, 50));
        }
        _ => {}
    }
}

fn options(partitions: u32, rng: &mut Rng) -> MessageOptions {
    let some = |rng: &mut Rng, most| if rng.chance(EACH_PPM) { rng.below(most) } else { 0 };
    let number = |value: u64| u32::try_from(value).expect("a small number");
    let poison_at = if rng.chance(EACH_PPM) { rng.between(20, 200) } else { 0 };
    let pause_ms = [50, 100, 500, 2_000][rng.index(4)];
    let burst = if rng.chance(EACH_PPM) { rng.between(1, pause_ms / 20) } else { 1 };
    MessageOptions {
        every_ms: (1, pause_ms),
        burst: number(burst),
        kept_ms: if rng.chance(EACH_PPM) { rng.between(60_000, 120_000) } else { 0 },
        // Also a slow partition that gets all messages can keep up with them.
        work_ms: (1, (pause_ms * u64::from(partitions.clamp(4, 40)) / (80 * burst)).max(1)),
        slow_every: number(some(rng, 8)),
        batch: if rng.chance(EACH_PPM) { number(rng.between(2, 12)) } else { 1 },
        fails_ppm: number(some(rng, 100_000)),
        poison_at,
        lagging_ppm: number(some(rng, 500_000)),
        lag: rng.between(1, 40),
        tails_see_all: rng.chance(500_000),
        delivery: delivery(poison_at > 0, rng),
        ..MessageOptions::default()
    }
}

/// Makes it a stream that removes what is acknowledged, and whose limits remove nothing.
fn make_queue(messages: &mut MessageOptions, rng: &mut Rng) {
    messages.interest = rng.chance(EACH_PPM);
    // Others do not deliver from streams with interest.
    messages.resets = messages.interest || rng.chance(500_000);
    messages.ack_wait_ms = [2_000, 10_000, 60_000][rng.index(3)];
    (messages.kept_ms, messages.lagging_ppm) = (0, 0);
    let delivery = &mut messages.delivery;
    (delivery.engine, delivery.start) = (Engine::Queue, StartAt::Earliest);
    delivery.pull_time = std::time::Duration::from_millis(rng.between(500, 8_000));
}

fn queue_deed(may_lose: bool, rng: &mut Rng) -> OnMessages {
    let count = u32::try_from(rng.between(1, 40)).unwrap_or(1);
    match rng.below(if may_lose { 8 } else { 2 }) {
        0 | 1 => OnMessages::RemoveConsumer { which: count },
        2 | 3 => OnMessages::LoseConsumers,
        4 => OnMessages::LoseSuffix { count },
        5 => OnMessages::MakeAnew,
        6 => OnMessages::RollBackPositions { writes: count },
        _ => OnMessages::PurgePositions,
    }
}

fn delivery(has_poison: bool, rng: &mut Rng) -> DeliveryConfig {
    let number = |value: u64| u32::try_from(value).expect("a small number");
    let ms = std::time::Duration::from_millis;
    let policy = |rng: &mut Rng| [Policy::Earliest, Policy::Earliest, Policy::Latest, Policy::Stop][rng.index(4)];
    let (made_anew, lost_suffix, gap) = (policy(rng), policy(rng), policy(rng));
    DeliveryConfig {
        start: if rng.chance(100_000) { StartAt::Latest } else { StartAt::Earliest },
        made_anew,
        lost_suffix,
        gap,
        commit_after: number(rng.between(1, 40)),
        commit_interval: ms(rng.between(50, 2_000)),
        buffer_messages: number(rng.between(1, 20)),
        buffer_bytes: [100, 1_000, 1 << 20][rng.index(3)],
        max_unfinished: number(rng.between(1, 20)),
        max_tries: number(rng.between(1, 4)),
        dead_letters: has_poison || rng.chance(500_000),
        back_off: ms(rng.between(10, 100)),
        max_back_off: ms(rng.between(100, 2_000)),
        parallel_reads: number(rng.between(1, 8)),
        ask_at_once: [0, 1, 3, 250][rng.index(4)],
        ..DeliveryConfig::new("MESSAGES")
    }
}

fn deed(may_lose: bool, rng: &mut Rng) -> OnMessages {
    let count = u32::try_from(rng.between(1, 40)).unwrap_or(1);
    match rng.below(if may_lose { 8 } else { 3 }) {
        0 => OnMessages::KillTails { told: rng.chance(500_000) },
        1 => OnMessages::StarveTails { for_ms: Some(rng.between(500, 10_000)) },
        2 => OnMessages::StarveTails { for_ms: None },
        3 => OnMessages::LoseSuffix { count },
        4 => OnMessages::MakeAnew,
        5 | 6 => OnMessages::RollBackPositions { writes: count },
        _ => OnMessages::PurgePositions,
    }
}
