//! The one error type of the use cases, and the one table of codes that clients see.
//!
//! `message` and `detail` are for the client, `source` is for the log: nothing of a database or a
//! storage backend ever reaches a client. Rendering lives in `api/render.rs`. A newcomer will want to
//! turn "no row" into 404 by `From`; that would make every bug look like a missing image, so only
//! the use case that knows what is missing says so.

use std::{borrow::Cow, error::Error as StdError, fmt};

use serde_json::Value;
use storage_drivers::StorageError;

/// What the use cases return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

macro_rules! codes {
    ($($name:ident, $wire:literal, $status:literal, $message:literal;)*) => {
        /// What went wrong, as a client may know it.
        ///
        /// The wire names that the OCI Distribution Specification 1.1 lists under "Error Codes" mean what
        /// they mean there; the others are this registry's own, as the section allows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $message] $name,)*
        }

        impl Code {
            /// Every code, for documents and tests.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The `code` member of the JSON body.
            pub fn wire_name(self) -> &'static str {
                match self { $(Code::$name => $wire,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// What a client is told unless the place of the error knows more.
            pub fn default_message(self) -> &'static str {
                match self { $(Code::$name => $message,)* }
            }
        }
    };
}

codes! {
    BlobUnknown, "BLOB_UNKNOWN", 404, "the blob is not known in this repository";
    BlobUploadInvalid, "BLOB_UPLOAD_INVALID", 400, "the blob upload cannot go on";
    BlobUploadUnknown, "BLOB_UPLOAD_UNKNOWN", 404, "the blob upload is not known in this repository";
    DigestInvalid, "DIGEST_INVALID", 400, "the digest does not match the content";
    ManifestBlobUnknown, "MANIFEST_BLOB_UNKNOWN", 400, "the manifest refers to content that is not in this repository";
    ManifestInvalid, "MANIFEST_INVALID", 400, "the manifest is not valid";
    ManifestTooLarge, "MANIFEST_INVALID", 413, "the manifest is too large";
    ManifestUnknown, "MANIFEST_UNKNOWN", 404, "the manifest is not known in this repository";
    NameInvalid, "NAME_INVALID", 400, "the repository name is not valid";
    NameUnknown, "NAME_UNKNOWN", 404, "the repository is not known";
    RangeInvalid, "BLOB_UPLOAD_INVALID", 416, "the range does not follow the bytes that are there";
    RangeNotSatisfiable, "UNSUPPORTED", 416, "the range lies outside the content";
    SizeInvalid, "SIZE_INVALID", 400, "the length does not match the content";
    TagInvalid, "TAG_INVALID", 400, "the tag is not valid";
    Unauthorized, "UNAUTHORIZED", 401, "authentication is required";
    Denied, "DENIED", 403, "the access is denied";
    InUse, "DENIED", 409, "the content is in use";
    Unsupported, "UNSUPPORTED", 405, "the operation is not supported";
    TooManyRequests, "TOOMANYREQUESTS", 429, "too many requests";
    BadRequest, "BAD_REQUEST", 400, "the request is not valid";
    InvalidField, "INVALID_FIELD", 422, "a member of the document cannot be accepted";
    NotFound, "NOT_FOUND", 404, "there is nothing here";
    PreconditionFailed, "PRECONDITION_FAILED", 412, "the condition of the request is not met";
    Conflict, "CONFLICT", 409, "the request conflicts with what is there";
    RequestTimeout, "REQUEST_TIMEOUT", 408, "the request body arrived too slowly";
    PayloadTooLarge, "SIZE_INVALID", 413, "the request body is too large";
    Unavailable, "UNAVAILABLE", 503, "the registry cannot do this at the moment; try again";
    Swept, "UNAVAILABLE", 503, "the content was taken away before it was stored; push it again";
    Internal, "UNKNOWN", 500, "the registry failed; the request id leads to the reason in its log";
}

/// An error on its way to a client.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: Cow<'static, str>,
    detail: Option<Value>,
    field_path: Option<String>,
    headers: Vec<(&'static str, String)>,
    source: Option<Source>,
    is_denial: bool,
}

/// Seconds after which a client may try again when the registry says 503.
const RETRY_AFTER_SECONDS: u32 = 5;

impl Error {
    /// An error with the code's own message.
    pub fn new(code: Code) -> Self {
        Self::with_message(code, code.default_message())
    }

