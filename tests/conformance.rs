//! The suite for back ends can fail: for every rule there is a log here that keeps all of the
//! others, or breaks them later, and is refused by that rule.

// Slow, and the same whatever is built: once beside all of the crate, once beside as little as can be.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "conformance/adding.rs"]
mod adding;
#[path = "conformance/cursors.rs"]
mod cursors;
#[path = "conformance/lineage.rs"]
mod lineage;
#[path = "conformance/loss.rs"]
mod loss;
#[path = "conformance/waiting.rs"]
mod waiting;
#[path = "conformance/wrong.rs"]
mod wrong;

use std::error::Error as _;
use std::thread;

use sealed_session::Error;
use sealed_session::revocation::conformance::{self, Suite};
use sealed_session::revocation::{MemoryLog, Revocation, RevocationLog as _};

use wrong::{Wrong, refused};

#[test]
fn the_log_in_memory_passes() {
    let log = MemoryLog::new().unwrap();
    conformance::run(|| Ok(log.clone())).unwrap();

    let log = MemoryLog::new().unwrap();
    Suite::new(|| Ok(log.clone())).wiped_by(|| log.wipe()).run().unwrap();
}

#[test]
fn a_log_that_gives_facts_twice_and_in_another_order_passes() {
    let log = Wrong::default().read(|log, after, wait| {
        let mut page = log.read(after, wait)?;
        let facts: Vec<_> = page.facts().iter().rev().map(Revocation::to_bytes).collect();
        for fact in &facts {
            page.push(fact);
        }
        Ok(page)
    });
    log.suite().run().unwrap();
}

#[test]
fn every_rule_has_a_log_that_breaks_it() {
    let rules: Vec<&str> = include_str!("../src/revocation/conformance.rs")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("(\"")?.split_once('"'))
        .map(|(rule, _)| rule)
        .collect();
    assert!(rules.len() > 20, "no rules found: {rules:?}");
    let broken = [
        include_str!("conformance/adding.rs"),
        include_str!("conformance/cursors.rs"),
        include_str!("conformance/lineage.rs"),
        include_str!("conformance/loss.rs"),
        include_str!("conformance/waiting.rs"),
    ]
    .concat();
    for rule in rules {
        assert!(broken.contains(&format!("refused(\"{rule}\"")), "{rule}");
    }
}

#[test]
fn a_log_that_hangs_or_panics_or_fails_is_refused() {
    let log = Wrong::default().read(|_, _, _| {
        loop {
            thread::park();
        }
    });
    refused("all handles see one lineage", log.suite());

    let log = Wrong::default().append(|_, _| {
        loop {
            thread::park();
        }
    });
    refused("a read sees what was added before it began", log.suite());

    let log = Wrong::default().append(|_, _| panic!("the log's own"));
    refused("a read sees what was added before it began", log.suite());

    let log = Wrong::default().read(|_, _, _| Err(Error::backend("no route to host")));
    let error = refused("all handles see one lineage", log.suite());
    assert!(format!("{error:?}").contains("no route to host"), "{error:?}");

    let open = || Err::<MemoryLog, _>(Error::backend("no such place"));
    let error = refused("all handles see one lineage", Suite::new(open));
    assert_eq!(error.source().unwrap().source().unwrap().to_string(), "no such place");
}
