//! Adapters: the core on the types of `http` 1 and of frameworks. Nothing here knows a rule of its
//! own about sessions; what is here is which headers say what.

mod caching;
mod http;

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "tower")]
pub mod tower;
