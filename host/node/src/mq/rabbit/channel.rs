//! What is made and removed at the broker, on a channel that is opened anew where the broker closed it over a refusal.

use std::sync::Arc;
use std::time::Duration;

use cvp_core::config::BrokerUrl;
use cvp_core::mq::seal;
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ExchangeKind};

/// Reply codes of AMQP.
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;

/// The broker answers within it, or the connection is given up.
pub(super) const WORD_TIME: Duration = Duration::from_secs(30);

/// Why the broker did not do something.
pub(super) enum Denied {
    /// A queue of that name is there in another kind, or another connection's alone: somebody else's.
    Foreign(String),
    /// It is not there.
    Missing(String),
    /// Anything else, in words.
    Otherwise(String),
}

impl Denied {
    fn of(error: &lapin::Error) -> Self {
        let text = error.to_string();
        match error.kind() {
            lapin::ErrorKind::ProtocolError(protocol) => match protocol.get_id() {
                PRECONDITION_FAILED | RESOURCE_LOCKED => Self::Foreign(text),
                NOT_FOUND => Self::Missing(text),
                _ => Self::Otherwise(text),
            },
            _ => Self::Otherwise(text),
        }
    }

    pub fn into_text(self) -> String {
        match self {
            Self::Foreign(text) | Self::Missing(text) | Self::Otherwise(text) => text,
        }
    }
}

/// What became of a queue that was to be removed.
pub(super) enum Removed {
    /// It is gone, with so many messages.
    Gone(u64),
    /// It is not there; what has its name is somebody else's and stays.
    Absent,
    /// It is somebody else's and stays.
    Foreign(String),
}

/// Queues and exchanges of one connection.
pub(super) struct Admin {
    connection: Arc<Connection>,
    channel: Channel,
    /// It did not answer in time.
    silent: bool,
}

impl Admin {
    pub async fn open(connection: Arc<Connection>) -> Result<Self, String> {
        let channel = connection.create_channel().await.map_err(said)?;
        Ok(Self {
            connection,
            channel,
            silent: false,
        })
    }

    /// Whether the broker left something without an answer: nobody knows what it does of it, and when.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    async fn channel(&mut self) -> Result<&Channel, String> {
        if !self.channel.status().connected() {
            self.channel = self.connection.create_channel().await.map_err(said)?;
        }
        Ok(&self.channel)
    }

    async fn word<T>(&mut self, word: impl Future<Output = lapin::Result<T>>) -> Result<T, Denied> {
        let mut word = std::pin::pin!(word);
        loop {
            match tokio::time::timeout(WORD_TIME, &mut word).await {
                Ok(answer) => return answer.map_err(|error| Denied::of(&error)),
                // One that blocks publishers is not sent anything on this connection; it says when it goes on.
                Err(_) if self.connection.status().blocked() => {}
                Err(_) => {
                    self.silent = true;
                    return Err(Denied::Otherwise("it does not answer".to_owned()));
                }
            }
        }
    }

    /// Makes the exchange where it is not there.
    pub async fn declare_exchange(&mut self, name: &str) -> Result<(), String> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let channel = self.channel().await?.clone();
        let declared = channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default());
        self.word(declared).await.map_err(Denied::into_text)
    }

    /// Whether an exchange of that name stands, of whatever kind.
    pub async fn has_exchange(&mut self, name: &str) -> Result<bool, String> {
        let options = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let channel = self.channel().await?.clone();
        let asked = channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default());
        match self.word(asked).await {
            Ok(()) => Ok(true),
            Err(Denied::Missing(_)) => Ok(false),
            Err(denied) => Err(denied.into_text()),
        }
    }

    /// How many messages lie in the queue of that name, and how many consumers it has; none where there is no such queue. What a consumer has and
    /// did not acknowledge is not counted.
    ///
    /// # Errors
    /// It is another connection's alone, or the broker did not answer.
    pub async fn look(&mut self, name: &str) -> Result<Option<(u32, u32)>, Denied> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await.map_err(Denied::Otherwise)?.clone();
        let asked = channel.queue_declare(name.into(), options, FieldTable::default());
        match self.word(asked).await {
            Ok(queue) => Ok(Some((queue.message_count(), queue.consumer_count()))),
            Err(Denied::Missing(_)) => Ok(None),
            Err(denied) => Err(denied),
        }
    }

    /// Removes a queue of the kind that this node makes. The broker compares: of another kind it is somebody else's, who has taken the name.
    pub async fn remove_queue(&mut self, name: &str) -> Result<Removed, String> {
        let channel = self.channel().await?.clone();
        let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default());
        match self.word(declared).await {
            Ok(_) => {}
            Err(Denied::Foreign(why)) => return Ok(Removed::Foreign(why)),
            Err(denied) => return Err(denied.into_text()),
        }
        let removed = channel.queue_delete(name.into(), QueueDeleteOptions::default());
        let messages = self.word(removed).await.map_err(Denied::into_text)?;
        Ok(Removed::Gone(u64::from(messages)))
    }

    pub async fn remove_exchange(&mut self, name: &str) -> Result<(), String> {
        let channel = self.channel().await?.clone();
        let removed = channel.exchange_delete(name.into(), ExchangeDeleteOptions::default());
        self.word(removed).await.map_err(Denied::into_text)
    }
}

