//! `cvp namespace start|stop|destroy|list`: the namespaces of a node. Their lines are the platform's.

use serde::{Deserialize, Serialize};

use super::output::{Context, decode};
use crate::assembly::Switched;
use crate::ipc::{Exit, Failure, Request};

/// Arguments of `namespace`.
#[derive(clap::Subcommand, Debug)]
pub enum Arguments {
    /// Names of the running namespaces.
    List,
    /// Runs a namespace from now on, here and on the standby (provider). Its three files are in configuration/NAME/.
    Start {
        /// Its name.
        name: String,
        /// Fail when no standby can hold the change too.
        #[arg(long)]
        must_replicate: bool,
        /// Begin its chain anew, where this node never copied the one of its predecessor: that one is given up.
        #[arg(long)]
        anew: bool,
        /// Go on from the copy that is here, where the node before told of more when it was stopped: that is given up.
        #[arg(long, conflicts_with = "anew")]
        as_copied: bool,
    },
    /// Ends a namespace, here and on the standby; `global` ends this node (provider).
    Stop {
        /// Its name.
        name: String,
        /// Fail when no standby can hold the change too.
        #[arg(long)]
        must_replicate: bool,
    },
    /// Forgets a stopped namespace. Its data is moved aside; its configuration and keys stay (provider).
    Destroy {
        /// Its name.
        name: String,
        /// Remove its data for good.
        #[arg(long)]
        yes: bool,
        /// Fail when no standby can hold the change too.
        #[arg(long)]
        must_replicate: bool,
    },
}

/// What the node answers.
#[derive(Debug, Serialize, Deserialize)]
struct Namespaces {
    namespaces: Vec<String>,
}

/// Runs `namespace`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let (request, done): (Request, fn(&str) -> String) = match arguments {
        Arguments::List => {
            let answer: Namespaces = decode(context.call(&Request::NamespaceList, |_| {})?)?;
            context.print(&answer, |answer| answer.namespaces.join(","));
            return Ok(Exit::Done);
        }
        Arguments::Start {
            name,
            must_replicate,
            anew,
            as_copied,
        } => {
            let (name, must_replicate) = (name.clone(), *must_replicate);
            let (anew, as_copied) = (*anew, *as_copied);
            let request = Request::NamespaceStart {
                name,
                must_replicate,
                anew,
                as_copied,
            };
            (request, |name| format!("successfully start namespace: \"{name}\""))
        }
        Arguments::Stop { name, must_replicate } => {
            let (name, must_replicate) = (name.clone(), *must_replicate);
            (Request::NamespaceStop { name, must_replicate }, |name| {
                format!("successfully stop namespace \"{name}\"")
            })
        }
        Arguments::Destroy {
            name,
            yes,
            must_replicate,
        } => {
            let (name, yes, must_replicate) = (name.clone(), *yes, *must_replicate);
            let request = Request::NamespaceDestroy {
                name,
                yes,
                must_replicate,
            };
            // The platform's own spelling.
            (request, |name| format!("successufully destroy namespace \"{name}\""))
        }
    };
    let answer: Switched = decode(context.call(&request, |_| {})?)?;
    context.print(&answer, |answer| human(answer, &done(&answer.namespace)));
    Ok(Exit::Done)
}

/// The documented line, and behind it what an operator should know.
fn human(answer: &Switched, line: &str) -> String {
    let mut lines = vec![line.to_owned()];
    if answer.namespace == "global" && !answer.running {
        lines.push("the node stops with it, and all its namespaces; `cvp start` starts them again".to_owned());
    }
    if answer.answer == "local" {
        lines.push(
            "no standby is attached: this node alone was changed; the standby follows when it attaches".to_owned(),
        );
        if !answer.running && answer.data.is_none() && answer.namespace != "global" {
            lines.push(
                "what the standby did not copy of it before stays on this node alone, until it is started again with the standby attached"
                    .to_owned(),
            );
        }
    }
    match answer.data.as_deref() {
        Some("removed") => lines.push("its data was removed; its configuration and keys stay".to_owned()),
        Some(path) => lines.push(format!(
            "its data was moved to {path}: remove it when it is not needed; its configuration and keys stay"
        )),
        None => {}
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_platforms() {
        let mut answer = Switched {
            namespace: "ns2".to_owned(),
            running: true,
            answer: "replicated".to_owned(),
            replicated: true,
            data: None,
        };
        let line = "successfully start namespace: \"ns2\"";
        assert_eq!(human(&answer, line), line);
        answer.answer = "local".to_owned();
        answer.data = Some("namespaces/ns2/data.destroyed-1".to_owned());
        assert_eq!(human(&answer, line).lines().count(), 3);
    }
}
