//! Ends sessions, from beside the servers.

use std::io::Write as _;

use super::args::Revoke;
use super::log::{Log, subject};
use super::{Failure, Status, Streams, chain, show};
use crate::revocation::outside::Reading;
use crate::revocation::{Revocation, Target};

pub(super) fn revoke(args: &Revoke, streams: &mut Streams) -> Result<Status, Failure> {
    if args.everyone && !args.yes {
        return Err(
            "--everyone ends every session of the realm, anonymous ones too: add --yes".into()
        );
    }
    let log = Log::of(&args.log)?;
    let subject = args.subject.as_deref().map(|given| subject(given, streams)).transpose()?;
    let (target, whose) = match (args.session, &subject, &args.tag) {
        (Some(id), ..) => (Target::session(id), "the session"),
        (None, Some(subject), _) => (Target::subject(subject), "the subject's sessions"),
        (None, None, Some(tag)) => (Target::tag(tag), "the sessions with the tag"),
        (None, None, None) => (Target::everyone(), "the sessions of everyone"),
    };
    let target = args.except.map_or(target, |id| target.except(id));
    // A fact needs the log's clock, and the longest life of a session that the servers have told it.
    let reading = log.read_all().map_err(|error| not_revoked("nothing is in force", &error))?;
    let fact = reading.cut(&log.realm, &target, &log.policy);
    let doubt = "it was not confirmed, so count on nothing being in force";
    log.append(fact).map_err(|error| not_revoked(doubt, &error))?;
    tell(whose, &fact, &log, streams)
        .and_then(|()| warn_of_a_new_log(&reading, &log, streams))
        .map_err(|error| format!("{}: revoked, but not all was told: {error}", log.name))?;
    Ok(Status::Well)
}

/// Unlike a server, this process ends, and retries nothing.
fn not_revoked(what: &str, error: &Failure) -> String {
    format!("{what}: {}: run it again, twice is no harm", chain(&**error))
}

fn tell(whose: &str, fact: &Revocation, log: &Log, streams: &mut Streams) -> Result<(), Failure> {
    let issued = fact
        .before()
        .map(|before| format!(" that were issued until {}", show::date(before.to_system())));
    writeln!(streams.out, "revoked {whose}{}", issued.unwrap_or_default())?;
    Ok(writeln!(streams.out, "durable in {}: servers that follow it refuse them now", log.name)?)
}

/// A path or a name that is not that of the servers makes a log of its own, in silence.
fn warn_of_a_new_log(reading: &Reading, log: &Log, streams: &mut Streams) -> Result<(), Failure> {
    if reading.is_whole() {
        return Ok(());
    }
    streams.warn(&format!(
        "{}: no server has used this log yet: make sure that it is the one that the servers follow",
        log.name
    ))
}
