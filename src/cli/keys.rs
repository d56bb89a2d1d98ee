//! Makes and shows rings.

use std::io::Write as _;
use std::path::Display;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::args::{Check, List, New};
use super::check::{Finding, report};
use super::ring_file::RingFile;
use super::settings::{self, Ring};
use super::{Failure, Status, Streams, show};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::key::{HEAD_START, KeyRing, KeyStatus};

pub(super) fn new(args: &New, streams: &mut Streams) -> Result<Status, Failure> {
    let now = SystemClock.now();
    let held = RingFile::hold_place(&args.file)?;
    let seal_from = Timestamp::from_system(now).minus(HEAD_START);
    let ring = KeyRing::generate_since(seal_from)?;
    held.create(&ring.expose_text())?;

    // As cron, which works elsewhere, has to name it.
    let file = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    let file = file.display();
    tell_new(&file, &ring.status(now), streams)
        .map_err(|error| format!("{file}: made, but not all was told: {error}"))?;
    Ok(Status::Well)
}

fn tell_new(file: &Display<'_>, keys: &[KeyStatus], streams: &mut Streams) -> Result<(), Failure> {
    for key in keys {
        writeln!(streams.out, "made {file} with key {}", key.id())?;
    }
    Ok(writeln!(
        streams.out,
        "\
next:
  point the servers at it     FileKeys::new(\"{file}\"), or keys.path in the configuration
  let them read it            if they run as another user: chgrp, and chmod 640
  keep it secret              whoever reads it can forge every session; same file on all servers
  look at it                  sealed-session keys list {file}
  rotate every 90 days        sealed-session keys rotate {file} --if-due   (daily, from cron)"
    )?)
}

pub(super) fn list(args: &List, streams: &mut Streams) -> Result<Status, Failure> {
    let now = SystemClock.now();
    let found = Ring::find(&args.ring)?;
    let loaded = settings::load_any(&*found.source)?;
    let (keys, fingerprint) = (loaded.ring.status(now), loaded.ring.fingerprint());
    if args.json {
        let keys: Vec<_> = keys.iter().map(json_key).collect();
        let object = json!({ "source": loaded.name, "fingerprint": fingerprint, "keys": keys });
        show::json(streams, &object)?;
        return Ok(Status::Well);
    }
    table(&keys, &fingerprint, streams)?;
    Ok(Status::Well)
}

pub(super) fn check(args: &Check, streams: &mut Streams) -> Result<Status, Failure> {
    let now = SystemClock.now();
    let found = Ring::find(&args.ring)?;
    let loaded = settings::load(&*found.source, Timestamp::from_system(now))?;
    let report = report(&loaded, &found, now);
    if args.json {
        let findings: Vec<_> = report.findings.iter().map(Finding::json).collect();
        let fingerprint = loaded.ring.fingerprint();
        let object = json!({
            "source": loaded.name,
            "fingerprint": fingerprint,
            "well": report.is_well(),
            "findings": findings,
        });
        show::json(streams, &object)?;
    } else {
        report.write(streams)?;
    }
    Ok(report.status())
}

/// Writes the keys of a ring, a line each.
pub(super) fn table(
    keys: &[KeyStatus],
    fingerprint: &str,
    streams: &mut Streams,
) -> Result<(), Failure> {
    let date = |at: Option<SystemTime>| at.map_or("-".to_owned(), show::date);
    writeln!(streams.out, "ID        STATE        SEALS FROM            OPENS UNTIL")?;
    for key in keys {
        let (from, until) = (date(key.seal_from()), date(key.open_until()));
        // As wide as the widest state.
        let state = show::state(key.state(), 11);
        writeln!(streams.out, "{}  {state}  {from:20}  {until}", key.id())?;
    }
    Ok(writeln!(streams.out, "fingerprint {fingerprint}")?)
}

pub(super) fn json_key(key: &KeyStatus) -> Value {
    json!({
        "id": key.id().to_string(),
        "state": json_state(key),
        "seal_from": show::json_date(key.seal_from()),
        "open_until": show::json_date(key.open_until()),
    })
}

pub(super) fn json_state(key: &KeyStatus) -> String {
    key.state().to_string().replace('-', "_")
}
