//! A log in Postgres: a table is the log, NOTIFY only wakes its readers, a snapshot is the cursor.

mod link;
mod place;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::Handle;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::types::Type;

use self::link::{Failure, Lane, Limit, Link, STEP, Talk, ToSql};
use self::place::{Found, Place};
use super::{Cursor, Lineage, Page, Revocation, RevocationLog};
use crate::error::Error;
use crate::key;

/// A log in a Postgres database, 13 or newer, which instances on any number of machines share.
///
/// It keeps two tables, `sealed_session_facts` and `sealed_session_lineage`, in the first schema of
/// the `search_path`, and makes them if they are not there. Several lists share them. A role that may
/// not create tables needs them made by hand, with the file `postgres.sql` beside the source of this
/// type, and then
///
/// ```sql
/// grant select, insert on sealed_session_lineage to ROLE;
/// grant select, insert, delete on sealed_session_facts to ROLE;
/// ```
///
/// Another schema is chosen by the role's `search_path`, or by `options=-csearch_path%3DNAME` in the
/// URL.
///
/// # In a transaction of the application's own
///
/// Three SQL functions revoke in the transaction that calls them: sessions end exactly if it commits.
/// They belong at its end, since sessions that begin more than `clock_skew` after the call are not
/// meant.
///
/// ```sql
/// begin;
/// update users set password = … where name = 'alice';
/// select sealed_session_revoke_subject('sessions', 'shop', 'alice');   -- list, realm, subject
/// commit;
/// ```
///
/// The others are `sealed_session_revoke_everyone(list, realm)` and
/// `sealed_session_revoke_session(list, session_id)`, with the id's 16 bytes. A last argument is the
/// `clock_skew` of the policy, 60 seconds by default. A list that no instance has followed yet is an
/// error.
///
/// # What is lost when
///
/// A fact is as durable as the database's other transactions: with `synchronous_commit = on`, the
/// default, it survives a crash of the server. With `off`, a crash takes the last half second or so;
/// a failover to an asynchronous replica, what had not reached it. Instances that run give back what
/// is missing, once they have noticed: at a restart, a failover, a restored backup, and when the
/// tables are dropped, truncated or rewritten, that is with their next read. Rows that were deleted
/// by hand are not noticed.
///
/// # What it costs
///
/// Three connections an instance: one that listens, one for strict routes, one that writes. A fact
/// arrives within milliseconds by NOTIFY. Where that is lost, as behind a pooler in transaction mode,
/// and where a row was inserted without it, within 250 ms: for that an instance asks four times a
/// second. A fact takes about 270 bytes with its indexes, and goes an hour after it has ended. An
/// instance starts with a million of them in about 3 s.
///
/// ```no_run
/// use sealed_session::revocation::PostgresLog;
///
/// let url = "postgres://shop:secret@db.example/shop?sslmode=require";
/// let log = PostgresLog::new(url, "sessions")?;
/// # Ok::<(), sealed_session::Error>(())
/// ```
pub struct PostgresLog {
    config: Config,
    roots: Option<RootCertStore>,
    name: Box<str>,
    list: Box<str>,
    channel: Box<str>,
    appending: Lane,
    following: Lane,
    asking: Lane,
}

