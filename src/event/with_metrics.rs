//! Events as numbers, through the `metrics` facade.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::{Event, Observer};
use crate::clock::{Clock as _, SystemClock};
use crate::key::{KeyId, KeyState, KeyStatus};

/// Counts every event through the `metrics` facade, under names that begin with `sealed_session_`.
///
/// | metric | labels | |
/// |---|---|---|
/// | `…_opened_total` | `key` | tokens opened. Zero over an idle limit: nobody needs this key any more |
/// | `…_issued_total` | `kind`: `anonymous`, `browser`, `remember` | sessions begun |
/// | `…_refreshed_total`, `…_resealed_total`, `…_renewed_total` | | tokens sent again |
/// | `…_rejected_total` | `kind`: the name of an [`ErrorKind`](crate::ErrorKind) | tokens refused |
/// | `…_revoked_total` | `scope`: `session`, `subject`, `tag`, `everyone` | revocations asked for |
/// | `…_withheld_total`, `…_not_sent_total` | | answers without the cookie they should have had |
/// | `…_reuse_total`, `…_two_sessions_total` | | signs of a thief, or of a mistake |
/// | `…_too_large_total`, `…_closed_late_total` | | mistakes of the application |
/// | `…_refresh_skipped_total`, `…_cache_header_changed_total` | | answers that were public |
/// | `…_list_entries` | | entries of the revocation list |
/// | `…_list_read_seconds` | | when it was last fresh, as Unix time. Its age is what an alarm goes by |
/// | `…_list_delay_seconds` | | a histogram: how long revocations took to arrive here |
/// | `…_list_reconciles_total`, `…_list_given_back_total` | | comparisons of the whole log; facts it had lost |
/// | `…_list_unsaved` | | revocations that are in force here and not in the log yet |
/// | `…_list_stale_total`, `…_list_accepted_stale_total` | | sessions refused, or let in, by a list that was too old |
/// | `…_list_failed_total`, `…_list_full_total`, `…_list_missing_total` | | trouble with the log, or no room |
/// | `…_key_unknown_total` | | tokens under a key that the ring does not hold |
/// | `…_key_ring` | `fingerprint` | 1 for the ring in use: the same on all instances that share it |
/// | `…_key_ring_read_seconds` | | when the source was last read without an error, as Unix time |
/// | `…_key_ring_failures_total` | | readings that left the ring as it was |
/// | `…_key_source_warnings_total`, `…_key_ends_early_total` | | what [`Event`] tells by these names |
/// | `…_key_state` | `key`, `state` | 1 for the state that the key is in |
/// | `…_key_open_until_seconds` | `key` | the last possible use of the key, as Unix time; infinite without one, 0 once it is out of the ring |
///
/// Key ids and kinds are few, and nothing that a visitor sends becomes a label. Metrics of keys are
/// as of the last reading of the ring, so with a fixed [`KeyRing`](crate::KeyRing) as of the start.
pub struct MetricsObserver {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    fingerprint: String,
    keys: Vec<(KeyId, KeyState)>,
}

impl MetricsObserver {
    /// An observer for the recorder that is installed. Install the recorder first, or it misses what
    /// the metrics are described as.
    pub fn new() -> Self {
        describe_counter!(OPENED, "Tokens opened, by key");
        describe_counter!(REJECTED, "Tokens refused, by reason");
        describe_counter!(
            KEY_RING_FAILURES,
            "Readings of the key source that left the ring as it was"
        );
        describe_gauge!(KEY_RING, "1 for the key ring in use, by fingerprint");
        describe_gauge!(
            KEY_RING_READ,
            "When the key source was last read without an error, Unix time"
        );
        describe_gauge!(KEY_STATE, "1 for the state that a key is in");
        describe_gauge!(KEY_OPEN_UNTIL, "When a key stops opening, Unix time");
        describe_gauge!(LIST_ENTRIES, "Entries of the revocation list");
        describe_gauge!(LIST_READ, "When the revocation list was last fresh, Unix time");
        describe_histogram!(LIST_DELAY, "How long revocations took to arrive, in seconds");
        Self { seen: Mutex::default() }
    }

    fn key_ring(&self, fingerprint: &str, keys: &[KeyStatus]) {
        gauge!(KEY_RING_READ).set(unix(SystemClock.now()));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A gauge stays until it is set to something else.
        if seen.fingerprint != fingerprint {
            if !seen.fingerprint.is_empty() {
                gauge!(KEY_RING, "fingerprint" => seen.fingerprint.clone()).set(0.0);
            }
            fingerprint.clone_into(&mut seen.fingerprint);
        }
        gauge!(KEY_RING, "fingerprint" => seen.fingerprint.clone()).set(1.0);
        for (key, state) in seen.keys.drain(..) {
            set_state(key, state, 0.0);
            gauge!(KEY_OPEN_UNTIL, "key" => key.to_string()).set(0.0);
        }
        for key in keys {
            set_state(key.id(), key.state(), 1.0);
            let until = key.open_until().map_or(f64::INFINITY, unix);
            gauge!(KEY_OPEN_UNTIL, "key" => key.id().to_string()).set(until);
            seen.keys.push((key.id(), key.state()));
        }
    }
}

