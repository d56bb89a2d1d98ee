//! A log in a database file, for the processes of one machine.

mod fault;
mod file;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, TransactionBehavior};

use fault::Fault;
use file::{Identity, identity, make};

use super::{Cursor, Lineage, Page, Revocation, RevocationLog};
use crate::clock::{Clock as _, SystemClock, Timestamp, monotonic};
use crate::error::Error;

/// A log in an SQLite database file, which the processes of one machine share: servers, and the
/// command beside them. No server has to run for it.
///
/// ```no_run
/// # use std::time::Duration;
/// # use sealed_session::revocation::{RevocationLog, SqliteLog};
/// let log = SqliteLog::new("/var/lib/shop/revocations.db");
/// let page = log.read(None, Duration::ZERO)?; // makes the file
/// # Ok::<(), sealed_session::Error>(())
/// ```
///
/// **Set-up.** Give it a directory that exists and that only the user of the processes may write,
/// on a disk of this machine. SQLite keeps two files beside the database, `…-wal` and `…-shm`: the
/// three belong together. A network file system is not supported, since SQLite's locks and its
/// shared memory do not work across machines: facts would get lost. Containers may share the file
/// if they run on one machine and mount the same directory.
///
/// **Rights.** The file is made with mode 0600, and whoever wants to add to it or to read it has to
/// be able to write it and its directory: run the command as the user of the servers. Refused are a
/// file that its group or others may write, a directory that they may write, sticky or not, and a
/// directory in which they could move a link on the way to the file. On systems other than Unix
/// nothing of this is checked.
///
/// **Durability.** `append` returns once the facts are on the disk (WAL, `synchronous = FULL`): they
/// survive the death of every process, of the system, and a loss of power, as far as the disk keeps
/// what it confirms. A batch is there as a whole or not at all. A full disk is an error, and loses
/// nothing that was there.
///
/// **Loss.** A file that was deleted or replaced under running processes is noticed within
/// milliseconds: the reads fail once, a new file is made, and the instances give back what they
/// know. To start again from an empty log, delete the three files; do not delete rows. For a backup,
/// use `sqlite3 FILE ".backup COPY"`; bring a copy back while no process runs: in between three files,
/// one that runs might join the copy to the log of another.
///
/// **Delay and cost.** An append wakes the readers of the same [`SqliteLog`] at once; those of other
/// processes look every 5 ms, which takes 1 to 2 % of a core. A fact takes about 115 bytes on the
/// disk. Facts are deleted an hour after their end by the clock of the machine, some with each
/// `append`, and their room is used again; the file does not shrink.
///
/// A process that forks has to make its [`SqliteLog`] after it forked. The application must not open
/// the file by other means in the same process: closing it would give up SQLite's locks.
///
/// **Schema**, for programs that add facts of their own or look at them:
///
/// ```sql
/// pragma application_id = 1936023916; -- "seal"
/// pragma user_version = 1;
/// create table fact (
///     seq integer primary key autoincrement,
///     fact blob not null unique,      -- as `Revocation::to_bytes` writes it
///     until integer,                  -- its end, milliseconds since 1970; null: it stays
///     written_at integer not null     -- milliseconds since 1970
/// );
/// create index fact_until on fact (until) where until is not null;
/// create table lineage (
///     one integer primary key check (one = 1),
///     id blob not null,               -- 16 random bytes
///     born integer not null           -- milliseconds since 1970
/// );
/// ```
pub struct SqliteLog {
    path: PathBuf,
    /// Connections that nobody uses now. A call takes one, or opens one.
    idle: Mutex<Vec<Database>>,
    /// How often this log was added to.
    appends: Mutex<u64>,
    added: Condvar,
}

