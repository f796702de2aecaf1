//! What a node that is about to stop tells those that send it requests.
//!
//! A proxy learns from its health checks that a node goes, so it needs some time in which the node answers as ever
//! and says no to the checks. A client with an open connection learns it from `Connection: close`: it sends the next
//! request over another connection. Without either, a request may be on its way to a socket that is closed just then.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{
    Error as ActixError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::ConnectionType,
    middleware::Next,
    web,
};

use super::Api;

/// Whether this node is about to stop.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<AtomicBool>);

impl Drain {
    /// From now on it is.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The middleware that ends connections with their next answer when the node is about to stop.
pub async fn close_when_draining(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, ActixError> {
    let api = request.app_data::<web::Data<Api>>().cloned();
    let mut response = next.call(request).await?;
    if api.is_some_and(|api| api.drain.has_begun()) {
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}