    /// An error whose message says more than the code's own.
    pub fn with_message(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let headers = match code {
            Code::Unavailable | Code::Swept => {
                vec![("Retry-After", RETRY_AFTER_SECONDS.to_string())]
            }
            _ => Vec::new(),
        };
        Self(Box::new(Inner {
            code,
            message: message.into(),
            detail: None,
            field_path: None,
            headers,
            source: None,
            is_denial: code == Code::Denied,
        }))
    }

    /// A member of a document that cannot be accepted; `path` as serde writes it: `rbac_policies[0].match_cidr`, or
    /// nothing for the document itself.
    pub fn field(path: &str, reason: impl fmt::Display) -> Self {
        let is_whole = matches!(path, "" | ".");
        let message = if is_whole {
            reason.to_string()
        } else {
            format!("{path}: {reason}")
        };
        let mut error = Self::with_message(Code::InvalidField, message);
        error.0.field_path = Some(match path {
            _ if is_whole => "$".to_owned(),
            path if path.starts_with('[') => format!("${path}"),
            path => format!("$.{path}"),
        });
        error
    }

    /// A failure that the client can do nothing about; `source` goes to the log only.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::new(Code::Internal).caused_by(source)
    }

    /// A failure that passes; `source` goes to the log only.
    pub fn unavailable(source: impl Into<Source>) -> Self {
        Self::new(Code::Unavailable).caused_by(source)
    }

    /// Adds what the log needs to know.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the `detail` member of the JSON body.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        self.0.detail = Some(detail);
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// Marks a refusal that does not look like one: the audit trail tells it, the client is not told.
    #[must_use]
    pub fn as_denial(mut self) -> Self {
        self.0.is_denial = true;
        self
    }

    /// Whether the caller was not allowed to do this, whatever the code says.
    pub fn is_denial(&self) -> bool {
        self.0.is_denial
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The text for the client.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The `detail` member of the JSON body.
    pub fn detail(&self) -> Option<&Value> {
        self.0.detail.as_ref()
    }

    /// The member of the client's document that is wrong, as a JSONPath (RFC 9535).
    pub fn field_path(&self) -> Option<&str> {
        self.0.field_path.as_deref()
    }

    /// Response headers that belong to the error, such as `Retry-After`.
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.0.headers
    }

    /// The chain of causes as one line, for the log.
    pub fn causes(&self) -> Option<String> {
        let mut next: Option<&(dyn StdError + 'static)> =
            self.0.source.as_deref().map(|source| source as _);
        let mut line = String::new();
        while let Some(cause) = next {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause.to_string());
            next = cause.source();
        }
        (!line.is_empty()).then_some(line)
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

/// A storage failure is either the client's broken body, a passing outage or a bug; never a 404.
impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match &error {
            StorageError::SizeMismatch { expected, actual } => Self::with_message(
                Code::SizeInvalid,
                format!("the request announced {expected} bytes and brought {actual}"),
            ),
            StorageError::Body(cause) if cause.kind() == std::io::ErrorKind::TimedOut => {
                Self::new(Code::RequestTimeout).caused_by(error)
            }
            StorageError::Body(cause) if cause.kind() == std::io::ErrorKind::FileTooLarge => {
                Self::new(Code::PayloadTooLarge)
            }
            StorageError::Quota { .. } => Self::with_message(
                Code::Denied,
                "the quota of the account's storage is used up; delete content, or have the quota raised",
            )
            .caused_by(error),
            StorageError::Body(_) => {
                Self::with_message(Code::SizeInvalid, "the request body broke off").caused_by(error)
            }
            // The account has moved away since this request began.
            StorageError::NotPrepared { .. } => Self::unavailable(error),
            _ if error.is_temporary() => Self::unavailable(error),
            _ => Self::internal(error),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_never_sees_the_source() {
        let error = Error::internal("password=hunter2");
        assert!(!error.to_string().contains("hunter2"));
        assert_eq!(error.causes().as_deref(), Some("password=hunter2"));
    }

    #[test]
    fn unavailable_says_when_to_come_back() {
        let error = Error::unavailable("the disk is full");
        assert_eq!(error.code().status(), 503);
        assert_eq!(error.headers(), [("Retry-After", "5".to_owned())]);
    }

    #[test]
    fn every_code_has_an_error_status() {
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()), "{code:?}");
        }
    }
}
