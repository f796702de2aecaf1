//! What the server said, without what must not be logged, and what the caller should make of it.
//!
//! Every failure of a request passes through here, that of OpenDAL's requests too: its own errors hold whole
//! addresses and answers, and so must never reach a log.
//!
//! What a newcomer will get wrong: S3 puts the meaning into a code in the body, and servers differ in the status
//! they send with it; and an answer to HEAD has no body, so there the status is all.

use std::error::Error;
use std::fmt;

use opendal::ErrorKind;

use crate::{StorageError, StorageResult};

/// The longest message of a server that is passed on, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

/// A request that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The status of the answer, if there was one.
    pub(super) status: Option<u16>,
    /// The code in the answer, such as `NoSuchKey`; empty if there is none.
    pub(super) code: String,
    message: String,
    /// Whether the answer did not come in time.
    pub(super) is_timeout: bool,
    /// Whether there was no answer because the connection failed.
    is_unreachable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            None => f.write_str(&self.message),
            Some(status) => {
                write!(f, "the server answered {status}")?;
                if !self.code.is_empty() {
                    write!(f, " {}", self.code)?;
                }
                if !self.message.is_empty() {
                    write!(f, " ({})", self.message)?;
                }
                Ok(())
            }
        }
    }
}

impl Error for Failure {}

/// The text of the first element called `tag`. Enough for the answers of S3, which have no attributes there.
pub(super) fn xml_text<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(text.trim())
}

/// Undoes the escapes that XML has a name for.
pub(super) fn xml_unescaped(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

fn shortened(message: &str) -> String {
    message
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_MESSAGE_CHARS)
        .collect()
}

impl Failure {
    /// From an answer that is no success.
    pub(super) fn of_answer(status: u16, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let code = xml_text(&body, "Code").map(shortened).unwrap_or_default();
        let mut failure = Self {
            status: Some(status),
            message: String::new(),
            is_timeout: false,
            is_unreachable: false,
            code,
        };
        // What a server says about a bad signature may repeat the request.
        if !failure.is_bad_credential() {
            failure.message = xml_text(&body, "Message")
                .map(shortened)
                .unwrap_or_default();
        }
        failure
    }

    fn silent(message: String) -> Self {
        Self {
            status: None,
            code: String::new(),
            message,
            is_timeout: false,
            is_unreachable: false,
        }
    }

    /// Something that cannot succeed until somebody changes something here.
    pub(super) fn local(message: &str) -> Self {
        Self::silent(shortened(message))
    }

    /// There was no connection, or it broke.
    pub(super) fn unreachable(source: &dyn Error) -> Self {
        let mut message = "the server cannot be reached".to_owned();
        let mut source = Some(source);
        while let Some(error) = source {
            message = format!("{message}: {error}");
            source = error.source();
        }
        Self {
            is_unreachable: true,
            ..Self::silent(shortened(&message))
        }
    }

    /// Nothing came for too long.
    pub(super) fn timeout() -> Self {
        Self {
            is_timeout: true,
            ..Self::silent("the server did not answer in time".to_owned())
        }
    }

    pub(super) fn is_bad_credential(&self) -> bool {
        matches!(
            self.code.as_str(),
            "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "ExpiredToken"
                | "InvalidSecurity"
                | "RequestTimeTooSkewed"
                | "NotSignedUp"
                | "AccountProblem"
        )
    }

    /// The bucket is not there. An answer to HEAD cannot tell a bucket from an object.
    pub(super) fn is_bucket_missing(&self) -> bool {
        self.code == "NoSuchBucket"
    }

