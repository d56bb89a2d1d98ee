//! All settings of a session manager, as `serde` reads them.
