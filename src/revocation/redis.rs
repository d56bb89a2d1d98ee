//! A log in Redis or Valkey: a stream, a set, and a key that says which log it is.

mod link;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use redis::{Pipeline, Value};

use self::link::{Lane, Link, Server, after};
use super::fact::Fact;
use super::{Cursor, Lineage, Page, Revocation, RevocationLog};
use crate::clock::{Timestamp, monotonic};
use crate::error::Error;

/// A log in Redis from 6.2 on, or in Valkey.
///
/// It needs a primary, alone, with replicas, or one node of a cluster: all keys are in one hash slot.
/// Redirects are not followed. The server must not evict keys of its own accord: with a
/// `maxmemory-policy` of `allkeys-*` the list refuses to start, `noeviction` and `volatile-*` serve.
///
/// Instances with the same address and the same `list` share their revocations. Three keys are used,
/// to be deleted only together: `{sealed-session:LIST}:log`, a stream with one entry a fact;
/// `{sealed-session:LIST}:kept`, a set of the few facts that stay; `{sealed-session:LIST}:lineage`.
///
/// ```no_run
/// # use sealed_session::revocation::RedisLog;
/// let log = RedisLog::new("rediss://shop:password@redis.internal:6379/0", "shop")?;
/// # Ok::<(), sealed_session::Error>(())
/// ```
///
/// # Set-up
///
/// Nothing has to be created. A user of its own needs these permissions, and no more but `+select`
/// if the address names a database other than 0:
///
/// ```text
/// ACL SETUSER shop on >password resetkeys ~{sealed-session:shop}:* resetchannels -@all +info +time
///   +multi +exec +get +set +sadd +smembers +xadd +xread +xtrim +xinfo|stream
/// ```
///
/// With `rediss://` the certificate must be valid for the host by the root certificates of the
/// platform; `SSL_CERT_FILE` names others. If the process has no default [`rustls`] provider when the
/// first connection is made, *ring* becomes it.
///
/// # What is lost when
///
/// `append` returns once the server has taken the facts, all of them or none. What that is worth, the
/// server's settings say:
///
/// | `appendonly` | `appendfsync` | the process is killed | the machine fails |
/// |---|---|---|---|
/// | `yes` | `always` | nothing | nothing |
/// | `yes` | `everysec` | nothing | about the last second |
/// | `no` | | all since the last snapshot, if there is one | the same |
///
/// Replicas lag behind: one that is promoted lacks what had not reached it, however it was synced to
/// disk. `min-replicas-to-write` narrows this, and does not close it; `WAIT` is not used. In each case
/// the instances that are still running notice and give back what they know, so a fact is lost only
/// if all that knew it ended, too. A log that is wiped while a reader waits is noticed when the wait
/// ends.
///
/// Replicas are refused, for reading as well: they answer from the past. A server that is full
/// (`maxmemory`) refuses new facts, which is an error, and keeps those it has.
///
/// # Size and age
///
/// A fact about one session takes up to 60 bytes of the server's memory, and about 120 in the
/// append-only file. Facts are deleted in passing, once the longest life of a session that the log
/// knows of, and an hour, have passed since they were added, by the server's clock.
pub struct RedisLog {
    server: Arc<Server>,
    log: String,
    kept: String,
    lineage: String,
    /// A connection each: for `append`, for reads that wait, for reads that do not.
    writing: Lane,
    waiting: Lane,
    asking: Lane,
    next_trim: Mutex<Option<Instant>>,
}

