//! What a worker knows, part by part.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::departure::Departure;
use super::link::Link;
use crate::assign::Strategy;
use crate::config::StrategyChoice;
use crate::context::Context;
use crate::ids::{Instance, Revision, Slot};
use crate::leader::Leader;
use crate::member::agreement::Agreement;
use crate::member::leadership::Leadership;
use crate::member::lease::Lease;
use crate::member::load::Loads;
use crate::member::membership::Membership;
use crate::member::ownership::Ownership;
use crate::member::presence::{Evidence, Presence};
use crate::member::probing::Probing;
use crate::member::slot::{SlotSearch, Won};
use crate::partition::PartitionList;
use crate::rng::Rng;
use crate::stored::key::Key;
use crate::stored::plan_log::PlanLog;
use crate::stored::record::{MemberPhase, MemberRecord, RecordError};
use crate::stored::settings::SharedSettings;
use crate::time::Instant;

/// Everything that a worker knows. The outbox is not in it: what observes is not handed it, and so can ask for nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mind {
    pub(super) context: Context,
    pub(super) rng: Rng,
    pub(super) own: Own,
    pub(super) task: Task,
    pub(super) link: Link,
    pub(super) predecessor: Predecessor,
    pub(super) membership: Membership,
    pub(super) plan: PlanLog,
    pub(super) standing: Standing,
    pub(super) presence: Presence,
    pub(super) probing: Probing,
    pub(super) leadership: Leadership,
    pub(super) leader: Option<Leader>,
    pub(super) ownership: Ownership,
    pub(super) loads: Loads,
    pub(super) agreement: Agreement,
    pub(super) loss: Loss,
    pub(super) departure: Departure,
    /// The keys whose records cannot be read, and why, as it was already said.
    pub(super) reported: BTreeMap<Key, RecordError>,
    /// What was observed last, if the next decision begins with it.
    pub(super) news: Option<News>,
    pub(super) halted: bool,
}

/// A slot, or the search for one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Standing {
    Seeking(SlotSearch),
    Holding(Lease),
}

/// What a worker says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Own {
    pub(super) instance: Instance,
    /// How often it has written its record.
    pub(super) beat: u64,
    /// What the group must agree on, as this worker has it.
    pub(super) shared: SharedSettings,
    /// Who is to see whether this worker is there, while it leads.
    pub(super) deputies: Vec<Slot>,
}

/// What is to be divided, and how, should this worker lead.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// What is saved names it, at most: see [`Worker::restore`](super::Worker::restore).
    #[serde(skip, default = "default_strategy")]
    pub(super) strategy: Arc<dyn Strategy>,
    pub(super) partitions: Option<PartitionList>,
    /// How many bytes a record may have.
    pub(super) record_limit: usize,
}

/// Until the one that the config names takes its place.
fn default_strategy() -> Arc<dyn Strategy> {
    StrategyChoice::default().strategy()
}

/// The process that had the preferred slot before.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Predecessor {
    /// Whether the members have ever been listed: it is looked for in the first listing only.
    pub(super) looked_for: bool,
    /// The process of which this worker was told that it is dead: whose the preferred slot was when the members were first
    /// listed. Whoever has the slot later is another one.
    pub(super) dead: Option<Instance>,
}

/// What this worker does about writes that the store has lost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Loss {
    /// When this process noticed that a bucket was made anew or has lost writes, if it has.
    pub(super) noticed_at: Option<Instant>,
    /// Whether this worker gives up its slot to start over, because the plan has lost what it had applied.
    pub(super) starting_over: bool,
}

/// What was observed and turns more than one part around. Observers record it, and the next decision begins with it: it is
/// made for the same event, so that nothing comes between.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// A claim was committed.
    Won(Box<Won>),
    /// The write that begins another tenure in this worker's slot is committed.
    BegunAnew { revision: Revision, sent_at: Instant, evidence: Option<Evidence> },
    /// The last write in this tenure is committed.
    Finished,
    /// The members' bucket has another life than before.
    MembersMadeAnew,
    /// The plan has lost an assignment that this worker had applied.
    PlanLost,
    /// A record cannot be read, and nobody was told so yet.
    Unreadable { key: Key, revision: Revision, error: RecordError },
}

impl Own {
    /// What a process says of itself, before what it says of its tenure.
    pub(super) fn record(&self, context: &Context, presence: &Presence, phase: MemberPhase) -> MemberRecord {
        let config = &context.config;
        let server = presence.server_to_name();
        MemberRecord {
            phase,
            // No shorter than the lease by which it acts.
            lease_ms: u64::try_from(config.lease.as_micros().div_ceil(1_000)).ok(),
            capacity: config.capacity,
            max_load: config.max_load,
            max_partitions: config.max_partitions,
            labels: config.labels.clone(),
            software: config.software.clone(),
            shared: Some(self.shared.clone()),
            beat: self.beat,
            confirm_ms: context.timing.confirm_ms().filter(|_| server.is_some()),
            server,
            ..MemberRecord::new(self.instance)
        }
    }
}
