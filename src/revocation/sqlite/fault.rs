//! What goes wrong, and what to do about it.

use std::io::{self, ErrorKind as Io};

use rusqlite::ErrorCode;

use crate::error::Error;

/// What went wrong.
pub(super) enum Fault {
    Io(io::Error),
    Sqlite(rusqlite::Error),
    /// Never works until somebody does what this says.
    Refused(String),
    /// The tables are not what they have to be.
    Shape,
    Failed(&'static str),
    Other(Error),
}

impl Fault {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.code() == Some(ErrorCode::DatabaseBusy)
    }

    pub(super) fn into_error(self, log: &str) -> Error {
        let config = |advice: &str| Error::config(format!("{log}: {advice}"));
        let code = self.code();
        match self {
            Self::Other(error) => error.at(log),
            Self::Refused(reason) => config(&reason),
            Self::Failed(reason) => Error::backend(reason).at(log),
            Self::Shape => config(SHAPE),
            Self::Io(error) => match error.kind() {
                Io::NotFound => {
                    config("no such file or directory: make the directory, or give another path")
                }
                Io::PermissionDenied | Io::ReadOnlyFilesystem => {
                    config(&format!("{error}: {RIGHTS}"))
                }
                _ => Error::backend(error).at(log),
            },
            Self::Sqlite(error) => match (code, &error) {
                (Some(ErrorCode::NotADatabase), _) => config(
                    "this is no SQLite database: give another path, or move the file away if it is \
                     damaged",
                ),
                (Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied), _) => {
                    config(&format!("{error}: {RIGHTS}"))
                }
                (Some(ErrorCode::Unknown), _)
                | (
                    None,
                    rusqlite::Error::SqlInputError { .. }
                    | rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..),
                ) => config(&format!("{error}: {SHAPE}")),
                (Some(ErrorCode::CannotOpen), _) => {
                    Error::backend(error).at(&format!("{log}: {RIGHTS}"))
                }
                (Some(ErrorCode::DatabaseBusy), _) => Error::backend(error)
                    .at(&format!("{log}: another process held its lock for too long")),
                (Some(ErrorCode::DatabaseCorrupt), _) => Error::backend(error).at(&format!(
                    "{log}: the file is damaged: move it and the two files beside it away, and the \
                     servers that run write what they know into a new one"
                )),
                _ => Error::backend(error).at(log),
            },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

const RIGHTS: &str = "the user of this process has to be able to write the file, the two beside it \
                      and their directory";
const SHAPE: &str = "the tables of this database are not as they have to be: give another path, one \
                     at which no file is yet";