impl RedisLog {
    /// The log of the list named `list`, 1 to 64 of `A-Z a-z 0-9 _ . -`, on the server at `url`:
    /// `redis://[user:password@]host[:port][/db]`, the same with `rediss://` for TLS, or
    /// `unix:/path[?db=..&user=..&pass=..]`. What is special in a URL is percent-encoded there.
    ///
    /// It connects when it is first used, so the server may be down now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub fn new(url: &str, list: &str) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(1..=64).contains(&list.len()) || !list.bytes().all(allowed) {
            return Err(Error::config(
                "the name of a revocation list has 1 to 64 letters, digits, `_`, `.` or `-`",
            ));
        }
        let key = |what| format!("{{sealed-session:{list}}}:{what}");
        Ok(Self {
            server: Arc::new(Server::new(url, list)?),
            log: key("log"),
            kept: key("kept"),
            lineage: key("lineage"),
            writing: Lane::default(),
            waiting: Lane::default(),
            asking: Lane::default(),
            next_trim: Mutex::new(None),
        })
    }

    fn page(
        &self,
        link: &mut Link,
        mut place: Option<Place>,
        mut wait: Duration,
        until: Instant,
    ) -> Result<Page, Error> {
        // A wipe may come between any two commands, and once more while that is seen to.
        for _ in 0..4 {
            if place.is_some_and(|place| place.history != link.history()) {
                return Err(Error::backend(
                    "the server was restarted, another one took its place, or it got its first \
                     replica: facts may be missing",
                ));
            }
            let answers: [Value; 6] = link
                .ask(&self.questions(place, wait), until)?
                .try_into()
                .map_err(|_| Error::backend("the server gave too few answers"))?;
            let [before, entries, after, now, stream, kept] = answers;
            let (before, after) = (identity(&before)?, identity(&after)?);
            match after {
                None => self.begin(link, until)?,
                Some(log)
                    if before == after && place.is_none_or(|place| place.lineage == log.id) =>
                {
                    let (kept, now) = (items(&kept), instant(&now)?);
                    let place = place.unwrap_or(Place {
                        lineage: log.id,
                        history: link.history(),
                        id: StreamId::default(),
                        kept: 0,
                    });
                    let lineage = Lineage::new(log.id, log.born.to_system(), now.to_system());
                    let lineage = lineage.started(now.minus(link.up()).to_system());
                    return page_of(place, lineage, &entries, &stream, kept);
                }
                Some(_) => {}
            }
            (place, wait) = (None, Duration::ZERO);
        }
        Err(Error::backend("the log is replaced again and again"))
    }

    /// All that a page is made of, in one round trip. The lineage is asked for before and after: if
    /// it stays the same, the entries in between are of that log.
    fn questions(&self, place: Option<Place>, wait: Duration) -> Pipeline {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(&self.lineage);
        commands.cmd("XREAD").arg("COUNT").arg(PAGE);
        if !wait.is_zero() {
            // 0 would mean for ever.
            commands.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
        }
        let from = place.map(|place| place.id).unwrap_or_default().to_string();
        commands.arg("STREAMS").arg(&self.log).arg(from);
        commands.cmd("GET").arg(&self.lineage);
        commands.cmd("TIME");
        commands.cmd("XINFO").arg("STREAM").arg(&self.log);
        commands.cmd("SMEMBERS").arg(&self.kept);
        commands
    }

    /// Makes the lineage, unless another instance was faster.
    fn begin(&self, link: &mut Link, until: Instant) -> Result<(), Error> {
        let now = link.ask(redis::pipe().cmd("TIME"), until)?;
        let born = instant(now.first().unwrap_or(&Value::Nil))?.as_millis();
        let value = [&Lineage::new_id()?[..], &born.to_be_bytes()].concat();
        link.ask(redis::pipe().cmd("SET").arg(&self.lineage).arg(value).arg("NX"), until)?;
        Ok(())
    }

    /// Deletes what is over, if that was not done within the last hour.
    fn trim(&self, until: Instant) -> Result<(), Error> {
        let mut next = self.next_trim.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_some_and(|next| next > monotonic()) {
            return Ok(());
        }
        *next = Some(after(HOUR));
        drop(next);
        let deleted = self.writing.with(&self.server, until, |link| {
            let answers =
                link.ask(redis::pipe().cmd("TIME").cmd("SMEMBERS").arg(&self.kept), until)?;
            let [now, kept] = answers.as_slice() else { return Ok(0) };
            // Asked for each time: what this process knew might be outdated.
            let Some(longest) = longest(items(kept)) else { return Ok(0) };
            let floor = instant(now)?.minus(longest).minus(HOUR).as_millis();
            let mut command = redis::pipe();
            command.cmd("XTRIM").arg(&self.log).arg("MINID").arg("~").arg(floor);
            command.arg("LIMIT").arg(TRIM);
            let answers = link.ask(&command, until)?;
            Ok(if let Some(Value::Int(deleted)) = answers.first() { *deleted } else { 0 })
        })?;
        if deleted >= TRIM / 2 {
            // There is more: with the next facts, not in an hour.
            *self.next_trim.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }
}