impl Default for MetricsObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for MetricsObserver {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Opened { key, .. } => counter!(OPENED, "key" => key.to_string()).increment(1),
            Event::Issued { subject, persistent, .. } => {
                let kind = match (subject.is_empty(), persistent) {
                    (true, _) => "anonymous",
                    (false, false) => "browser",
                    (false, true) => "remember",
                };
                counter!("sealed_session_issued_total", "kind" => kind).increment(1);
            }
            Event::Rejected { kind, .. } => {
                counter!(REJECTED, "kind" => format!("{kind:?}")).increment(1);
            }
            Event::Revoked { scope, .. } => {
                let scope = scope.to_string();
                counter!("sealed_session_revoked_total", "scope" => scope).increment(1);
            }
            Event::KeyRingLoaded { fingerprint, keys, .. } => self.key_ring(fingerprint, keys),
            Event::ListFresh { entries, delay, .. } => {
                gauge!(LIST_ENTRIES).set(number(*entries));
                gauge!(LIST_READ).set(unix(SystemClock.now()));
                if let Some(delay) = delay {
                    histogram!(LIST_DELAY).record(delay.as_secs_f64());
                }
            }
            Event::ListReconciled { entries, given_back } => {
                gauge!(LIST_ENTRIES).set(number(*entries));
                counter!("sealed_session_list_reconciles_total").increment(1);
                let given_back = u64::try_from(*given_back).unwrap_or(u64::MAX);
                counter!("sealed_session_list_given_back_total").increment(given_back);
            }
            Event::ListUnsaved { facts } => {
                gauge!("sealed_session_list_unsaved").set(number(*facts));
            }
            event => {
                if let Some(name) = plain(event) {
                    counter!(name).increment(1);
                }
            }
        }
    }
}

impl fmt::Debug for MetricsObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsObserver").finish_non_exhaustive()
    }
}

const OPENED: &str = "sealed_session_opened_total";
const REJECTED: &str = "sealed_session_rejected_total";
const KEY_RING: &str = "sealed_session_key_ring";
const KEY_RING_READ: &str = "sealed_session_key_ring_read_seconds";
const KEY_RING_FAILURES: &str = "sealed_session_key_ring_failures_total";
const KEY_STATE: &str = "sealed_session_key_state";
const KEY_OPEN_UNTIL: &str = "sealed_session_key_open_until_seconds";
const LIST_ENTRIES: &str = "sealed_session_list_entries";
const LIST_READ: &str = "sealed_session_list_read_seconds";
const LIST_DELAY: &str = "sealed_session_list_delay_seconds";

/// The counter of an event that is counted and no more.
const fn plain(event: &Event<'_>) -> Option<&'static str> {
    Some(match event {
        Event::Refreshed { .. } => "sealed_session_refreshed_total",
        Event::Resealed { .. } => "sealed_session_resealed_total",
        Event::Withheld { .. } => "sealed_session_withheld_total",
        Event::Renewed { .. } => "sealed_session_renewed_total",
        Event::Reuse { .. } => "sealed_session_reuse_total",
        Event::TwoSessions { .. } => "sealed_session_two_sessions_total",
        Event::TooLarge { .. } => "sealed_session_too_large_total",
        Event::ClosedLate { .. } => "sealed_session_closed_late_total",
        Event::RefreshSkipped { .. } => "sealed_session_refresh_skipped_total",
        Event::CacheHeaderChanged { .. } => "sealed_session_cache_header_changed_total",
        Event::NotSent { .. } => "sealed_session_not_sent_total",
        Event::KeyUnknown { .. } => "sealed_session_key_unknown_total",
        Event::KeyRingFailed { .. } => KEY_RING_FAILURES,
        Event::KeySourceWarning { .. } => "sealed_session_key_source_warnings_total",
        Event::KeyEndsEarly { .. } => "sealed_session_key_ends_early_total",
        Event::ListStale => "sealed_session_list_stale_total",
        Event::ListAcceptedStale => "sealed_session_list_accepted_stale_total",
        Event::ListFull => "sealed_session_list_full_total",
        Event::ListFailed { .. } => "sealed_session_list_failed_total",
        Event::ListMissing { .. } => "sealed_session_list_missing_total",
        // Counted by label.
        Event::Opened { .. }
        | Event::Issued { .. }
        | Event::Rejected { .. }
        | Event::Revoked { .. }
        | Event::ListFresh { .. }
        | Event::ListReconciled { .. }
        | Event::ListUnsaved { .. }
        | Event::KeyRingLoaded { .. } => return None,
    })
}

fn set_state(key: KeyId, state: KeyState, value: f64) {
    gauge!(KEY_STATE, "key" => key.to_string(), "state" => state.to_string()).set(value);
}

/// A count as a gauge has it.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn unix(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
