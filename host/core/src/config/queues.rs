//! `[[service]]` and `mq.*` of `<namespace>/ns_static.toml`: whether a namespace has message queues, and which broker carries them.

use std::fmt;

use super::keys::Keys;

/// The service that keeps message queues, as `service_name` spells it.
const MQ: &str = "MQ";

/// How a namespace's queues are delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageQueues {
    /// `mq.broker.type`.
    pub broker: Broker,
}

/// Who carries the messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broker {
    /// The node itself: consumers read its JSON-RPC port.
    Embedded,
    /// RabbitMQ.
    Rabbit(BrokerUrl),
}

impl Broker {
    /// As the configuration spells it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Broker::Embedded => "embedded",
            Broker::Rabbit(_) => "rabbit",
        }
    }
}

/// Address of a broker with its credentials. What shows it leaves them out.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl(String);

impl BrokerUrl {
    /// An address; `amqp://` is checked by who reads the configuration.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole of it, for who connects.
    pub fn with_credentials(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("amqp", &self.0));
        // A password may hold any of `@/?`: what may be one goes.
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let place = place.split(['?', '#']).next().unwrap_or_default();
        write!(f, "{scheme}://{place}")
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Takes the keys; none where the service is off.
pub(super) fn read_queues(keys: &mut Keys) -> Option<MessageQueues> {
    let mut on = false;
    for service in keys.tables("service") {
        match service.get("service_name").and_then(toml::Value::as_str) {
            Some(name) if name.eq_ignore_ascii_case(MQ) => on = true,
            Some(name) => keys.remark("service", &format!("the service {name:.40} is not kept by this node")),
            None => keys.problem("service", "an entry has no service_name", "write service_name = \"MQ\""),
        }
    }
    let url = keys.text_option("mq.rabbit.url");
    // Named where they are asked for; nothing else is read of them.
    keys.raw("mq.kafka");
    let kind = keys.text("mq.broker.type", "embedded");
    let broker = match (kind.to_ascii_lowercase().as_str(), url) {
        ("embedded" | "", _) => Broker::Embedded,
        ("rabbit", Some(url)) if url.starts_with("amqp://") => Broker::Rabbit(BrokerUrl(url)),
        ("rabbit", Some(url)) if on && url.starts_with("amqps://") => {
            keys.problem(
                "mq.rabbit.url",
                "asks for TLS to the broker, which this node does not have",
                "write an amqp:// address: of a broker on this machine, or of a TLS tunnel to it",
            );
            Broker::Embedded
        }
        ("rabbit", _) => {
            if on {
                keys.problem(
                    "mq.rabbit.url",
                    "is no address of a broker",
                    "write one like \"amqp://user:password@127.0.0.1:5672/\"",
                );
            }
            Broker::Embedded
        }
        ("kafka", _) => {
            if on {
                keys.problem(
                    "mq.broker.type",
                    "\"kafka\" is not supported yet",
                    "write \"rabbit\" with mq.rabbit.url, or \"embedded\" to consume from the node itself",
                );
            }
            Broker::Embedded
        }
        (other, _) => {
            keys.problem(
                "mq.broker.type",
                format!("{other:.40?} is no kind of broker"),
                "write \"embedded\" or \"rabbit\"",
            );
            Broker::Embedded
        }
    };
    on.then_some(MessageQueues { broker })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<MessageQueues>, Vec<String>, Vec<String>) {
        let mut keys = Keys::parse("global/ns_static.toml", text);
        let read = read_queues(&mut keys);
        let (problems, remarks) = keys.finish();
        let named = |problems: Vec<super::super::Problem>| problems.iter().map(ToString::to_string).collect();
        (read, named(problems), named(remarks))
    }

    const ON: &str = "[[service]]\nservice_name = \"MQ\"\n";

    #[test]
    fn queues_are_off_without_the_service_and_embedded_without_a_broker() {
        assert_eq!(read("").0, None);
        let embedded = Some(MessageQueues {
            broker: Broker::Embedded,
        });
        for more in ["", "[mq.broker]\ntype = \"embedded\"\n"] {
            assert_eq!(read(&format!("{ON}{more}")), (embedded.clone(), vec![], vec![]));
        }
        let radar = read("[[service]]\nservice_name = \"Radar\"\n");
        assert!(radar.0.is_none() && radar.2[0].contains("Radar"), "{radar:?}");
    }

    #[test]
    fn a_broker_is_named_without_its_credentials() {
        let text = format!(
            "{ON}[mq]\nbroker.type = \"rabbit\"\nrabbit.url = \"amqp://me:se@cr/et@10.0.0.1:5672/vhost?x=se\"\n"
        );
        let (queues, problems, remarks) = read(&text);
        assert!(problems.is_empty() && remarks.is_empty(), "{problems:?} {remarks:?}");
        let Some(MessageQueues {
            broker: Broker::Rabbit(url),
        }) = queues
        else {
            panic!("no broker");
        };
        assert_eq!(
            format!("{url} {url:?}"),
            "amqp://10.0.0.1:5672/vhost amqp://10.0.0.1:5672/vhost"
        );
        assert!(url.with_credentials().contains("se@cr/et"));
    }

    #[test]
    fn what_cannot_carry_messages_stops_the_start_and_says_no_credentials() {
        for (keys, word) in [
            ("broker.type = \"kafka\"", "not supported yet"),
            ("broker.type = \"pigeon\"", "no kind of broker"),
            ("broker.type = \"rabbit\"", "mq.rabbit.url"),
            (
                "broker.type = \"rabbit\"\nrabbit.url = \"amqps://me:secret@host\"",
                "TLS",
            ),
            (
                "broker.type = \"rabbit\"\nrabbit.url = \"me:secret@host\"",
                "mq.rabbit.url",
            ),
        ] {
            let problems = read(&format!("{ON}[mq]\n{keys}\n")).1;
            assert!(
                problems.len() == 1 && problems[0].contains(word),
                "{keys}: {problems:?}"
            );
            assert!(!problems[0].contains("secret"), "{problems:?}");
        }
        assert_eq!(read("[mq.broker]\ntype = \"kafka\"\n").1.len(), 0, "the service is off");
    }
}