impl RevocationLog for RedisLog {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        let until = after(LIMIT);
        let mut batch = redis::pipe();
        batch.atomic();
        for fact in facts {
            let bytes = fact.to_bytes();
            if fact.until().is_none() {
                batch.cmd("SADD").arg(&self.kept).arg(&bytes);
            }
            // Those that are kept, too: the entry wakes the readers.
            batch.cmd("XADD").arg(&self.log).arg("*").arg(FIELD).arg(bytes);
        }
        batch.cmd("GET").arg(&self.lineage);
        let appended = self.writing.with(&self.server, until, |link| {
            let answers = link.ask(&batch, until)?;
            match answers.last().map(items).unwrap_or_default().last() {
                None => Err(Error::backend("the server did not carry out the transaction")),
                Some(Value::Nil) => self.begin(link, until),
                Some(_) => Ok(()),
            }
        });
        appended.map_err(|error| error.at(self.server.name()))?;
        // The facts are there, whatever becomes of the old ones.
        let _ = self.trim(until);
        Ok(())
    }

    fn read(&self, after_cursor: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        let lane = if wait.is_zero() { &self.asking } else { &self.waiting };
        let read = || {
            let place = after_cursor.map(Place::read).transpose()?;
            let wait = if place.is_some() { wait.min(HOUR) } else { Duration::ZERO };
            let until = after(wait.saturating_add(LIMIT));
            lane.with(&self.server, until, |link| self.page(link, place, wait, until))
        };
        read().map_err(|error| {
            // What this connection noticed, that of another server, say, the others may not have.
            self.server.reconnect();
            error.at(self.server.name())
        })
    }

    fn name(&self) -> Cow<'_, str> {
        self.server.name().into()
    }
}

impl fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLog").field("name", &self.server.name()).finish_non_exhaustive()
    }
}

/// A little less than 2 s: the last system call may end late.
const LIMIT: Duration = Duration::from_millis(1_900);
const HOUR: Duration = Duration::from_secs(3_600);
/// Entries a page, besides the kept facts: a handful.
const PAGE: usize = 8_000;
/// Entries deleted at a time: about a millisecond of the server.
const TRIM: i64 = 20_000;
const FIELD: &str = "f";

/// What a [`Cursor`] says: what was read, and where.
#[derive(Clone, Copy)]
struct Place {
    lineage: [u8; 16],
    /// Of the server: another one may never have had what was read.
    history: u64,
    /// Of the last entry.
    id: StreamId,
    /// How many of the kept facts were there. Their entries in the stream are trimmed, so a reader
    /// that was asleep for very long would miss them there.
    kept: u64,
}

impl Place {
    fn read(cursor: &Cursor) -> Result<Self, Error> {
        let foreign = || Error::backend("a cursor of another log");
        let (lineage, rest) = cursor.as_bytes().split_first_chunk().ok_or_else(foreign)?;
        let (numbers, []) = rest.as_chunks::<8>() else { return Err(foreign()) };
        let [history, millis, number, kept] =
            <[_; 4]>::try_from(numbers).map_err(|_| foreign())?.map(u64::from_be_bytes);
        Ok(Self { lineage: *lineage, history, id: StreamId { millis, number }, kept })
    }

    fn cursor(&self) -> Cursor {
        let numbers = [self.history, self.id.millis, self.id.number, self.kept];
        let numbers = numbers.map(u64::to_be_bytes).concat();
        Cursor::new([&self.lineage[..], &numbers].concat())
    }
}

/// An id in a stream: the server's clock when it was made, and a number.
#[derive(Clone, Copy, Default, Eq, Ord, PartialEq, PartialOrd)]
struct StreamId {
    millis: u64,
    number: u64,
}

