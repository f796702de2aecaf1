//! Where a request comes from: what the audit trail and the policies need to know of it.

use std::net::IpAddr;

/// Where a request comes from.
#[derive(Debug, Clone, Default)]
pub struct RequestOrigin {
    /// The name of the request in the log, which the client sees as `X-Request-Id`.
    pub request_id: String,
    /// The client's address, as far as proxies can be believed.
    pub client: Option<IpAddr>,
    /// What the client says it is (RFC 9110, section 10.1.5).
    pub user_agent: Option<String>,
}