impl SqliteLog {
    /// The log in the database file at `path`, which the first call opens, or makes.
    ///
    /// A relative path counts from the working directory. Clones of an `Arc` share connections and
    /// wake each other; several logs of one path work, too.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            idle: Mutex::default(),
            appends: Mutex::default(),
            added: Condvar::new(),
        }
    }

    /// Does something with a connection, and drops all of them if it fails.
    fn with<T>(
        &self,
        time: Time,
        act: impl FnOnce(&mut Database) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let idle = locked(&self.idle).pop();
        let done = idle.map_or_else(|| Database::open(&self.path, time), Ok).and_then(|mut it| {
            it.patience(time)?;
            let done = act(&mut it)?;
            // Afterwards: what was written into a file that is gone was not written.
            it.check_in_place(&self.path)?;
            Ok((done, it))
        });
        let mut idle = locked(&self.idle);
        match done {
            Ok((done, it)) => {
                if idle.len() < MOST_IDLE {
                    idle.push(it);
                }
                Ok(done)
            }
            Err(fault) => {
                idle.clear();
                drop(idle);
                Err(fault.into_error(&self.name()))
            }
        }
    }
}

impl RevocationLog for SqliteLog {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        let time = Time::new(PATIENCE);
        self.with(time, |database| database.append(facts))?;
        let mut appends = locked(&self.appends);
        *appends = appends.wrapping_add(1);
        self.added.notify_all();
        Ok(())
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        let waiting = Time::new(wait);
        let time = Time::new(wait.saturating_add(PATIENCE));
        self.with(time, |database| {
            let after = after.map(Place::of).transpose()?;
            loop {
                // Both before the facts are read, so that none comes between.
                let appends = *locked(&self.appends);
                let version = database.version()?;
                let page = database.page(after.as_ref())?;
                let news = after.as_ref().is_none_or(|after| after.lineage != page.lineage.id)
                    || !page.facts.is_empty()
                    || page.unreadable.is_some();
                if news || waiting.left().is_zero() {
                    return Ok(page);
                }
                loop {
                    let still = |now: &mut u64| *now == appends;
                    let pause = POLL.min(waiting.left());
                    let now = locked(&self.appends);
                    let waited = self.added.wait_timeout_while(now, pause, still);
                    drop(waited);
                    database.check_in_place(&self.path)?;
                    if waiting.left().is_zero() || database.version()? != version {
                        break;
                    }
                }
            }
        })
    }

    fn name(&self) -> Cow<'_, str> {
        self.path.display().to_string().into()
    }

    /// A second: a reader looks every 5 ms whether the file is in its place.
    fn settle(&self) -> Duration {
        Duration::from_secs(1)
    }
}

impl fmt::Debug for SqliteLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLog").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How often a reader looks what other processes did: a few microseconds of work.
const POLL: Duration = Duration::from_millis(5);
/// For how long a call waits for locks in all. The rest of its 2 s is for the disk.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A writer, a reader that waits, and readers that do not.
const MOST_IDLE: usize = 8;
const PAGE: usize = 10_000;
/// How long a fact stays after its end.
const KEPT: Duration = Duration::from_secs(60 * 60);

const APPLICATION: i64 = 0x7365_616c;
const VERSION: i64 = 1;
const SCHEMA: &str = "
    create table fact (
        seq integer primary key autoincrement,
        fact blob not null unique,
        until integer,
        written_at integer not null
    );
    create index fact_until on fact (until) where until is not null;
    create table lineage (
        one integer primary key check (one = 1),
        id blob not null,
        born integer not null
    );
    pragma application_id = 1936023916;
    pragma user_version = 1;";
const ADD: &str = "insert into fact (fact, until, written_at) values (?1, ?2, ?3) \
                   on conflict (fact) do nothing";
const DELETE: &str = "delete from fact where seq in \
                      (select seq from fact where until < ?1 order by until limit ?2)";
const LINEAGE: &str = "select id, born, \
                       (select coalesce(max(seq), 0) from sqlite_sequence where name = 'fact') \
                       from lineage";
const FACTS: &str = "select seq, fact, written_at from fact where seq > ?1 order by seq limit ?2";

/// One opening at a time: on Unix, a process that closes a file gives up all locks that it holds on
/// it, also those of SQLite, and making the file closes it.
static OPENING: Mutex<()> = Mutex::new(());

