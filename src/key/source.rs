//! Where the text of a ring comes from: the only place of this module that reads files and
//! environment variables.

use std::borrow::Cow;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind as Io, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zeroize::{Zeroize, Zeroizing};

use super::access;
use super::ring::refused;
use super::text::MAX_TEXT;
use crate::error::Error;

/// Where the text of a [`KeyRing`](crate::KeyRing) comes from.
///
/// The sources of this crate are [`FileKeys`], [`DirectoryKeys`] and [`EnvKeys`]. Implement it for a
/// vault, a key management service or anything else that gives text; a closure does as well.
///
/// ```
/// use sealed_session::{Error, KeyRing, KeySource, SessionManager, Zeroizing};
/// # use std::io;
/// # struct Client;
/// # impl Client {
/// #     fn read(&self, path: &str) -> Result<String, io::Error> {
/// #         Ok(KeyRing::for_tests().map_err(io::Error::other)?.expose_text().to_string())
/// #     }
/// # }
///
/// struct Vault {
///     client: Client, // whatever speaks to it, with a timeout of its own
/// }
///
/// impl KeySource for Vault {
///     fn load(&self) -> Result<Zeroizing<String>, Error> {
///         self.client.read("secret/shop/session-keys").map(Zeroizing::new).map_err(Error::backend)
///     }
///
///     fn name(&self) -> String {
///         "vault secret/shop/session-keys".into()
///     }
/// }
///
/// let keys = KeyRing::watch(Vault { client: Client })?;
/// let sessions = SessionManager::builder("shop", keys).build()?;
/// # Ok::<(), Error>(())
/// ```
pub trait KeySource: Send + 'static {
    /// Reads the whole text of the ring, as it is now.
    ///
    /// Called at start, where it stops the start if it fails, and then now and again by a thread of
    /// its own, where a failure leaves the ring as it is. It may block, but should give up after
    /// some seconds.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, as [`Error::backend`]. No error may hold any of the text.
    fn load(&self) -> Result<Zeroizing<String>, Error>;

    /// Names the source in errors and events: a path, an address without its password.
    fn name(&self) -> String {
        "key source".into()
    }

    /// What could be safer about the source, as the last `load` found it. It is told as an event.
    fn warning(&self) -> Option<String> {
        None
    }
}

impl<F> KeySource for F
where
    F: Fn() -> Result<Zeroizing<String>, Error> + Send + 'static,
{
    fn load(&self) -> Result<Zeroizing<String>, Error> {
        self()
    }
}

impl KeySource for Box<dyn KeySource> {
    fn load(&self) -> Result<Zeroizing<String>, Error> {
        (**self).load()
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn warning(&self) -> Option<String> {
        (**self).warning()
    }
}

/// A ring in one file.
///
/// Links are followed at every load, so that a link may be moved to another file. Refused are a
/// file or a directory that others may write, where they could put in a key that they know:
///
/// - a file that its group or others may write;
/// - its directory, and the directory of each link on the way to it, where their group or others
///   may write them. One with the sticky bit, as Kubernetes mounts secrets, passes if it and what it
///   holds have the same owner.
///
/// Directories further up are for you to protect. A file that others may *read* is accepted with a
/// warning, since that is how secrets are mounted by default. On systems other than Unix nothing of
/// this is checked.
#[derive(Debug)]
pub struct FileKeys {
    path: PathBuf,
    warning: Mutex<Option<String>>,
}

impl FileKeys {
    /// The ring in the file at `path`. A relative path counts from the working directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), warning: Mutex::default() }
    }
}

