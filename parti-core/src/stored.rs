//! What is stored: the names and the records of both buckets, and what this worker has seen of plan and wishes.

pub(crate) mod history;
pub(crate) mod key;
pub(crate) mod load;
pub(crate) mod plan_log;
pub(crate) mod record;
pub(crate) mod settings;
pub(crate) mod wishes;
