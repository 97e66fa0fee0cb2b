//! What is done to a world, as it is done.

use std::time::Duration;

use parti_core::{Bucket, Command, Key, Slot};

use super::Happening;
use super::deed::{Deed, Left, OnMessages, ToAll, ToOne, Trouble};
use crate::rng::Rng;
use crate::setting::birth::Birth;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::world::process::Life;

impl Happening {
    pub(super) fn perform(&mut self, deed: &Deed) {
        let what = format!("{deed:?}");
        let nature = deed.nature();
        let may_move = nature.may_move;
        if nature.is_fault {
            self.world.ground.tell(&Fact::Disturbed { what: &what, may_move });
        } else {
            self.world.ground.tell(&Fact::Operated { what: &what, may_move });
        }
        match deed {
            Deed::One(deed) => {
                if let Some(process) = self.pick(deed.who()) {
                    self.do_to(process, deed);
                }
            }
            Deed::All(deed) => self.do_to_all(deed),
        }
    }

    fn do_to(&mut self, process: ProcessId, deed: &ToOne) {
        let ms = Duration::from_millis;
        match *deed {
            ToOne::Crash { .. } => self.world.crash(process),
            ToOne::CrashAndReplace { after_ms, .. } => self.world.crash_and_replace(process, ms(after_ms)),
            ToOne::Restart { gap_ms, .. } => {
                let birth = Birth { predecessor_is_dead: false, ..self.birth_of(process) };
                if self.world.ground.process(process).life == Life::Running {
                    self.world.restart(process, ms(gap_ms), birth);
                }
            }
            ToOne::Leave { .. } => self.world.command(process, Command::Leave),
            ToOne::RebalanceNow { .. } => self.world.command(process, Command::RebalanceNow),
            ToOne::Drain { drains, .. } => {
                self.world.command(process, if drains { Command::Drain } else { Command::Undrain });
            }
            ToOne::GiveUp { which, .. } => self.world.give_up(process, which),
            ToOne::Upgrade { software, .. } => {
                let birth = Birth { software: software.to_string(), ..self.birth_of(process) };
                self.world.start_in_turn(Birth { predecessor_is_dead: false, ..birth });
                self.world.command(process, Command::Restart);
            }
            ToOne::Freeze { for_ms, .. } => self.world.freeze(process, ms(for_ms)),
            ToOne::Pause { for_ms, .. } => self.world.pause(process, ms(for_ms)),
            ToOne::Isolate { for_ms, closed, .. } => self.world.links().isolate(process, Some(ms(for_ms)), closed),
            ToOne::SilenceWatch { for_ms, plan, .. } => {
                let until = self.world.ground.now + ms(for_ms);
                self.world.watchers.silence(process, bucket(plan), until);
            }
            ToOne::BreakWatch { plan, .. } => self.world.at_store().break_watch(process, bucket(plan)),
            ToOne::FalselyGone { for_ms, .. } => {
                let until = self.world.ground.now + ms(for_ms);
                self.world.ground.process_mut(process).falsely_gone_until = until;
            }
            ToOne::Reconnect { .. } => self.world.reconnect_unheard(process),
            ToOne::TakeSubscription { for_ms, told, .. } => {
                self.world.probing().take_subscription(process, ms(for_ms), told);
            }
            ToOne::SlowApplication { percent, .. } => self.world.ground.process_mut(process).drain_percent = percent,
            ToOne::Trouble(ref trouble) => self.trouble(process, trouble),
        }
    }

    fn trouble(&mut self, process: ProcessId, trouble: &Trouble) {
        let (ms, now) = (Duration::from_millis, self.world.ground.now);
        match *trouble {
            Trouble::StoreAway { for_ms, .. } => {
                self.world.ground.process_mut(process).link.take_store_away(now + ms(for_ms));
            }
            Trouble::ReadOnly { for_ms, .. } => {
                self.world.ground.process_mut(process).link.make_read_only(now + ms(for_ms));
            }
            Trouble::Sleep { for_ms, .. } => self.world.sleep(process, ms(for_ms)),
            Trouble::StepClock { forward_ms, .. } => self.world.step_clock(process, ms(forward_ms)),
            Trouble::RaceForTheDead { apart_ms, for_ms, .. } => {
                self.world.race_for_the_dead(process, ms(apart_ms), ms(for_ms));
            }
        }
    }

    fn do_to_all(&mut self, deed: &ToAll) {
        let ms = Duration::from_millis;
        match *deed {
            ToAll::Join { ordinal } => {
                let birth = self.newcomer(ordinal.map(Slot::new));
                self.world.start(birth);
            }
            ToAll::Wish { wish, wanted } => self.world.at_store().wish(wish.control(), wanted),
            ToAll::IsolateAll { for_ms, closed } => self.world.links().isolate_all(ms(for_ms), closed),
            ToAll::CutRoute { one, other, for_ms } => self.world.probing().cut_route(one, other, ms(for_ms)),
            ToAll::StallServer { server, for_ms } => self.world.probing().stall_server(server, ms(for_ms)),
            ToAll::StoreDown { for_ms } => self.world.links().store_down(ms(for_ms)),
            ToAll::StoreFull { for_ms } => self.world.links().store_full(ms(for_ms)),
            ToAll::ServerDown { for_ms } => self.world.links().server_down(ms(for_ms)),
            ToAll::RollBack { plan, writes, for_ms } => {
                self.world.at_store().roll_back(bucket(plan), writes as usize, ms(for_ms));
            }
            ToAll::Recreate { plan, unknowing } => self.world.at_store().recreate(bucket(plan), unknowing),
            ToAll::BringBack { plan, writes, for_ms } => {
                self.world.at_store().bring_back(bucket(plan), writes as usize, ms(for_ms));
            }
            ToAll::Purge { plan } => self.world.at_store().purge(bucket(plan)),
            ToAll::ChangeList { seed, keep_percent } => {
                let keeps = |partition: PartitionIndex| {
                    Rng::new(seed ^ partition.index() as u64).below(100) < u64::from(keep_percent)
                };
                self.world.set_list(keeps);
            }
            ToAll::ShiftLoad { times, every } => {
                self.world.shift_loads(times, |partition| partition.index().is_multiple_of(every as usize));
            }
            ToAll::Garbage { slot, plan } => {
                let slot = Slot::new(slot);
                let key = if plan { Key::Assign(slot) } else { Key::Slot(slot) };
                self.world.at_store().write_garbage(key);
            }
            ToAll::Trouble(Left::Garbage { under, stays }) => self.world.at_store().leave_garbage(under.key(), stays),
            ToAll::Messages(ref deed) => self.do_to_messages(deed),
        }
    }

    fn do_to_messages(&mut self, deed: &OnMessages) {
        let Some(mut delivering) = self.world.delivering() else { return };
        match *deed {
            OnMessages::KillTails { told } => delivering.kill_tails(told),
            OnMessages::StarveTails { for_ms } => delivering.starve_tails(for_ms.map(Duration::from_millis)),
            OnMessages::LoseSuffix { count } => delivering.lose_suffix(u64::from(count)),
            OnMessages::MakeAnew => delivering.make_anew(),
            OnMessages::RollBackPositions { writes } => delivering.roll_back_positions(writes),
            OnMessages::PurgePositions => delivering.purge_positions(),
            OnMessages::LoseConsumers => delivering.lose_consumers(),
            OnMessages::RemoveConsumer { which } => delivering.remove_consumer(which as usize),
        }
    }
}

const fn bucket(plan: bool) -> Bucket {
    if plan { Bucket::Plan } else { Bucket::Members }
}