/// An open database.
struct Database {
    connection: Connection,
    /// The two files beside it.
    beside: [PathBuf; 2],
    /// It, and they.
    files: [Identity; 3],
}

impl Database {
    fn open(path: &Path, time: Time) -> Result<Self, Fault> {
        let (connection, real, file) = {
            let _opening = locked(&OPENING);
            make(path)?;
            let file = identity(path)?;
            let real = fs::canonicalize(path)?;
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            (Connection::open_with_flags(&real, flags)?, real, file)
        };
        let beside = ["-wal", "-shm"].map(|end| {
            let mut name = OsString::from(&real);
            name.push(end);
            PathBuf::from(name)
        });
        let mut database = Self { connection, beside, files: [file; 3] };
        database.prepare(time)?;
        // They are made at the first look into the database.
        let [wal, shm] = &database.beside;
        database.files = [file, identity(wal)?, identity(shm)?];
        Ok(database)
    }

    /// Tries again where several processes make the database at once: SQLite does not wait then.
    fn prepare(&mut self, time: Time) -> Result<(), Fault> {
        self.patience(time)?;
        loop {
            match self.prepare_once() {
                Err(fault) if fault.is_busy() && !time.left().is_zero() => thread::sleep(POLL),
                done => return done,
            }
        }
    }

    fn prepare_once(&mut self) -> Result<(), Fault> {
        let new = is_new(&self.connection)?;
        // Barriers that reach the disk on Apple's systems too; nothing elsewhere.
        self.connection.execute_batch(
            "pragma synchronous = full; pragma fullfsync = on; pragma checkpoint_fullfsync = on; \
             pragma cell_size_check = on",
        )?;
        let mode: String =
            self.connection.query_row("pragma journal_mode = wal", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(Fault::Refused(
                "the file system cannot share memory between processes: keep the file on a local \
                 disk"
                    .into(),
            ));
        }
        if !new && lineage(&self.connection)?.is_some() {
            return Ok(());
        }
        let id = Lineage::new_id()?;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if is_new(&transaction)? {
            transaction.execute_batch(SCHEMA)?;
        }
        let sql = "insert into lineage (one, id, born) values (1, ?1, ?2) on conflict do nothing";
        transaction.execute(sql, (id, millis(SystemClock.now())))?;
        Ok(transaction.commit()?)
    }

    /// Lets all that follows wait for locks until the time is over. SQLite's own way of waiting
    /// sleeps for longer and longer, so that a writer among busy ones would starve.
    fn patience(&mut self, time: Time) -> Result<(), Fault> {
        let again = move |_| {
            let more = !time.left().is_zero();
            if more {
                thread::sleep(Duration::from_millis(1));
            }
            more
        };
        Ok(self.connection.busy_handler(Some(again))?)
    }

    /// Whether the files that are open are those that others find under the path.
    fn check_in_place(&self, path: &Path) -> Result<(), Fault> {
        let [wal, shm] = &self.beside;
        let found = [path, wal, shm].map(|path| identity(path).ok());
        if found == self.files.map(Some) {
            return Ok(());
        }
        Err(Fault::Failed("the file, or one beside it, was deleted or replaced"))
    }

    /// A number that changes when another connection wrote.
    fn version(&self) -> Result<i64, Fault> {
        Ok(self.connection.query_row("pragma data_version", [], |row| row.get(0))?)
    }

