//! The derived state of a worker follows its published table.

use super::{Breach, Invariant, Scene};
use crate::fact::Fact;

/// No worker's state changes in a way that the table lacks.
#[derive(Debug, Default)]
pub(super) struct StateTable {}

impl Invariant for StateTable {
    fn name(&self) -> &'static str {
        "state-table"
    }

    fn guarantee(&self) -> &'static str {
        "the state table"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Scene<'_>) -> Result<(), Breach> {
        let Fact::Status { process, before, after } = *fact else { return Ok(()) };
        if before.state == after.state || before.state.may_become(after.state) {
            return Ok(());
        }
        Err(Breach::new(format!("{process} went from {} to {}, which is not in the table", before.state, after.state))
            .by(process))
    }
}
