//! The sinks of audit events that the configuration names.

use std::sync::Arc;

use crate::{
    audit::{
        AuditSink,
        lines::{FileSink, StdoutSink},
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
    sinks
}
