//! G3: for one partition, tokens of successive owners strictly increase.

use std::collections::{BTreeMap, BTreeSet};

use parti_core::{Action, ClaimKind, Generation, Notice, Token};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, Forgotten, PartitionIndex, ProcessId, Topic};

/// Each hold of a partition has a higher token than every hold before it, also across leaders, restarts and lives of
/// the store. Where the store has lost writes that is so as long as a record that is left, or a worker that runs, has
/// heard of the plan in which the partition was granted: nobody can go beyond what nobody remembers. And a grant that
/// was made before the loss may come back with it, or come late from a former life of the plan, with a token that the
/// fenced store refuses, until somebody has noticed: whoever is shown it has nothing else to go by.
#[derive(Clone, Debug, Default)]
pub(super) struct TokensIncrease {
    highest: BTreeMap<PartitionIndex, (Token, ProcessId)>,
    /// The newest plan that has come back with a loss of writes.
    brought_back: Option<Generation>,
    /// Who has noticed the last loss of writes.
    knows: BTreeSet<ProcessId>,
    /// Whose claims the store has forgotten: who goes on in such a tenure may get the same revision, and so the same token,
    /// and who had it before a change of hands that is undone goes on with a lower one.
    forgotten: BTreeSet<ProcessId>,
    /// Who goes on in the tenure of another process.
    successors: BTreeSet<ProcessId>,
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
            self.highest.retain(|_, (token, _)| token.epoch <= *generation && token.incarnation <= *era);
        }
        if let Fact::Forgotten { process, what: Forgotten::Takeover | Forgotten::Replacement } = fact {
            self.forgotten.insert(*process);
        }
        if let Fact::Asked { process, action: Action::Notice(Notice::StoreRegressed { .. }) } = fact {
            self.knows.insert(*process);
        }
        if let Fact::Asked { process, action: Action::Notice(Notice::SlotClaimed { how, .. }) } = fact {
            match how {
                ClaimKind::Fresh => self.successors.remove(process),
                ClaimKind::Inherited | ClaimKind::TakenOver => self.successors.insert(*process),
            };
        }
        let Fact::Acquired { process, partition, token, in_former_life } = *fact else { return Ok(()) };
        let highest = self.highest.get(&partition).copied();
        if highest.is_none_or(|(before, _)| before < token) {
            self.highest.insert(partition, (token, process));
        }
        match highest {
            Some((before, _)) if token < before && Some(token.epoch) <= self.brought_back => Ok(()),
            Some((before, _)) if token < before && in_former_life => Ok(()),
            Some((before, holder))
                if token.epoch == before.epoch
                    && self.forgotten.contains(&holder)
                    && !self.knows.contains(&process)
                    && (self.successors.contains(&process) || self.forgotten.contains(&process)) =>
            {
                Ok(())
            }
            Some((before, holder)) if token <= before => Err(Breach::new(format!(
                "{process} was given {} with token {token}, but {holder} had it before with {before}",
                scene.name(partition)
            ))
            .by(process)
            .on(partition)),
            Some(_) | None => Ok(()),
        }
    }
}