impl PostgresLog {
    /// A log in the database at `url`, under a name of 1 to 64 characters `A-Z a-z 0-9 _ . -`.
    ///
    /// The URL is `postgres://user:password@host:5432/database`, or `host=… user=…` as libpq has it.
    /// Several hosts may be given, with `target_session_attrs=read-write` to find the primary.
    /// `sslmode=require` encrypts and **verifies the server's certificate**, name included, against
    /// the roots of the platform or [`root_certificates`](Self::root_certificates), as libpq's
    /// `verify-full`. `prefer`, the default, does so if the server offers TLS, and else sends
    /// everything in the clear; `disable` always does.
    ///
    /// Nothing is connected yet: that is done by the first call, and again after an error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a URL or name that cannot be used.
    pub fn new(url: &str, list: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if list.is_empty() || list.len() > 64 || !list.chars().all(allowed) {
            let advice = "PostgreSQL log: the list's name has 1 to 64 characters A-Z a-z 0-9 _ . -";
            return Err(Error::config(advice));
        }
        // The parser's own words may hold a piece of the password.
        let mut config: Config = url.parse().map_err(|_| Error::config(URL_ADVICE))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::config("PostgreSQL log: the URL names no host"));
        }
        if config.get_application_name().is_none() {
            config.application_name("sealed-session");
        }
        // One server that is down must not use up the time for the next.
        let servers = config.get_hosts().len().max(config.get_hostaddrs().len()).max(1);
        let each = STEP.checked_div(u32::try_from(servers).unwrap_or(1)).unwrap_or(STEP);
        let each = config.get_connect_timeout().map_or(each, |chosen| each.min(*chosen));
        config.connect_timeout(each);
        let channel = key::digest16("sealed-session v1 channel", &[list.as_bytes()]);
        let channel = format!("sealed_session_{:032x}", u128::from_be_bytes(channel));
        Ok(Self {
            name: format!("{}, list {list}", address(&config)).into(),
            roots: None,
            config,
            list: list.into(),
            channel: channel.into(),
            appending: Lane::default(),
            following: Lane::listening(),
            asking: Lane::default(),
        })
    }

    /// Verifies the server's certificate against those of a PEM file, and no others.
    ///
    /// The file is read now. It matters with `sslmode=require` and `prefer`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the file cannot be read, or holds no
    /// certificate.
    pub fn root_certificates(mut self, pem: impl AsRef<Path>) -> Result<Self, Error> {
        let pem = pem.as_ref();
        let refuse = |why: &dyn fmt::Display| {
            Error::config(format!("root certificates {}: {why}", pem.display()))
        };
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(pem).map_err(|error| refuse(&error))? {
            let root = root.map_err(|error| refuse(&error))?;
            roots.add(root).map_err(|error| refuse(&error))?;
        }
        if roots.is_empty() {
            return Err(refuse(&"no certificate in the file"));
        }
        self.roots = Some(roots);
        Ok(self)
    }

    /// Does something with the connection of a lane, made now if need be; after an error it goes.
    ///
    /// A call from inside an async runtime gets a thread: none can wait inside another.
    fn on<T: Send>(
        &self,
        lane: &Lane,
        limit: &Limit,
        work: impl AsyncFnOnce(&mut Talk) -> Result<T, Failure> + Send,
    ) -> Result<T, Error> {
        let call = || {
            let mut taken = lane.take(limit)?;
            let mut link = match taken.link.take() {
                Some(link) => link,
                None => self.connect(lane.listens, limit)?,
            };
            let result = link.block_on(work)?;
            taken.link = Some(link);
            Ok(result)
        };
        let result = if Handle::try_current().is_err() {
            call()
        } else {
            thread::scope(|scope| {
                let thread = thread::Builder::new().spawn_scoped(scope, call);
                let thread = thread.map_err(|error| Failure::Log(Error::backend(error)))?;
                thread.join().unwrap_or_else(|_| Err(Failure::Slow))
            })
        };
        result.map_err(|failure| failure.into_error().at(&self.name))
    }

    fn connect(&self, listens: bool, limit: &Limit) -> Result<Link, Failure> {
        let mut link = Link::connect(&self.config, self.roots.as_ref(), limit)?;
        link.block_on(async |talk: &mut Talk| {
            let found = talk.query(FIND, &[], limit).await?;
            let found = found.first().ok_or(Failure::Strange)?;
            let version: i32 = found.try_get("version")?;
            if version < 130_000 {
                return Err(Error::config("PostgreSQL is older than 13").into());
            }
            if found.try_get("replica")? {
                let advice = "a replica that cannot be written to: name the primary, or all servers \
                              and target_session_attrs=read-write";
                return Err(Error::backend(advice).into());
            }
            if found.try_get("missing")? {
                talk.batch(&format!("begin; {ONE_AT_A_TIME}; {DDL}; commit"), limit).await?;
            }
            if listens {
                talk.batch(&format!("listen {}", self.channel), limit).await?;
            }
            Ok(())
        })?;
        Ok(link)
    }

    async fn page(&self, talk: &mut Talk, place: &Place, limit: &Limit) -> Result<Found, Failure> {
        let params: [(&(dyn ToSql + Sync), Type); 5] = [
            (&&*self.list, Type::TEXT),
            (&&*place.seen, Type::TEXT),
            (&&*place.last_xid, Type::TEXT),
            (&&*place.last_fact, Type::BYTEA),
            (&place.begins(), Type::BOOL),
        ];
        let mut rows = Vec::new();
        for _ in 0..2 {
            if place.pages() {
                talk.batch(IN_ORDER, limit).await?;
            }
            rows = talk.query(PAGE, &params, limit).await?;
            if place.pages() {
                talk.batch("commit", limit).await?;
            }
            let row = rows.first().ok_or(Failure::Strange)?;
            if row.try_get::<_, Option<&[u8]>>("id")?.is_some() {
                break;
            }
            // Made by whoever comes first; or another instance has just done so.
            self.add(talk, &[], limit).await?;
        }
        place.next(rows.first().ok_or(Failure::Strange)?)
    }

    async fn add(
        &self,
        talk: &mut Talk,
        facts: &[Revocation],
        limit: &Limit,
    ) -> Result<(), Failure> {
        let millis = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        let until: Vec<_> = facts.iter().map(|fact| fact.until().map(millis)).collect();
        let bytes: Vec<_> = facts.iter().map(Revocation::to_bytes).collect();
        // Keeps pace with any rate of appending.
        let old = i64::try_from(facts.len()).unwrap_or(0).saturating_mul(2).saturating_add(100);
        let params: [(&(dyn ToSql + Sync), Type); 6] = [
            (&&*self.list, Type::TEXT),
            (&&Lineage::new_id()?[..], Type::BYTEA),
            (&bytes, Type::BYTEA_ARRAY),
            (&until, Type::INT8_ARRAY),
            (&old, Type::INT8),
            (&&*self.channel, Type::TEXT),
        ];
        talk.query(APPEND, &params, limit).await.map(drop)
    }
}

