//! Sessions that are ended before their limits: by sign-out, or by force, on every instance.
//!
//! A [`RevocationList`] holds facts that only ever add up and that end by
//! themselves, once the last session they speak of has reached its limits. Every request asks it, so
//! all of it is in memory, and no request waits for a backend. It is fed from a log that all
//! instances share, a [`RevocationLog`]: in `SQLite` for the processes of one machine, in Redis or
//! `PostgreSQL` for a fleet, or one of your own, which [`conformance::run`] proves.
//!
//! What holds:
//!
//! - Where it is called, a revocation is in force when the call returns. Its
//!   [`Receipt`] tells when the log has it durably.
//! - Every other instance refuses the session milliseconds later, and in any case within
//!   `max_staleness`, 30 s: one that cannot read the log for so long lets nobody in that it does not
//!   know as revoked. The extractors answer 503 then, and the cookie stays.
//! - What was acknowledged is not lost by a backend that loses it, as long as one instance lives that
//!   knew it: facts are given back.
//! - For the steps where milliseconds count there is
//!   [`open_strict`](crate::SessionManager::open_strict), and for axum `Strict`.
//!
//! What this module leaves to others: which sessions a verb ends (`session`).
//!
#![doc = include_str!("revocation/operating.md")]

mod asked;
mod builder;
mod catch_up;
pub mod conformance;
mod fact;
mod follower;
mod freshness;
pub(crate) mod list;
mod log;
mod memory;
mod news;
mod order;
#[cfg(feature = "cli")]
pub(crate) mod outside;
#[cfg(feature = "postgres")]
mod postgres;
pub(crate) mod receipt;
#[cfg(feature = "redis")]
mod redis;
mod replica;
mod shared;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;
mod tables;
pub(crate) mod target;
mod writer;

pub(crate) use asked::{NewSession, Presented, Realm, Revoker, Seen, Verdict, Wall};
pub use builder::{OnStale, RevocationListBuilder, WhenMissing};
pub use catch_up::CatchUp;
pub use fact::Revocation;
pub use list::ListStatus;
pub(crate) use list::{Appended, RevocationList};
pub use log::{Cursor, Lineage, Page, RevocationLog};
pub use memory::MemoryLog;
pub(crate) use news::{ListNews, Listener as ListListener};
#[cfg(feature = "postgres")]
pub use postgres::PostgresLog;
pub(crate) use receipt::Receipt;
#[cfg(feature = "redis")]
pub use redis::RedisLog;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteLog;
pub(crate) use target::Target;