impl StreamId {
    fn read(value: &Value) -> Result<Self, Error> {
        let id = || {
            let (millis, number) = text(value)?.split_once('-')?;
            Some(Self { millis: millis.parse().ok()?, number: number.parse().ok()? })
        };
        id().ok_or_else(|| Error::backend("the server gave no stream id"))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

fn page_of(
    mut place: Place,
    lineage: Lineage,
    entries: &Value,
    stream: &Value,
    kept: &[Value],
) -> Result<Page, Error> {
    let given = field(stream, "last-generated-id").map(StreamId::read).transpose()?;
    if given.unwrap_or_default() < place.id {
        return Err(Error::backend(
            "the log ends before what was read already: a server that lacks the latest facts took \
             over, or the stream was deleted",
        ));
    }
    let mut page = Page::new(lineage, place.cursor());
    let count = u64::try_from(kept.len()).unwrap_or(u64::MAX);
    if count != place.kept {
        for fact in kept {
            page.push(bytes(fact));
        }
        place.kept = count;
    }
    // [[key, [[id, [field, value]], ...]]], or nil if there is none
    let entries = items(entries).first().and_then(|stream| items(stream).get(1));
    for (nth, entry) in entries.map(items).unwrap_or_default().iter().enumerate() {
        let [id, fields] = items(entry) else {
            return Err(Error::backend("the server gave an entry without an id"));
        };
        place.id = StreamId::read(id)?;
        if nth == 0 {
            page = page.written_at(instant_of(place.id));
        }
        page.push(field(fields, FIELD).map(bytes).unwrap_or_default());
    }
    let last = field(stream, "last-entry").and_then(|entry| items(entry).first());
    let more = last.map(StreamId::read).transpose()?.is_some_and(|last| last > place.id);
    page.set_cursor(place.cursor());
    Ok(page.with_more(more))
}

fn instant_of(id: StreamId) -> SystemTime {
    Timestamp::from_millis(id.millis).to_system()
}

/// What the lineage's key holds: an id of 16 bytes, and 8 of when it was made.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Identity {
    id: [u8; 16],
    born: Timestamp,
}

fn identity(value: &Value) -> Result<Option<Identity>, Error> {
    if let Value::Nil = value {
        return Ok(None);
    }
    let identity = || {
        let (id, born) = bytes(value).split_first_chunk()?;
        let born = u64::from_be_bytes(born.try_into().ok()?);
        Some(Identity { id: *id, born: Timestamp::from_millis(born) })
    };
    let foreign = "the key of the log's lineage holds something else: use another list name";
    identity().map(Some).ok_or_else(|| Error::config(foreign))
}

/// How long sessions live, by the facts that say so; None if none does, or one is of a newer release.
fn longest(kept: &[Value]) -> Option<Duration> {
    let mut longest = None;
    for fact in kept {
        if let Fact::Longest { lifetime } = Revocation::from_bytes(bytes(fact)).ok()?.fact {
            longest = longest.max(Some(lifetime));
        }
    }
    longest
}

/// The answer to `TIME`: seconds and microseconds.
fn instant(value: &Value) -> Result<Timestamp, Error> {
    let millis = || {
        let [seconds, micros] = items(value) else { return None };
        let [seconds, micros]: [u64; 2] =
            [text(seconds)?.parse().ok()?, text(micros)?.parse().ok()?];
        Some(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
    };
    let millis = millis().ok_or_else(|| Error::backend("the server did not tell the time"))?;
    Ok(Timestamp::from_millis(millis))
}

/// The value after `name` in a flat list of names and values.
fn field<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    let (pairs, _) = items(list).as_chunks::<2>();
    pairs.iter().find(|[key, _]| bytes(key) == name.as_bytes()).map(|[_, value]| value)
}

fn items(value: &Value) -> &[Value] {
    if let Value::Array(items) = value { items } else { &[] }
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.as_bytes(),
        _ => &[],
    }
}

fn text(value: &Value) -> Option<&str> {
    str::from_utf8(bytes(value)).ok()
}
