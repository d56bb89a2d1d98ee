//! What is due, or wrong but usable, about a ring, and what to do about it.

use std::io::Write as _;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::settings::{Loaded, Ring};
use super::{Failure, Status, Streams, show};
use crate::key::{KeyId, RingFinding};

/// What was found about a ring.
pub(super) struct Report {
    name: String,
    pub(super) findings: Vec<Finding>,
}

/// One thing found.
pub(super) struct Finding {
    kind: &'static str,
    key: Option<KeyId>,
    /// What is the matter and what to do.
    text: String,
}

/// Looks for what is due about a ring that was read.
pub(super) fn report(loaded: &Loaded, found: &Ring, now: SystemTime) -> Report {
    let arguments = found.arguments.as_ref();
    let advice =
        arguments.map(|arguments| format!("sealed-session keys rotate {arguments} --if-due"));
    let of_ring = loaded.ring.check(&found.rotation, now).into_iter().map(|finding| {
        let (kind, key) = match finding {
            RingFinding::RotationDue { key, .. } => ("rotation_due", key),
            RingFinding::EndsEarly { key, .. } => ("ends_early", key),
            RingFinding::NeverEnds { key, .. } => ("never_ends", key),
            RingFinding::Droppable { key } => ("droppable", key),
        };
        let text = match &advice {
            Some(advice) => format!("{finding} (run: {advice})"),
            None => finding.to_string(),
        };
        Finding { kind, key: Some(key), text }
    });
    let rights = loaded.warning.iter().map(|warning| Finding {
        kind: "source",
        key: None,
        text: format!("{}: {warning}", loaded.name),
    });
    Report { name: loaded.name.clone(), findings: of_ring.chain(rights).collect() }
}

/// Whether a rotation would mend any of this.
pub(super) fn is_mended_by_rotation(findings: &[RingFinding]) -> bool {
    findings.iter().any(|finding| match finding {
        RingFinding::RotationDue { .. }
        | RingFinding::EndsEarly { .. }
        | RingFinding::NeverEnds { .. }
        | RingFinding::Droppable { .. } => true,
    })
}

impl Report {
    pub(super) fn is_well(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn status(&self) -> Status {
        if self.is_well() { Status::Well } else { Status::Finding }
    }

    pub(super) fn write(&self, streams: &mut Streams) -> Result<(), Failure> {
        if self.is_well() {
            writeln!(streams.out, "{}: {}", self.name, show::green("all is well"))?;
        }
        for finding in &self.findings {
            writeln!(streams.out, "{}: {}", finding.label(), finding.text)?;
        }
        Ok(())
    }
}

impl Finding {
    /// Something wrong that is not about a key.
    pub(super) fn wrong(kind: &'static str, text: String) -> Self {
        Self { kind, key: None, text }
    }

    fn label(&self) -> String {
        match self.kind {
            "rotation_due" | "droppable" => show::yellow("due"),
            _ => show::red("wrong"),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "kind": self.kind,
            "key": self.key.map(|key| key.to_string()),
            "message": self.text,
        })
    }
}
