//! The OCI Distribution API, a file for each resource.

pub mod base;
pub mod blobs;
pub mod catalog;
pub mod manifests;
pub mod referrers;
pub mod tags;
pub mod uploads;

use actix_web::{
    HttpResponse,
    http::header::{HeaderValue, WARNING},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::warn;

use super::{
    Api,
    render::{OciError, warning},
};
use crate::{
    error::{Code, Error},
    registry::access::{Push, RepoAccess},
};

/// The digest of what an answer is about.
const CONTENT_DIGEST: &str = "Docker-Content-Digest";

/// What stays as it is in a query value: what RFC 3986, section 2.3 calls unreserved.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A path that does not exist.
pub async fn not_found() -> Result<HttpResponse, OciError> {
    Err(Error::from(Code::NotFound).into())
}

/// Warns the client of a push that quotas are nearly used up. The push is done, so it does not fail for that.
async fn with_warning(
    mut response: HttpResponse,
    access: &RepoAccess<Push>,
    api: &Api,
) -> HttpResponse {
    match api.registry.quota_warning(access).await {
        Ok(Some(text)) => {
            if let Ok(value) = HeaderValue::from_str(&warning(&text)) {
                response.headers_mut().insert(WARNING, value);
            }
        }
        Ok(None) => {}
        Err(error) => warn!(error = ?error, "nobody looked whether quotas are nearly used up"),
    }
    response
}

/// The `Link` to the next page: relative, so that it is right on every domain.
fn next_link(path: &str, parameters: &[(&str, &str)]) -> (&'static str, String) {
    let query: Vec<String> = parameters
        .iter()
        .map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, QUERY_VALUE)))
        .collect();
    (
        "Link",
        format!("<{path}?{}>; rel=\"next\"", query.join("&")),
    )
}
