//! Events as `tracing` events.

use std::error::Error as _;

use tracing::{debug, info, warn};

use super::{Event, Observer};
use crate::clock::Timestamp;
use crate::error::ErrorKind;
use crate::key::Date;

/// Writes every event to `tracing`, target `sealed_session`.
///
/// Everyday events are `debug`, changes of who is signed in `info`, signs of misuse or trouble
/// `warn`. Session ids appear by their first characters, subjects not at all.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TracingObserver;

impl Observer for TracingObserver {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Opened { id, key } => debug!(target: "sealed_session", ?id, %key, "opened"),
            // Anonymous sessions come with every crawler that sees a form.
            Event::Issued { id, subject: "", .. } => {
                debug!(target: "sealed_session", ?id, "issued");
            }
            Event::Issued { id, persistent, .. } => {
                info!(target: "sealed_session", ?id, persistent, "signed in");
            }
            Event::Refreshed { id } => debug!(target: "sealed_session", ?id, "refreshed"),
            Event::Resealed { id, from, to } => {
                debug!(target: "sealed_session", ?id, %from, %to, "resealed");
            }
            Event::Rejected { kind, id } => rejected(*kind, *id),
            Event::Withheld { signed_out } => {
                warn!(target: "sealed_session", signed_out, "writes withheld");
            }
            Event::Revoked { scope, id } => {
                info!(target: "sealed_session", %scope, ?id, "revoked");
            }
            Event::Renewed { id, generation } => {
                info!(target: "sealed_session", ?id, generation, "renewed");
            }
            Event::Reuse { id, generation } => {
                warn!(target: "sealed_session", ?id, generation, "outdated copy used");
            }
            Event::TwoSessions { ids: [one, other] } => {
                warn!(target: "sealed_session", ?one, ?other, "two sessions under one name");
            }
            Event::TooLarge { error } => warn!(target: "sealed_session", %error, "too large"),
            Event::ClosedLate { id } => {
                warn!(target: "sealed_session", ?id, "changed after the response began");
            }
            Event::RefreshSkipped { id } => {
                debug!(target: "sealed_session", ?id, "refresh skipped on a public answer");
            }
            Event::CacheHeaderChanged { header } => {
                debug!(target: "sealed_session", header, "cache header changed");
            }
            Event::NotSent { error } => warn!(target: "sealed_session", %error, "cookie not sent"),
            Event::KeyUnknown { key } => debug!(target: "sealed_session", %key, "unknown key"),
            Event::KeyRingLoaded { fingerprint, keys, changed: true, .. } => {
                info!(target: "sealed_session", fingerprint, keys = keys.len(), "key ring loaded");
            }
            Event::KeyRingLoaded { fingerprint, recovered: true, .. } => {
                info!(target: "sealed_session", fingerprint, "key ring read again");
            }
            Event::KeyRingLoaded { fingerprint, .. } => {
                debug!(target: "sealed_session", fingerprint, "key ring unchanged");
            }
            Event::KeyRingFailed { error } => {
                warn!(target: "sealed_session", %error, cause = error.source(), "key ring kept");
            }
            Event::KeySourceWarning { warning } => {
                warn!(target: "sealed_session", warning, "key source");
            }
            Event::KeyEndsEarly { key, needed } => {
                let needed = Date(Timestamp::from_system(*needed));
                warn!(target: "sealed_session", %key, %needed, "key ends early");
            }
            Event::ListStale => warn!(target: "sealed_session", "revocation list stale"),
            Event::ListAcceptedStale => {
                warn!(target: "sealed_session", "revocation list stale, session accepted");
            }
            Event::ListFull => warn!(target: "sealed_session", "revocation list full"),
            Event::ListFresh { entries, added, delay } => {
                debug!(target: "sealed_session", entries, added, ?delay, "revocation list fresh");
            }
            Event::ListReconciled { entries, given_back: 0 } => {
                debug!(target: "sealed_session", entries, "revocation log compared");
            }
            Event::ListReconciled { entries, given_back } => {
                warn!(target: "sealed_session", entries, given_back, "revocation log given back");
            }
            Event::ListMissing { decision } => {
                warn!(target: "sealed_session", decision, "revocation log is new");
            }
            Event::ListUnsaved { facts: 0 } => {
                info!(target: "sealed_session", "revocations saved");
            }
            Event::ListUnsaved { facts } => {
                warn!(target: "sealed_session", facts, "revocations not saved yet");
            }
            Event::ListFailed { error } => {
                warn!(target: "sealed_session", %error, cause = error.source(), "revocation log");
            }
        }
    }
}

/// Time passing is everyday; anything else may be an attack or a mistake in the fleet.
fn rejected(kind: ErrorKind, id: Option<crate::token::SessionId>) {
    match kind {
        ErrorKind::Expired | ErrorKind::Idle | ErrorKind::KeyExpired | ErrorKind::Revoked => {
            debug!(target: "sealed_session", ?kind, ?id, "rejected");
        }
        _ => warn!(target: "sealed_session", ?kind, ?id, "rejected"),
    }
}
