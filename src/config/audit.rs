//! The audit trail: how long it is kept, and where it goes besides the database.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use storage_drivers::Secret;

use super::ConfigError;

/// The audit trail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// After how many days events are removed from the database, once all sinks have them; 0 keeps them for ever.
    pub keep_days: u32,
    /// A file that gets every event as a JSON line.
    pub file: Option<PathBuf>,
    /// Whether standard output gets every event as a JSON line.
    pub stdout: bool,
    /// A message broker that gets every event as CADF.
    pub rabbitmq: Option<RabbitMqConfig>,
}

/// A RabbitMQ broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RabbitMqConfig {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` with TLS.
    pub url: Secret,
    /// The queue; `notifications.info` is what audit services of OpenStack read.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// Whether the queue outlives the broker. Who declares a queue that exists must say the same as who made it.
    #[serde(default = "default_durable")]
    pub durable: bool,
    /// Names this registry among others in the events.
    #[serde(default = "default_observer")]
    pub observer: String,
}

fn default_queue() -> String {
    "notifications.info".to_owned()
}

fn default_durable() -> bool {
    true
}

fn default_observer() -> String {
    "kontor".to_owned()
}

impl AuditConfig {
    /// How long events are kept, if not for ever.
    pub fn keep(&self) -> Option<Duration> {
        let seconds = u64::from(self.keep_days) * 86_400;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.keep_days > 36_500 {
            return Err(ConfigError::invalid(
                "audit.keep_days",
                "at most 100 years: 36500",
            ));
        }
        if self
            .file
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            return Err(ConfigError::invalid(
                "audit.file",
                "it must be the path of a file",
            ));
        }
        if let Some(broker) = &self.rabbitmq {
            let url = broker.url.expose();
            if !["amqp://", "amqps://"].iter().any(|s| url.starts_with(s)) {
                let why = "it must begin with amqp:// or amqps://";
                return Err(ConfigError::invalid("audit.rabbitmq.url", why));
            }
            if !(1..=255).contains(&broker.queue.len()) {
                let why = "it must have 1 to 255 bytes";
                return Err(ConfigError::invalid("audit.rabbitmq.queue", why));
            }
        }
        Ok(())
    }
}