impl KeySource for FileKeys {
    fn load(&self) -> Result<Zeroizing<String>, Error> {
        let found = steadily(|| read(&self.path)).map_err(|fault| fault.into_error(&self.path))?;
        set(&self.warning, found.warning);
        Ok(found.text)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn warning(&self) -> Option<String> {
        get(&self.warning)
    }
}

/// A ring in the files of one directory, joined in the order of their names.
///
/// The directory may be one that Kubernetes mounts from a secret, with a link `..data` that is moved
/// when the secret changes: the link is followed once a load, so that all files are of one version.
/// Without that link, put a new version in place by moving a link to the directory, since a load
/// between two changes of files would see half of each.
///
/// Files whose names start with a dot are left out, and so are directories. What is refused is told
/// at [`FileKeys`]. A secret that is mounted with `subPath` never changes while the process runs.
#[derive(Debug)]
pub struct DirectoryKeys {
    path: PathBuf,
    warning: Mutex<Option<String>>,
    /// Which file gave which lines at the last load.
    lines: Mutex<Option<String>>,
}

impl DirectoryKeys {
    /// The ring in the directory at `path`. A relative path counts from the working directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), warning: Mutex::default(), lines: Mutex::default() }
    }

    /// The text, with which lines came from where.
    fn read(&self) -> Result<(Found, String), Fault> {
        let data = self.path.join("..data");
        let version = match fs::canonicalize(&data) {
            Err(error) if error.kind() == Io::NotFound => {
                if fs::symlink_metadata(&self.path)?.is_symlink() {
                    access::check_directory_of(&self.path)?;
                }
                fs::canonicalize(&self.path)?
            }
            version => {
                access::check_directory_of(&data)?;
                version?
            }
        };
        let found = Self::join(&version)?;
        // Once the link has moved, files of the old version are taken away, one after the other.
        let moved = match fs::canonicalize(&data) {
            Err(error) if error.kind() == Io::NotFound => fs::canonicalize(&self.path)? != version,
            now => now? != version,
        };
        if moved { Err(Fault::Moved) } else { Ok(found) }
    }

    fn join(version: &Path) -> Result<(Found, String), Fault> {
        let mut names = fs::read_dir(version)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<OsString>, io::Error>>()?;
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        names.sort();
        // Room for the whole: a string that grows leaves its secrets behind in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(MAX_TEXT.saturating_add(2)));
        let (mut warning, mut lines, mut line) = (None, Vec::new(), 1_usize);
        for name in names {
            let path = version.join(&name);
            if fs::metadata(&path)?.is_dir() {
                continue;
            }
            let part = read(&path).map_err(|fault| fault.within(&name))?;
            if text.len().saturating_add(part.text.len()) > MAX_TEXT {
                return Err(Fault::Refused(TOO_LONG.into()));
            }
            text.push_str(&part.text);
            if !text.ends_with('\n') {
                text.push('\n');
            }
            let next = text.split(['\n', ';']).count();
            let last = next.saturating_sub(1).max(line);
            lines.push(format!("{} has lines {line} to {last}", name.display()));
            line = next;
            warning = warning.or(part.warning);
        }
        Ok((Found { text, warning }, lines.join(", ")))
    }
}

impl KeySource for DirectoryKeys {
    fn load(&self) -> Result<Zeroizing<String>, Error> {
        set(&self.lines, None);
        let read = steadily(|| self.read()).map_err(|fault| fault.into_error(&self.path))?;
        let (found, lines) = read;
        set(&self.warning, found.warning);
        set(&self.lines, Some(lines));
        Ok(found.text)
    }

    fn name(&self) -> String {
        match get(&self.lines) {
            Some(lines) if !lines.is_empty() => format!("{} ({lines})", self.path.display()),
            _ => self.path.display().to_string(),
        }
    }

    fn warning(&self) -> Option<String> {
        get(&self.warning)
    }
}

/// A ring in an environment variable, with `;` for the end of a line.
///
/// It cannot change while the process runs, so rotation needs a restart of every server, and other
/// programs of the same user can read it: it is always loaded with a warning. A file is better.
#[derive(Clone, Debug)]
pub struct EnvKeys {
    variable: String,
}

impl EnvKeys {
    /// The ring in the environment variable of this name.
    pub fn new(variable: impl Into<String>) -> Self {
        Self { variable: variable.into() }
    }
}

