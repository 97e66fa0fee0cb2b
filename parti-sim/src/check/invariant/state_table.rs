//! The derived state of a worker follows its published table.

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, Topic};

/// No worker's state changes in a way that the table lacks, or contradicts what its planner does.
#[derive(Clone, Debug, Default)]
pub(super) struct StateTable {}

impl Invariant for StateTable {
    fn name(&self) -> &'static str {
        "state-table"
    }

    fn guarantee(&self) -> &'static str {
        "the state table"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        topic == Topic::Other
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Scene<'_>) -> Result<(), Breach> {
        let Fact::Status { process, before, after } = *fact else { return Ok(()) };
        if !before.state.may_become(after.state) {
            let what = format!("{process} went from {} to {}, which is not in the table", before.state, after.state);
            return Err(Breach::new(what).by(process));
        }
        if !after.state.may_have(after.planner) {
            let what = format!("{process} is {}, and yet its planner is {:?}", after.state, after.planner);
            return Err(Breach::new(what).by(process));
        }
        Ok(())
    }
}
