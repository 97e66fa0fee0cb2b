//! The simulated application of one process: it works on partitions, takes time to finish, and writes to a store that
//! looks at fencing tokens.

use std::collections::BTreeMap;

use parti_core::Token;

use crate::told::fact::PartitionIndex;

/// What one process's application does.
#[derive(Clone, Debug, Default)]
pub(crate) struct App {
    holds: BTreeMap<PartitionIndex, Hold>,
    /// Told to stop all work for now.
    suspended: bool,
    /// Its process does not run.
    frozen: bool,
}

/// A partition that the application has.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) token: Token,
    pub(crate) draining: bool,
    /// Not worked on any more, or never, which a planted bug makes happen.
    pub(crate) idle: bool,
}

/// What the applications write to: it remembers the highest token that it has seen for each partition.
#[derive(Clone, Debug)]
pub(crate) struct FencedStore {
    highest: Vec<Token>,
}

impl App {
    /// Takes a partition; false if it has it already.
    pub(crate) fn acquire(&mut self, partition: PartitionIndex, token: Token) -> bool {
        let has = self.holds.contains_key(&partition);
        self.holds.entry(partition).or_insert(Hold { token, draining: false, idle: false });
        !has
    }

    /// Does not work on a partition that it has. Says whether that was so before.
    pub(crate) fn set_idle(&mut self, partition: PartitionIndex) -> bool {
        self.holds.get_mut(&partition).is_none_or(|hold| std::mem::replace(&mut hold.idle, true))
    }

    /// Begins to finish with a partition; false if it does not have it with that token.
    pub(crate) fn drain(&mut self, partition: PartitionIndex, token: Token) -> bool {
        match self.holds.get_mut(&partition) {
            Some(hold) if hold.token == token => {
                hold.draining = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Is done with a partition that it was finishing with.
    pub(crate) fn finish(&mut self, partition: PartitionIndex, token: Token) -> Option<Hold> {
        let finishing = self.holds.get(&partition).is_some_and(|hold| hold.draining && hold.token == token);
        if finishing { self.holds.remove(&partition) } else { None }
    }

    /// Whether it works on what it has.
    pub(crate) const fn works(&self) -> bool {
        !self.suspended && !self.frozen
    }

    /// Whether it was told to stop all work for now.
    pub(crate) const fn is_suspended(&self) -> bool {
        self.suspended
    }

    pub(crate) const fn set_suspended(&mut self, suspended: bool) {
        self.suspended = suspended;
    }

    pub(crate) const fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// What it has, in order.
    pub(crate) fn holds(&self) -> impl Iterator<Item = (PartitionIndex, &Hold)> {
        self.holds.iter().map(|(partition, hold)| (*partition, hold))
    }

    /// How much it has.
    pub(crate) fn count(&self) -> usize {
        self.holds.len()
    }
}

impl FencedStore {
    pub(crate) fn new(partitions: usize) -> Self {
        Self { highest: vec![Token::default(); partitions] }
    }

    /// Takes a write unless a higher token was seen.
    pub(crate) fn write(&mut self, partition: PartitionIndex, token: Token) -> bool {
        let highest = &mut self.highest[partition.index()];
        let accepted = token >= *highest;
        *highest = token.max(*highest);
        accepted
    }
}

#[cfg(test)]
mod tests {
    use parti_core::{Generation, Incarnation, Revision};

    use super::*;

    #[test]
    fn the_fenced_store_refuses_a_token_lower_than_one_it_has_seen() {
        let mut store = FencedStore::new(1);
        let partition = PartitionIndex::new(0);
        assert!(store.write(partition, token(3)));
        assert!(store.write(partition, token(3)));
        assert!(!store.write(partition, token(2)));
        assert!(store.write(partition, token(4)));
    }

    #[test]
    fn a_drain_ends_only_the_hold_that_it_was_for() {
        let mut app = App::default();
        let partition = PartitionIndex::new(0);
        assert!(app.acquire(partition, token(1)));
        assert!(!app.acquire(partition, token(1)));
        assert!(!app.drain(partition, token(2)));
        assert!(app.finish(partition, token(1)).is_none(), "not told to");
        assert!(app.drain(partition, token(1)));
        assert!(app.finish(partition, token(1)).is_some());
    }

    fn token(epoch: u64) -> Token {
        Token { incarnation: Incarnation::new(1), epoch: Generation::new(epoch), claim: Revision::new(1) }
    }
}
