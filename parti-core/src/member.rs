//! What every worker does: holds a slot, watches the others, works on what it is given, and leads if it is named.

pub(crate) mod agreement;
pub(crate) mod doubt;
pub(crate) mod holder;
pub(crate) mod leadership;
pub(crate) mod lease;
pub(crate) mod load;
pub(crate) mod membership;
pub(crate) mod ownership;
pub(crate) mod presence;
pub(crate) mod probing;
pub(crate) mod slot;
