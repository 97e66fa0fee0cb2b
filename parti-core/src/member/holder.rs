//! Who holds partitions, as their tokens say it.

use crate::ids::{Generation, Incarnation, Revision, Token};
use crate::stored::record::AssignmentRecord;

/// The holder of the partitions: the parts of a token that do not come from the grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    /// The life of the store, for grants of older versions, which name no era.
    pub(crate) incarnation: Incarnation,
    pub(crate) claim: Revision,
}

impl Holder {
    /// The token of a grant in this record.
    pub(crate) fn token(self, record: &AssignmentRecord, epoch: Generation) -> Token {
        let named = Some(record.era).filter(|era| *era != Incarnation::default());
        Token { incarnation: named.unwrap_or(self.incarnation), epoch, claim: self.claim }
    }
}
