//! Which bucket and which folder in it an account has.
//!
//! What a newcomer will get wrong: a bucket's name becomes part of the host's name, or is taken for it, so that
//! a name may be unfit even though S3 would take it (see [`is_host_prefix`]).

use url::Url;

use super::S3Config;
use crate::names::tenant_check;
use crate::{StorageError, StorageResult, Tenant};

/// What stands for the account's name in the name of a bucket.
const ACCOUNT: &str = "{account}";
/// Endings that S3 reserves for buckets of other kinds.
const RESERVED_ENDINGS: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];
/// Beginnings that S3 reserves.
const RESERVED_BEGINNINGS: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];

/// Where the objects of an account lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) bucket: String,
    /// Empty, or the folder with its closing slash.
    pub(super) folder: String,
    pub(super) account: String,
}

impl Container {
    /// As errors name it.
    pub(super) fn place(&self) -> String {
        if self.folder.is_empty() {
            format!("bucket {}", self.bucket)
        } else {
            format!("folder {} of bucket {}", self.folder, self.bucket)
        }
    }
}

/// How accounts are spread over buckets.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    bucket: String,
    prefix: String,
    hosts: Vec<String>,
}

fn refused<T>(message: String) -> StorageResult<T> {
    Err(StorageError::permanent(message))
}

impl Layout {
    /// Errors: a name that cannot be, with what to write instead.
    pub(super) fn new(config: &S3Config, endpoints: &[&Url]) -> StorageResult<Self> {
        let layout = Self {
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            hosts: endpoints
                .iter()
                .filter_map(|url| url.host_str().map(str::to_owned))
                .collect(),
        };
        if layout.bucket.matches(ACCOUNT).count() > 1 {
            return refused(format!(
                "bucket = {:?} names the account twice; write {ACCOUNT} once, as in \"kontor-{ACCOUNT}\"",
                layout.bucket
            ));
        }
        let sample = layout.bucket.replace(ACCOUNT, "abc");
        if !layout.takes(&sample) {
            return refused(format!(
                "bucket = {:?} makes no valid name; write 3 to 63 of a-z, 0-9, '-' and '.', as in \"kontor-{ACCOUNT}\" for a bucket per account or \"kontor\" for a shared one",
                layout.bucket
            ));
        }
        if !layout.is_shared() && !layout.prefix.is_empty() {
            return refused(format!(
                "prefix = {:?} is for a shared bucket; leave it out, or {ACCOUNT} out of bucket",
                layout.prefix
            ));
        }
        if !is_prefix(&layout.prefix) {
            return refused(format!(
                "prefix = {:?} makes no valid folder; write letters, digits, '-', '_', '.' and single slashes, as in \"registry/\"",
                layout.prefix
            ));
        }
        Ok(layout)
    }

    /// Whether all accounts share one bucket.
    pub(super) fn is_shared(&self) -> bool {
        !self.bucket.contains(ACCOUNT)
    }

    /// The shared bucket, or the template.
    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    fn takes(&self, bucket: &str) -> bool {
        is_bucket(bucket) && !self.hosts.iter().any(|host| is_host_prefix(bucket, host))
    }

    /// Where an account lies. Errors: `InvalidName`.
    pub(super) fn container(&self, tenant: &Tenant) -> StorageResult<Container> {
        tenant_check(tenant)?;
        let account = tenant.account.clone();
        if self.is_shared() {
            return Ok(Container {
                bucket: self.bucket.clone(),
                folder: format!("{}{account}/", self.prefix),
                account,
            });
        }
        let bucket = self.bucket.replace(ACCOUNT, &account);
        if self.takes(&bucket) {
            return Ok(Container {
                bucket,
                folder: String::new(),
                account,
            });
        }
        Err(StorageError::InvalidName {
            what: "bucket name: 3 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit, and no reserved name; choose another account name, or shorten `bucket`",
            name: bucket,
        })
    }
}

/// Whether S3 takes `name` for a bucket.
fn is_bucket(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (3..=63).contains(&bytes.len())
        && bytes.first().is_some_and(is_plain)
        && bytes.last().is_some_and(is_plain)
        && bytes
            .iter()
            .all(|b| is_plain(b) || *b == b'-' || *b == b'.')
        && !["..", ".-", "-."].iter().any(|pair| name.contains(pair))
        && name.parse::<std::net::Ipv4Addr>().is_err()
        && !RESERVED_BEGINNINGS.iter().any(|s| name.starts_with(s))
        && !RESERVED_ENDINGS.iter().any(|s| name.ends_with(s))
}

/// Whether the host's name begins with that of the bucket. OpenDAL takes that for an address with the bucket in
/// it and cuts it off, and so would send the account's requests to another host.
fn is_host_prefix(bucket: &str, host: &str) -> bool {
    host.strip_prefix(bucket)
        .is_some_and(|rest| rest.starts_with('.'))
}

fn is_prefix(prefix: &str) -> bool {
    prefix
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        && !prefix.starts_with('/')
        && !prefix.contains("//")
        && !prefix.split('/').any(|s| s == "." || s == "..")
        && prefix.len() <= 256
}
