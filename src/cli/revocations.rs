//! Shows what a revocation log holds.

mod facts;
mod follow;
mod stats;

pub(super) use facts::list;
pub(super) use follow::follow;
pub(super) use stats::{fine, stats};
