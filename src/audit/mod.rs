//! Where audit events go besides the database: files, standard output, a message broker.
//!
//! A sink takes sealed events in the order of the chain and says when they are safe; `registry/audit_delivery.rs`
//! keeps how far each has got, and delivers again what was not confirmed. So a sink gets each event at least once, and
//! may get it twice.

pub mod cadf;
pub mod lines;
pub mod rabbitmq;

use std::{error::Error, fmt};

use async_trait::async_trait;

use crate::model::audit::SealedEvent;

/// Why a sink did not take events.
pub type SinkError = Box<dyn Error + Send + Sync>;

/// Events for a sink, in the order of the chain.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The events.
    pub events: Vec<SealedEvent>,
    /// What was signed about them.
    pub heads: Vec<String>,
}

/// Takes audit events.
#[async_trait]
pub trait AuditSink: fmt::Debug + Send + Sync + 'static {
    /// The name under which it is kept how far the sink has got.
    fn name(&self) -> &str;

    /// Takes events; once it returns, none of them can be lost any more.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), SinkError>;
}
