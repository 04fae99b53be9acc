//! One queue's way to the broker: a window is published, every message of it confirmed, the cursor written, then comes the next. So
//! what a crash makes come again is one window at most.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cvp_core::mq::{Event, Queue};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::watch;

use super::BrokerState;
use super::channel::{Denied, declare_queue, said};
use crate::mq::Queues;
use crate::mq::feed::FeedEnd;

/// A broker that confirms nothing for so long is given up.
const CONFIRM_TIME: Duration = Duration::from_secs(30);
/// Written to the broker's disk before it confirms.
const PERSISTENT: u8 = 2;

pub(super) struct Publisher {
    pub connection: Arc<Connection>,
    pub queues: Arc<Queues>,
    pub queue: Queue,
    pub exchanger: String,
    pub state: watch::Sender<BrokerState>,
    /// Its channel, once it is open, for who ends it.
    pub channel: Arc<OnceLock<Channel>>,
}

/// How a publisher ended.
pub(super) struct Ended {
    pub queue: Queue,
    /// The broker took something.
    pub delivered: bool,
    /// Why the broker did not take more.
    pub outcome: Result<(), String>,
}

impl Publisher {
    /// Publishes until the queue or the channel ends.
    pub async fn drive(self) -> Ended {
        let mut delivered = false;
        let outcome = self.publish(&mut delivered).await;
        Ended {
            queue: self.queue,
            delivered,
            outcome,
        }
    }

    async fn publish(&self, delivered: &mut bool) -> Result<(), String> {
        let name = &self.queue.registration.queue;
        let Some(mut feed) = self.queues.feed_of(&self.queue) else {
            return Ok(());
        };
        if let Some(failure) = self.queues.failure() {
            // What is confirmed could not be kept: it would come again and again.
            return Err(format!("its cursor cannot be kept: {failure}"));
        }
        let channel = self.connection.create_channel().await.map_err(said)?;
        let channel = self.channel.get_or_init(|| channel);
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(said)?;
        if let Err(denied) = declare_queue(channel, (name, self.queue.number), &self.exchanger).await {
            if matches!(denied, Denied::Foreign(_)) {
                self.queues.made_not(&self.queue).await;
            }
            return Err(denied.into_text());
        }
        self.queues.sealed(&self.queue).await?;
        self.state.send_modify(|state| {
            state.declared.insert(self.queue.number);
            state.refused.remove(name);
        });
        let mut bound = self.queues.standby_bound(&self.queue);
        loop {
            let window = match feed.window().await {
                Ok(window) => window,
                Err(end @ FeedEnd::Unreadable { .. }) => return Err(end.to_string()),
                Err(FeedEnd::Unregistered | FeedEnd::Closed) => return Ok(()),
            };
            bound.room(&self.queues, &self.queue, window.len()).await;
            if feed.still().is_err() {
                return Ok(());
            }
            self.confirmed_in_time(channel, &window).await?;
            *delivered = true;
            let told = feed.confirmed_for_good().await?;
            bound.told(told, window.len());
        }
    }

    /// A broker that blocks publishers has time: it says when it goes on.
    async fn confirmed_in_time(&self, channel: &Channel, window: &[Event]) -> Result<(), String> {
        let mut confirmed = std::pin::pin!(self.confirmed(channel, window));
        loop {
            match tokio::time::timeout(CONFIRM_TIME, &mut confirmed).await {
                Ok(outcome) => return outcome,
                Err(_) if self.connection.status().blocked() => {}
                Err(_) => return Err("it confirms nothing".to_owned()),
            }
        }
    }

    /// Publishes a window in order and waits for all its confirmations.
    async fn confirmed(&self, channel: &Channel, window: &[Event]) -> Result<(), String> {
        let mut confirmations = Vec::with_capacity(window.len());
        for event in window {
            // A message that no queue takes comes back.
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let (exchanger, key) = (self.exchanger.as_str().into(), event.key.as_str().into());
            let properties = self.properties(event);
            let published = channel.basic_publish(exchanger, key, options, event.message.as_bytes(), properties);
            confirmations.push(published.await.map_err(said)?);
        }
        for confirmation in confirmations {
            match confirmation.await.map_err(said)? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(_)) => return Err("the queue was removed there: it is made anew".to_owned()),
                Confirmation::Nack(_) | Confirmation::NotRequested => return Err("it refused a message".to_owned()),
            }
        }
        Ok(())
    }

    fn properties(&self, event: &Event) -> BasicProperties {
        let mut headers = FieldTable::default();
        let queue = self.queue.registration.queue.as_str();
        let only = FieldArray::from(vec![AMQPValue::LongString(LongString::from(queue))]);
        headers.insert("BCC".into(), AMQPValue::FieldArray(only));
        BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(self.queues.id(event.after).to_string().into())
            .with_headers(headers)
    }
}