impl KeySource for EnvKeys {
    fn load(&self) -> Result<Zeroizing<String>, Error> {
        let refuse = |reason: &str| Err(refused(&format!("{}: {reason}", self.name())));
        match env::var(&self.variable) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(env::VarError::NotPresent) => refuse("not set: set it to the text of a key ring"),
            Err(env::VarError::NotUnicode(text)) => {
                text.into_encoded_bytes().zeroize();
                refuse("not UTF-8: copy the text again")
            }
        }
    }

    fn name(&self) -> String {
        format!("environment variable {}", self.variable)
    }

    fn warning(&self) -> Option<String> {
        Some(
            "an environment variable cannot change while the process runs, and other programs of \
             the same user can read it: keep the ring in a file"
                .to_owned(),
        )
    }
}

/// Refuses an entry of a directory that others could put another file at, as [`FileKeys`] does; the
/// error is about `path`, which may be the name that the entry is to get.
#[cfg(feature = "cli")]
pub(crate) fn check_place(entry: &Path, path: &Path) -> Result<(), Error> {
    access::check_directory_of(entry).map_err(|fault| fault.into_error(path))
}

/// Why a source could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Refused(Cow<'static, str>),
    /// A link was moved to another version while this one was read.
    Moved,
}

impl Fault {
    fn into_error(self, place: &Path) -> Error {
        let path = place.display();
        match self {
            Self::Io(error) => refused(&format!("{path}: {}", advice(&error, place))),
            Self::Refused(reason) => refused(&format!("{path}: {reason}")),
            Self::Moved => refused(&format!(
                "{path}: it changed each time it was read: bring it out less often"
            )),
        }
    }

    /// The same about a file of a directory. One that is gone may be there at the next look.
    fn within(self, name: &OsStr) -> Self {
        let name = name.display();
        match self {
            Self::Io(error) if error.kind() != Io::NotFound => {
                Self::Refused(format!("{name}: {error}").into())
            }
            Self::Refused(reason) => Self::Refused(format!("{name}: {reason}").into()),
            fault => fault,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What went wrong with a path, and what to do about it.
fn advice(error: &io::Error, path: &Path) -> String {
    match error.kind() {
        Io::NotFound if path.is_relative() => {
            let here = env::current_dir().unwrap_or_default();
            format!(
                "not found in {}: give the whole path, or bring the file back, or make the first \
                 ring with sealed-session keys new",
                here.display()
            )
        }
        Io::NotFound => "not found: bring the file back, or make the first ring with \
                         sealed-session keys new"
            .to_owned(),
        Io::PermissionDenied => format!(
            "{error}: the user of this process has to be able to read it: chgrp, and chmod 640"
        ),
        _ => error.to_string(),
    }
}

const TOO_LONG: &str = "over 64 KiB of text: keep at most 16 keys";

/// Tries again where a link was moved between two looks at it.
fn steadily<T>(mut read: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    for _ in 0..2 {
        match read() {
            Err(Fault::Moved) => {}
            Err(Fault::Io(error)) if error.kind() == Io::NotFound => {}
            done => return done,
        }
    }
    read()
}

/// What a file held, and what could be safer about it.
struct Found {
    text: Zeroizing<String>,
    warning: Option<String>,
}

/// Reads a file whole.
fn read(path: &Path) -> Result<Found, Fault> {
    // Before it is opened, since opening a pipe waits for somebody to write into it.
    if !fs::metadata(path)?.is_file() {
        return Err(Fault::Refused("not a file: give the path of the file with the ring".into()));
    }
    access::check_directory_of(path)?;
    let file = File::open(path)?;
    let warning = access::check_file(&file)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_TEXT.saturating_add(2)));
    let limit = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_TEXT {
        return Err(Fault::Refused(TOO_LONG.into()));
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Found { text: Zeroizing::new(text), warning }),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let mut bytes = error.into_bytes();
            let ends = bytes.iter().take(good).filter(|byte| matches!(byte, b'\n' | b';')).count();
            bytes.zeroize();
            Err(Fault::Refused(
                format!("line {}: not UTF-8: copy the text again", ends.saturating_add(1)).into(),
            ))
        }
    }
}

fn set<T>(place: &Mutex<Option<T>>, value: Option<T>) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

fn get<T: Clone>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