/// Makes a queue where it is not there, bound to the exchange by its own name, and sealed.
pub(super) async fn declare_queue(
    channel: &Channel,
    (name, number): (&str, u64),
    exchanger: &str,
) -> Result<(), Denied> {
    let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default());
    declared.await.map_err(|error| Denied::of(&error))?;
    bind(channel, name, exchanger).await?;
    let seal = seal(exchanger, number);
    let options = ExchangeDeclareOptions {
        durable: true,
        auto_delete: true,
        ..ExchangeDeclareOptions::default()
    };
    let sealed = channel.exchange_declare(
        seal.as_str().into(),
        ExchangeKind::Direct,
        options,
        FieldTable::default(),
    );
    sealed.await.map_err(|error| Denied::Otherwise(said(error)))?;
    bind(channel, name, &seal).await
}

async fn bind(channel: &Channel, name: &str, exchanger: &str) -> Result<(), Denied> {
    let options = QueueBindOptions::default();
    let (queue, key) = (name.into(), name.into());
    let bound = channel.queue_bind(queue, exchanger.into(), key, options, FieldTable::default());
    bound.await.map_err(|error| Denied::Otherwise(said(error)))
}

pub(super) fn said(error: lapin::Error) -> String {
    error.to_string()
}

/// `text` without the broker's credentials, as they are written in its address or as they are meant.
pub(super) fn redact(url: &BrokerUrl, text: &str) -> String {
    let whole = url.with_credentials();
    let mut out = text.replace(whole, &url.to_string());
    let authority = whole.split_once("://").map_or(whole, |(_, rest)| rest);
    let written = authority.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    let (user, password) = written.split_once(':').unwrap_or((written, ""));
    let mut secrets = vec![user.to_owned(), password.to_owned()];
    if let Ok(uri) = whole.parse::<AMQPUri>() {
        secrets.extend([uri.authority.userinfo.username, uri.authority.userinfo.password]);
    }
    secrets.retain(|secret| !secret.is_empty());
    // The longer first: one may hold the other.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        out = out.replace(&secret, "***");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_what_a_broker_says() {
        let url: BrokerUrl = BrokerUrl::new("amqp://worker:s%40cret@10.0.0.1:5672/");
        let text = "amqp://worker:s%40cret@10.0.0.1:5672/: access refused for user 'worker' (s@cret, s%40cret)";
        assert_eq!(
            redact(&url, text),
            "amqp://10.0.0.1:5672/: access refused for user '***' (***, ***)"
        );
        let plain = BrokerUrl::new("amqp://10.0.0.1/");
        assert_eq!(redact(&plain, "connection refused"), "connection refused");
    }
}
