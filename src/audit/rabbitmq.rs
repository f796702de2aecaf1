//! Audit events for a RabbitMQ queue, as CADF, with publisher confirms.
//!
//! The queue is what audit services of OpenStack clouds read from: the default exchange, with the queue's name as the
//! routing key. What a newcomer gets wrong: a message that was sent is not safe yet. It is when the broker has
//! confirmed it; and a confirmed message that no queue took is lost, so each is sent as mandatory.

use std::fmt;

use async_trait::async_trait;
use futures::future::try_join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::sync::Mutex;

use super::{AuditSink, Delivery, SinkError, cadf::cadf};
use crate::model::audit::{AuditEvent, SealedEvent};

/// A message that the broker keeps on disk (AMQP 0-9-1, `delivery-mode`).
const PERSISTENT: u8 = 2;

/// Where the messages go.
#[derive(Clone)]
pub struct RabbitMqTarget {
    /// `amqp://` or `amqps://`, with the password.
    pub url: String,
    /// The queue.
    pub queue: String,
    /// Whether the queue outlives the broker; as whoever declared it first has said.
    pub is_durable: bool,
    /// Names this registry among other observers.
    pub observer: String,
}

/// A queue of a RabbitMQ broker.
pub struct RabbitMqSink {
    target: RabbitMqTarget,
    open: Mutex<Option<Link>>,
}

struct Link {
    channel: Channel,
    /// The channel lives as long as this does.
    connection: Connection,
}

impl fmt::Debug for RabbitMqSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RabbitMqSink");
        shown
            .field("queue", &self.target.queue)
            .finish_non_exhaustive()
    }
}

impl RabbitMqSink {
    /// Sends there; a connection is made when it is first needed.
    pub fn new(target: RabbitMqTarget) -> Self {
        Self {
            target,
            open: Mutex::default(),
        }
    }

    async fn connect(&self) -> Result<Link, SinkError> {
        let target = &self.target;
        let connection = Connection::connect(&target.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions {
            durable: target.is_durable,
            ..QueueDeclareOptions::default()
        };
        let queue = target.queue.as_str().into();
        channel
            .queue_declare(queue, options, FieldTable::default())
            .await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Link {
            channel,
            connection,
        })
    }

    async fn publish(&self, link: &Link, sealed: &SealedEvent) -> Result<(), SinkError> {
        let event: AuditEvent = serde_json::from_str(&sealed.event)?;
        let message = serde_json::to_vec(&cadf(&event, &self.target.observer))?;
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(event.id.to_string().into())
            .with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let queue = self.target.queue.as_str().into();
        let sent = link
            .channel
            .basic_publish("".into(), queue, options, &message, properties)
            .await?;
        match sent.await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err("the queue is gone".into()),
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                Err("the broker did not take an event".into())
            }
        }
    }
}

#[async_trait]
impl AuditSink for RabbitMqSink {
    fn name(&self) -> &str {
        "rabbitmq"
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<(), SinkError> {
        let mut open = self.open.lock().await;
        // Taken out: after an error, or when it is cut off, the next delivery makes a new one.
        let link = match open
            .take()
            .filter(|link| link.connection.status().connected())
        {
            Some(link) => link,
            None => self.connect().await?,
        };
        let events = delivery.events.iter();
        try_join_all(events.map(|sealed| self.publish(&link, sealed))).await?;
        *open = Some(link);
        Ok(())
    }
}