    fn append(&mut self, facts: &[Revocation]) -> Result<(), Fault> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if lineage(&transaction)?.is_none() {
            return Err(Fault::Failed(GONE));
        }
        let now = SystemClock.now();
        let mut add = transaction.prepare(ADD)?;
        for fact in facts {
            add.execute((fact.to_bytes(), fact.until().map(millis), millis(now)))?;
        }
        drop(add);
        // More than come in, so that what has ended does not pile up.
        let most = facts.len().saturating_mul(2).saturating_add(100);
        let ended = now.checked_sub(KEPT).unwrap_or(SystemTime::UNIX_EPOCH);
        transaction.execute(DELETE, (millis(ended), count(most)))?;
        Ok(transaction.commit()?)
    }

    fn page(&mut self, after: Option<&Place>) -> Result<Page, Fault> {
        let [file, ..] = self.files;
        let transaction = self.connection.transaction()?;
        let (lineage, last) = lineage(&transaction)?.ok_or(Fault::Failed(GONE))?;
        let after = after.filter(|after| after.lineage == lineage.id);
        if after.is_some_and(|after| after.file != file || after.seq > last) {
            return Err(Fault::Failed("the file was replaced by another copy"));
        }
        let mut at = after.map_or(0, |after| after.seq);
        let mut page = Page::new(lineage, Place { lineage: lineage.id, file, seq: at }.cursor());
        let mut facts = transaction.prepare(FACTS)?;
        let mut rows = facts.query((at, count(PAGE.saturating_add(1))))?;
        let mut number = 0_usize;
        while let Some(row) = rows.next()? {
            if number == PAGE {
                page = page.with_more(true);
                break;
            }
            at = row.get(0)?;
            if number == 0 {
                page = page.written_at(instant(row.get(2)?));
            }
            page.push(row.get_ref(1)?.as_blob().map_err(|_| Fault::Shape)?);
            number = number.saturating_add(1);
        }
        page.set_cursor(Place { lineage: lineage.id, file, seq: at }.cursor());
        Ok(page)
    }
}

/// Whether there is nothing in the database yet. Refuses one that is not ours.
fn is_new(connection: &Connection) -> Result<bool, Fault> {
    let sql = "select (select count(*) from sqlite_schema), application_id, user_version \
               from pragma_application_id, pragma_user_version";
    match connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
        (0_i64, 0, 0) => Ok(true),
        (_, APPLICATION, VERSION) => Ok(false),
        (_, APPLICATION, version) if version > VERSION => Err(Fault::Refused(
            "a newer release made this file: update this one, or give another path".into(),
        )),
        _ => Err(Fault::Refused(
            "this is a database of something else: give another path, one at which no file is yet"
                .into(),
        )),
    }
}

/// Which log it is, and the last number that a fact got.
fn lineage(connection: &Connection) -> Result<Option<(Lineage, i64)>, Fault> {
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found = connection.query_row(LINEAGE, [], row).optional()?;
    Ok(found.map(|(id, born, last)| (Lineage::new(id, instant(born), SystemClock.now()), last)))
}

/// What a cursor stands for.
struct Place {
    lineage: [u8; 16],
    /// The same log can lie in several files, as copies from different times.
    file: Identity,
    seq: i64,
}

impl Place {
    fn of(cursor: &Cursor) -> Result<Self, Fault> {
        let foreign = Fault::Failed("a cursor of another log");
        let Some((lineage, rest)) = cursor.as_bytes().split_first_chunk() else {
            return Err(foreign);
        };
        let Some((file, seq)) = rest.split_first_chunk() else { return Err(foreign) };
        let Ok(seq) = seq.try_into().map(i64::from_be_bytes) else { return Err(foreign) };
        Ok(Self { lineage: *lineage, file: Identity(*file), seq })
    }

    fn cursor(&self) -> Cursor {
        Cursor::new([&self.lineage[..], &self.file.0, &self.seq.to_be_bytes()].concat())
    }
}

const GONE: &str = "the id of the log was deleted from the database";

/// How long a call may take.
#[derive(Clone, Copy)]
struct Time {
    began: Instant,
    in_all: Duration,
}

impl Time {
    fn new(in_all: Duration) -> Self {
        Self { began: monotonic(), in_all }
    }

    fn left(self) -> Duration {
        self.in_all.saturating_sub(monotonic().saturating_duration_since(self.began))
    }
}

fn instant(millis: i64) -> SystemTime {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)).to_system()
}

fn millis(time: SystemTime) -> i64 {
    i64::try_from(Timestamp::from_system(time).as_millis()).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