impl RevocationLog for PostgresLog {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        let limit = Limit::new(Duration::ZERO);
        self.on(&self.appending, &limit, async |talk: &mut Talk| {
            self.add(talk, facts, &limit).await
        })
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        let place = match after {
            Some(cursor) => Place::from_cursor(cursor).map_err(|error| error.at(&self.name))?,
            None => Place::beginning(),
        };
        let lane = if wait.is_zero() { &self.asking } else { &self.following };
        let limit = Limit::new(wait);
        let poll = wait.checked_div(4).unwrap_or_default().min(POLL_EVERY);
        self.on(lane, &limit, async |talk: &mut Talk| {
            let mut place = place;
            loop {
                talk.forget_news();
                let found = self.page(talk, &place, &limit).await?;
                let left = limit.left_to_wait();
                if found.is_news || left.is_zero() {
                    return Ok(found.page);
                }
                place = found.next;
                talk.doze(poll.min(left)).await?;
            }
        })
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}

impl fmt::Debug for PostgresLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresLog").field(&self.name).finish()
    }
}

const POLL_EVERY: Duration = Duration::from_millis(250);
const DDL: &str = include_str!("postgres.sql");
/// Two instances that create the same table at once would make one of them fail.
const ONE_AT_A_TIME: &str = "select pg_advisory_xact_lock(8315161591430394227)";
const URL_ADVICE: &str = "PostgreSQL log: the URL cannot be read; write \
    postgres://user:password@host:5432/database?sslmode=require, with what is special in the \
    password percent-encoded; sslmode is disable, prefer or require, which verifies as verify-full \
    does elsewhere; sslrootcert is root_certificates(…) here";

const FIND: &str = "
    select current_setting('server_version_num')::int4 as version, pg_is_in_recovery() as replica,
      to_regclass('sealed_session_facts') is null
        or to_regclass('sealed_session_lineage') is null as missing";

/// As long as the server has no statistics of the table, it would sort all of it for every page.
const IN_ORDER: &str = "begin; set local enable_seqscan = off; set local enable_bitmapscan = off;
    set local enable_sort = off; set local jit = off";

/// `$1` list, `$2` the snapshot that has been seen, `$3` and `$4` after which fact in the index, `$5`
/// whether this begins.
///
/// No row that this server wrote can be visible and not before the end of the snapshot; one that came
/// from a dump of another can. It is given to those who begin, and would come again at every read.
const PAGE: &str = "
    with page as (
      select xid, fact, written_at from sealed_session_facts
      where list = $1 and (xid, fact) > ($3::text::xid8, $4)
        and not pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
        and ($5 or xid < pg_snapshot_xmax(pg_current_snapshot()))
      order by xid, fact limit 10000)
    select l.id, (extract(epoch from l.born) * 1000)::int8 as born,
      (extract(epoch from clock_timestamp()) * 1000)::int8 as now,
      pg_current_snapshot()::text as now_seen,
      concat_ws(' ', extract(epoch from pg_postmaster_start_time()),
        'sealed_session_facts'::regclass::oid, pg_relation_filenode('sealed_session_facts')) as era,
      pg_snapshot_xmax($2::text::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot())
        as went_back,
      (select array_agg(fact) from page) as facts,
      (select page.xid::text from page order by page.xid desc limit 1) as last_xid,
      (select (extract(epoch from min(written_at)) * 1000)::int8 from page) as written_at
    from (values (1)) one left join sealed_session_lineage l on l.list = $1";

/// `$1` list, `$2` an id if there is none, `$3` facts, `$4` when they end, `$5` how many old ones to
/// delete, `$6` channel. In one order, or two that add the same would block each other; and one
/// deletes at a time.
const APPEND: &str = "
    with lineage as (
      insert into sealed_session_lineage (list, id) values ($1, $2) on conflict do nothing),
    added as (
      insert into sealed_session_facts (list, fact, until)
      select $1, fact, to_timestamp(until / 1000.0)
      from unnest($3::bytea[], $4::int8[]) as given (fact, until) order by fact
      on conflict do nothing returning 1),
    deleted as (
      delete from sealed_session_facts f using (
        select fact from sealed_session_facts
        where list = $1 and until < now() - interval '1 hour' order by until limit $5) old
      where f.list = $1 and f.fact = old.fact
        and (select pg_try_advisory_xact_lock(8315161591430394228)))
    select pg_notify($6, '') where exists (select from added)";

/// Where the database is, without user and password.
fn address(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(host) => host.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
    let all: Vec<_> =
        if config.get_hosts().is_empty() { addresses.collect() } else { hosts.collect() };
    let ports: Vec<_> = config.get_ports().iter().map(ToString::to_string).collect();
    let port = if ports.is_empty() { "5432".to_owned() } else { ports.join(",") };
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("PostgreSQL {}:{port}/{database}", all.join(","))
}
