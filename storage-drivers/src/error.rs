//! What can go wrong in storage, told apart by what the caller should do about it.
//!
//! Messages are for the operator's log: they name folders and say what to do. They are not for clients.

use std::error::Error;
use std::io;
use std::path::Path;

use crate::ObjectKey;

/// The result of a storage call.
pub type StorageResult<T> = Result<T, StorageError>;

/// Why a storage call failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object.
    #[error("object {0} does not exist")]
    NotFound(ObjectKey),
    /// The name is taken; the object that has it was left as it is.
    #[error("object {0} exists already, and objects are never overwritten")]
    AlreadyExists(ObjectKey),
    /// The body was longer or shorter than announced. Of a longer one only the beginning was read.
    #[error("the body has {actual} bytes where {expected} were announced")]
    SizeMismatch {
        /// The announced length in bytes.
        expected: u64,
        /// The bytes seen before the write was given up.
        actual: u64,
    },
    /// The request body broke off: the client's fault, not the backend's.
    #[error("the request body broke off")]
    Body(#[source] io::Error),
    /// The range reaches beyond the object, or its end lies before its start.
    #[error("the range {start}..{end} does not lie within the {size_bytes} bytes of the object")]
    InvalidRange {
        /// First byte asked for.
        start: u64,
        /// First byte not asked for any more.
        end: u64,
        /// The size of the object.
        size_bytes: u64,
    },
    /// An account or auth tenant name that no driver accepts.
    #[error("{name:?} is not a valid {what}")]
    InvalidName {
        /// What it should be, such as an account name, and the rule for it.
        what: &'static str,
        /// The name as it was given.
        name: String,
    },
    /// The account has no container yet.
    #[error(
        "account {account} was not prepared on this storage backend; prepare it before writing"
    )]
    NotPrepared {
        /// The account's name.
        account: String,
    },
    /// The account's container belongs to another auth tenant.
    #[error(
        "the storage of account {account} belongs to another auth tenant; choose another account name, or have the owner release it"
    )]
    WrongTenant {
        /// The account's name.
        account: String,
    },
    /// What lies where the account's container should be was not made by a registry.
    #[error(
        "{place} exists already and was not made by this registry; remove it, or choose another account name or prefix"
    )]
    NotOurs {
        /// The folder, container or bucket.
        place: String,
    },
    /// The container may not grow: its owner or the operator has set a quota in the backend itself.
    #[error("the quota of {place} is used up; raise it in the storage backend or delete content")]
    Quota {
        /// The container or bucket.
        place: String,
    },
    /// The account's container still holds objects, or things that are not objects.
    #[error("the storage of account {account} is not empty; delete what is in it first")]
    NotEmpty {
        /// The account's name.
        account: String,
    },
    /// No space or quota left.
    #[error("the disk or quota is full; free space in {place}")]
    Full {
        /// The folder or container.
        place: String,
    },
    /// The storage cannot be written to at present.
    #[error(
        "{place} is mounted read-only; look for disk errors in the kernel log and mount it writable"
    )]
    ReadOnly {
        /// The folder or container.
        place: String,
    },
    /// Everything else.
    #[error("the storage backend failed")]
    Backend {
        /// Whether the same call may well succeed a little later.
        temporary: bool,
        /// What the backend said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// An I/O error with the place it happened at and, where there is one, a remedy.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {hint}{source}")]
struct PlacedError {
    place: String,
    hint: &'static str,
    source: io::Error,
}

// Too many open files in the process and in the system. `ErrorKind` has no names for them; the numbers are
// the same on Linux, the BSDs and macOS.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

impl StorageError {
    /// Whether the same call may succeed later without anything being changed in the request: the caller
    /// answers 503 with `Retry-After`.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Full { .. } | Self::ReadOnly { .. } => true,
            Self::Backend { temporary, .. } => *temporary,
            _ => false,
        }
    }

    /// The kind of error as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::AlreadyExists(_) => "already_exists",
            Self::SizeMismatch { .. } => "size_mismatch",
            Self::Body(_) => "body",
            Self::InvalidRange { .. } => "invalid_range",
            Self::InvalidName { .. } => "invalid_name",
            Self::NotPrepared { .. } => "not_prepared",
            Self::WrongTenant { .. } => "wrong_tenant",
            Self::NotEmpty { .. } => "not_empty",
            Self::NotOurs { .. } => "not_ours",
            Self::Quota { .. } => "quota",
            Self::Full { .. } => "full",
            Self::ReadOnly { .. } => "read_only",
            Self::Backend {
                temporary: true, ..
            } => "temporary",
            Self::Backend {
                temporary: false, ..
            } => "failed",
        }
    }

    /// A failure of the backend that may pass by itself.
    pub fn temporary(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Backend {
            temporary: true,
            source: source.into(),
        }
    }

    /// A failure of the backend that needs somebody's attention.
    pub fn permanent(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Backend {
            temporary: false,
            source: source.into(),
        }
    }

    /// Sorts an I/O error at `place`. Errors with a meaning of their own at the call (a missing or an existing
    /// file) must be taken out before.
    pub(crate) fn from_io(source: io::Error, place: &Path) -> Self {
        use io::ErrorKind as Kind;
        let place = place.display().to_string();
        match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => return Self::Full { place },
            Kind::ReadOnlyFilesystem => return Self::ReadOnly { place },
            _ => {}
        }
        let is_out_of_files = matches!(source.raw_os_error(), Some(EMFILE | ENFILE));
        let hint = match source.kind() {
            Kind::PermissionDenied => "the server's user must own this folder and all in it: ",
            _ if is_out_of_files => "raise the limit on open files (ulimit -n): ",
            _ => "",
        };
        // A plain I/O error of a disk (EIO) is not in this list: asking again does not repair a disk.
        let temporary = is_out_of_files
            || matches!(
                source.kind(),
                Kind::Interrupted
                    | Kind::WouldBlock
                    | Kind::TimedOut
                    | Kind::ResourceBusy
                    | Kind::OutOfMemory
                    | Kind::StaleNetworkFileHandle
                    | Kind::HostUnreachable
                    | Kind::NetworkUnreachable
                    | Kind::NetworkDown
                    | Kind::NotConnected
                    | Kind::ConnectionReset
                    | Kind::ConnectionAborted
            );
        Self::Backend {
            temporary,
            source: Box::new(PlacedError {
                place,
                hint,
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(errno: i32) -> StorageError {
        StorageError::from_io(io::Error::from_raw_os_error(errno), Path::new("/data"))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn errno_decides_what_the_caller_does() {
        let cases = [
            (28, "full", true),       // ENOSPC
            (122, "full", true),      // EDQUOT
            (30, "read_only", true),  // EROFS
            (24, "temporary", true),  // EMFILE
            (23, "temporary", true),  // ENFILE
            (116, "temporary", true), // ESTALE
            (13, "failed", false),    // EACCES
            (5, "failed", false),     // EIO
            (27, "failed", false),    // EFBIG
        ];
        for (errno, label, is_temporary) in cases {
            let error = sorted(errno);
            assert_eq!(
                (error.label(), error.is_temporary()),
                (label, is_temporary),
                "errno {errno}"
            );
        }
    }

    #[test]
    fn messages_name_the_place_and_the_remedy() {
        assert_eq!(
            sorted(28).to_string(),
            "the disk or quota is full; free space in /data"
        );
        let denied = sorted(13);
        let source = denied.source().map(ToString::to_string).unwrap_or_default();
        assert!(
            source.starts_with("/data: the server's user must own this folder"),
            "{source}"
        );
    }
}
