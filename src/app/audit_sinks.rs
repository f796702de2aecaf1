//! The sinks of audit events that the configuration names.

use std::sync::Arc;

use crate::{
    audit::{
        AuditSink,
        lines::{FileSink, StdoutSink},
        rabbitmq::{RabbitMqSink, RabbitMqTarget},
    },
    config::AuditConfig,
};

/// Makes the configured sinks.
pub(super) fn audit_sinks(config: &AuditConfig) -> Vec<Arc<dyn AuditSink>> {
    let mut sinks: Vec<Arc<dyn AuditSink>> = Vec::new();
    if let Some(path) = &config.file {
        sinks.push(Arc::new(FileSink::new(path.clone())));
    }
    if config.stdout {
        sinks.push(Arc::new(StdoutSink));
    }
    if let Some(broker) = &config.rabbitmq {
        sinks.push(Arc::new(RabbitMqSink::new(RabbitMqTarget {
            url: broker.url.expose().to_owned(),
            queue: broker.queue.clone(),
            is_durable: broker.durable,
            observer: broker.observer.clone(),
        })));
    }
    sinks
}
