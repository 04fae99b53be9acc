//! `cvp mq list|status`: the message queues of a node.

use super::output::{Context, decode};
use crate::ipc::{Exit, Failure, QueueList, QueueView, QueuesStatus, QueuesView, Request};

/// Arguments of `mq`.
#[derive(clap::Subcommand, Debug)]
pub enum Arguments {
    /// Every queue, what it is registered for and how far it was told.
    List,
    /// The queues of each namespace together, and whether they are delivered.
    Status,
}

/// Runs `mq`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    match arguments {
        Arguments::List => {
            let answer: QueueList = decode(context.call(&Request::MqList, |_| {})?)?;
            context.print(&answer, list);
            if let Some(failure) = unreadable(&answer) {
                return Err(failure);
            }
        }
        Arguments::Status => {
            let answer: QueuesStatus = decode(context.call(&Request::MqStatus, |_| {})?)?;
            context.print(&answer, status);
        }
    }
    Ok(Exit::Done)
}

/// What is not in the list, though it is there.
fn unreadable(answer: &QueueList) -> Option<Failure> {
    let messages: Vec<&str> = answer.unreadable.iter().map(|it| it.message.as_str()).collect();
    let help = &answer.unreadable.first()?.help;
    Some(Failure::failed("queues-failed", messages.join("; "), help.clone()))
}

fn list(answer: &QueueList) -> String {
    let mut rows = vec![["namespace", "queue", "keys", "blocks", "confirmed", "behind", "options"].map(str::to_owned)];
    rows.extend(answer.queues.iter().map(row));
    lines(&rows)
}

fn row(queue: &QueueView) -> [String; 7] {
    let to = queue.to_block.map(|to| to.to_string()).unwrap_or_default();
    let options = [
        (queue.verbose, "verbose"),
        (queue.delay, "delay"),
        (queue.addresses > 0, "filtered"),
        (queue.finished, "finished"),
    ];
    let options = options.iter().filter(|(on, _)| *on).map(|(_, word)| *word);
    [
        queue.namespace.clone(),
        queue.queue.clone(),
        queue.keys.join(","),
        format!("{}-{to}", queue.from_block),
        queue.cursor.clone(),
        queue.behind.to_string(),
        options.collect::<Vec<_>>().join(","),
    ]
}

fn status(answer: &QueuesStatus) -> String {
    if answer.mq.is_empty() {
        return "no namespace has message queues; set [[service]] service_name = \"MQ\" in its ns_static.toml"
            .to_owned();
    }
    let mut rows = vec![["namespace", "broker", "state", "queues", "behind", "exchanger"].map(str::to_owned)];
    rows.extend(answer.mq.iter().map(|view: &QueuesView| {
        [
            view.namespace.clone(),
            view.broker.clone(),
            view.state.clone(),
            view.queues.to_string(),
            view.behind.to_string(),
            view.exchanger.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    let problems = answer.mq.iter().map(|view| {
        let wrong = [view.problem.clone(), view.missing_in_words(), view.left_in_words()];
        let lines = wrong.into_iter().flatten();
        lines
            .map(|line| format!("\n{}: {line}", view.namespace))
            .collect::<String>()
    });
    lines(&rows) + &problems.collect::<String>()
}

/// Columns as wide as their widest cell.
fn lines<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::{LeftView, MissingView, UnreadableView};

    #[test]
    fn a_queue_is_one_line() {
        let queue = QueueView {
            namespace: "global".into(),
            queue: "orders".into(),
            keys: vec!["MQBlock".into(), "MQLog".into()],
            from_block: 3,
            to_block: Some(9),
            delay: true,
            cursor: "4".into(),
            behind: 2,
            ..QueueView::default()
        };
        let text = list(&QueueList {
            queues: vec![queue],
            ..QueueList::default()
        });
        assert_eq!(
            text.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>(),
            ["global", "orders", "MQBlock,MQLog", "3-9", "4", "2", "delay"]
        );
    }

    #[test]
    fn queues_that_cannot_be_read_are_no_empty_list() {
        assert_eq!(unreadable(&QueueList::default()), None);
        let bad = |namespace: &str| UnreadableView {
            namespace: namespace.into(),
            message: format!("{namespace} is damaged"),
            help: "attach".into(),
        };
        let answer = QueueList {
            unreadable: vec![bad("global"), bad("ns1")],
            ..QueueList::default()
        };
        let failure = unreadable(&answer).unwrap();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Failed, "queues-failed"));
        assert_eq!(failure.message, "global is damaged; ns1 is damaged");
    }

    #[test]
    fn what_is_wrong_stands_below_the_table() {
        let view = QueuesView {
            namespace: "global".into(),
            broker: "embedded".into(),
            state: "failed".into(),
            problem: Some("the disk is full".into()),
            missing: vec![MissingView {
                queue: "orders".into(),
                from: 4,
                to: 60,
            }],
            left: vec![LeftView {
                queue: Some("refunds".into()),
                exchanger: "global_fa34664e_1".into(),
                place: "old:5672/".into(),
            }],
            ..QueuesView::default()
        };
        let text = status(&QueuesStatus { mq: vec![view] });
        let below = "\nglobal: the disk is full\nglobal: not told, as they are not on this node: queue orders of blocks 4 to 60\
            \nglobal: left at another broker than that of mq.rabbit.url: queue refunds (exchange global_fa34664e_1) at old:5672/; remove them there by hand, unless that is another name of the broker in use, or set the address back";
        assert!(text.ends_with(below), "{text}");
        assert!(status(&QueuesStatus::default()).contains("service_name"));
    }
}
