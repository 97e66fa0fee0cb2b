//! G3: for one partition, tokens of successive owners strictly increase.

use std::collections::{BTreeMap, BTreeSet};

use parti_core::{Action, ClaimKind, Generation, Notice, Token};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, Forgotten, PartitionIndex, ProcessId, Topic};

/// Each hold of a partition has a higher token than every hold before it, also across leaders, restarts and lives of
/// the store. Where the store has lost writes that is so as long as a record that is left, or a worker that runs and has its
/// record, has heard of the plan in which the partition was granted: nobody can go beyond what nobody tells. And a grant that
/// was made before the loss may come back with it, or come late from a former life of the plan, with a token that the
/// fenced store refuses, until somebody has noticed: whoever is shown it has nothing else to go by.
#[derive(Clone, Debug, Default)]
pub(super) struct TokensIncrease {
    highest: BTreeMap<PartitionIndex, Held>,
    /// The newest plan that has come back with a loss of writes.
    brought_back: Option<Generation>,
    /// Who has noticed the last loss of writes.
    knows: BTreeSet<ProcessId>,
    /// Whose own records are back after a change of hands: they go on with a lower token than those whose hands it was in.
    replaced: BTreeSet<ProcessId>,
    /// Who goes on in the tenure of another process.
    successors: BTreeSet<ProcessId>,
    /// Whose tenure had ended and is back, until they begin another one: somebody may have gone on in it before it ended.
    revived: BTreeSet<ProcessId>,
}

/// The hold of a partition with the highest token.
#[derive(Clone, Copy, Debug)]
struct Held {
    token: Token,
    by: ProcessId,
    /// Whether the store has forgotten how its holder came into its slot, which no plan tells either: who goes on in that
    /// tenure may get the same revision, and so the same token, or a lower one.
    claim_is_forgotten: bool,
    /// Whether its holder went on in the tenure of another process.
    by_successor: bool,
}

impl Invariant for TokensIncrease {
    fn name(&self) -> &'static str {
        "tokens-increase"
    }

    fn guarantee(&self) -> &'static str {
        "G3"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Noticed | Topic::Worked | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        if let Fact::PlanBroughtBack { generation } = fact {
            self.brought_back = self.brought_back.max(Some(*generation));
        }
        if let Fact::PlanRegressed { .. } = fact {
            self.knows.clear();
        }
        if let Fact::Remembered { era, generation } = fact {
            self.highest.retain(|_, Held { token, .. }| token.epoch <= *generation && token.incarnation <= *era);
        }
        if let Fact::MembersBroughtBack { last } = fact {
            self.highest.values_mut().for_each(|held| held.claim_is_forgotten |= held.token.claim > *last);
        }
        if let Fact::Forgotten { process, what: Forgotten::Replacement } = fact {
            self.replaced.insert(*process);
        }
        if let Fact::Forgotten { process, what: Forgotten::End } = fact {
            self.revived.insert(*process);
        }
        if let Fact::Asked { process, action: Action::Notice(Notice::StoreRegressed { .. }) } = fact {
            self.knows.insert(*process);
        }
        if let Fact::Asked { process, action: Action::Notice(Notice::SlotClaimed { how, .. }) } = fact {
            match how {
                ClaimKind::Fresh => {
                    self.revived.remove(process);
                    self.successors.remove(process)
                }
                ClaimKind::Inherited | ClaimKind::TakenOver => self.successors.insert(*process),
            };
        }
        let Fact::Acquired { process, partition, token, in_former_life } = *fact else { return Ok(()) };
        let by_successor = self.successors.contains(&process);
        let before = self.highest.get(&partition).copied().filter(|before| before.token >= token);
        let Some(before) = before else {
            self.highest.insert(partition, Held { token, by: process, claim_is_forgotten: false, by_successor });
            return Ok(());
        };
        let comes_back = token < before.token && (Some(token.epoch) <= self.brought_back || in_former_life);
        let is_back = before.by_successor && self.revived.contains(&process);
        let goes_on = by_successor || self.replaced.contains(&process) || is_back;
        let is_of_same_grant = token.epoch == before.token.epoch && goes_on;
        if comes_back || before.claim_is_forgotten && is_of_same_grant && !self.knows.contains(&process) {
            return Ok(());
        }
        let Held { token: higher, by, .. } = before;
        let name = scene.name(partition);
        let sentence = format!("{process} was given {name} with token {token}, but {by} had it before with {higher}");
        Err(Breach::new(sentence).by(process).on(partition))
    }
}