    /// The object, or the bucket it would be in, is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.status == Some(404)
    }

    /// The condition of a write did not hold: the object is there.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == Some(412)
            || matches!(
                self.code.as_str(),
                "PreconditionFailed" | "ConditionalRequestConflict"
            )
    }

    /// The range lies beyond the object.
    pub(super) fn is_range(&self) -> bool {
        self.status == Some(416) || self.code == "InvalidRange"
    }

    /// Whether the same request may well succeed later.
    pub(super) fn is_temporary(&self) -> bool {
        if self.is_timeout || self.is_unreachable {
            return true;
        }
        match self.code.as_str() {
            "SlowDown"
            | "RequestTimeout"
            | "InternalError"
            | "OperationAborted"
            | "ServiceUnavailable"
            | "TooManyRequests"
            | "RequestLimitExceeded" => true,
            "NotImplemented" => false,
            _ => matches!(self.status, Some(408 | 425 | 429 | 499 | 500 | 502..=504)),
        }
    }

    /// Whether sending it again at once makes sense. After a timeout it would only double the wait.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        self.is_temporary() && !self.is_timeout
    }

    fn hint(&self) -> &'static str {
        match (self.code.as_str(), self.status) {
            ("RequestTimeTooSkewed", _) => "set the clock of this machine: ",
            ("ExpiredToken", _) => "the session token has expired; renew it, or use a role: ",
            _ if self.is_bad_credential() => {
                "the server does not take the key; check access_key_id, secret_access_key and session_token: "
            }
            (
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "TemporaryRedirect"
                | "IllegalLocationConstraintException"
                | "InvalidLocationConstraint",
                _,
            )
            | (_, Some(301 | 302 | 307 | 308)) => "check region and endpoint: ",
            ("TooManyBuckets", _) => {
                "the server allows no more buckets; raise its limit or use one shared bucket: "
            }
            ("NoSuchBucket", _) => {
                "make the bucket; only an account's own is made by create_buckets: "
            }
            ("NotImplemented", _) | (_, Some(501)) => {
                "the server lacks a feature; conditional_writes = false, no checksum_algorithm and no server_side_encryption ask less of it: "
            }
            ("AccessDenied" | "AllAccessDisabled", _) | (_, Some(401 | 403)) => {
                "the key lacks a permission; docs/drivers/storage-s3.md lists those it needs: "
            }
            _ => "",
        }
    }

    /// What the caller should know. `bucket` is the place that is named.
    pub(super) fn at(self, bucket: &str) -> StorageError {
        let place = format!("bucket {bucket}");
        match (self.code.as_str(), self.status) {
            // Nothing that is sent is longer than S3 takes, so that a server which says so means a quota.
            ("QuotaExceeded" | "EntityTooLarge" | "XMinioAdminBucketQuotaExceeded", _)
            | (_, Some(413)) => StorageError::Quota { place },
            ("InsufficientStorage" | "InsufficientCapacity" | "XMinioStorageFull", _)
            | (_, Some(507)) => StorageError::Full { place },
            _ => StorageError::Backend {
                temporary: self.is_temporary(),
                source: Box::new(PlacedFailure {
                    place,
                    failure: self,
                }),
            },
        }
    }
}

/// A failure with the bucket it happened at and, where there is one, a remedy.
#[derive(Debug)]
struct PlacedFailure {
    place: String,
    failure: Failure,
}

impl fmt::Display for PlacedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.place, self.failure.hint(), self.failure)
    }
}

impl Error for PlacedFailure {}

/// For OpenDAL, which acts on the kind, and gives the failure back within its own error.
impl From<Failure> for opendal::Error {
    fn from(failure: Failure) -> Self {
        let kind = if failure.is_missing() && !failure.is_bucket_missing() {
            ErrorKind::NotFound
        } else if failure.is_conflict() {
            ErrorKind::ConditionNotMatch
        } else if failure.is_range() {
            ErrorKind::RangeNotSatisfied
        } else {
            ErrorKind::Unexpected
        };
        Self::new(kind, "the request failed")
            .with_temporary(failure.is_temporary())
            .set_source(failure)
    }
}

impl From<opendal::Error> for Failure {
    fn from(error: opendal::Error) -> Self {
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(failure) = inner.downcast_ref::<Self>() {
                return failure.clone();
            }
            if let Some(signing) = inner.downcast_ref::<reqsign_core::Error>() {
                return signing_failed(signing);
            }
            source = inner.source();
        }
        // An error within an answer of status 200, which completing an upload can have.
        let code = error
            .message()
            .split_once("code: \"")
            .and_then(|(_, rest)| rest.split_once('"'));
        if let Some((code, _)) = code {
            let status = if error.is_temporary() { 500 } else { 400 };
            return Self {
                status: Some(status),
                code: shortened(code),
                ..Self::silent(String::new())
            };
        }
        // Only what OpenDAL says in its own words; its context has addresses.
        Self {
            is_unreachable: error.is_temporary(),
            ..Self::silent(format!("{}: {}", error.kind(), shortened(error.message())))
        }
    }
}

/// A request that could not be signed, most often because there are no credentials.
pub(super) fn signing_failed(error: &reqsign_core::Error) -> Failure {
    Failure {
        is_unreachable: error.is_retryable(),
        ..Failure::local(&format!(
            "the request could not be signed; check the credentials: {error}"
        ))
    }
}

/// Puts the place to a failure.
pub(super) trait At<T> {
    /// As [`Failure::at`].
    fn at(self, bucket: &str) -> StorageResult<T>;
}

impl<T, F: Into<Failure>> At<T> for Result<T, F> {
    fn at(self, bucket: &str) -> StorageResult<T> {
        self.map_err(|failure| failure.into().at(bucket))
    }
}
