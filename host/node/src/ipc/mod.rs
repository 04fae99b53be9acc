//! The operator's Unix socket: shared types, server, client, the one status view.
//!
//! One JSON object a line, bounded. A request is answered by any number of `progress` lines and then one `done` or `failed`. The socket is
//! readable by its owner only, from its first instant. What a node answers in its role stands in one table ([`Request::allowed`]). Does not
//! decide anything: requests go to the [`Operator`] that assembly provides.

mod client;
mod path;
mod queues;
mod request;
mod server;
mod progress;
mod status;
mod wire;

pub use crate::failure::{Exit, Failure};
pub use client::Connection;
pub use progress::PaceView;
#[cfg(test)]
pub use progress::{BackfillView, BootstrapView};
pub use queues::{LeftView, MissingView, QueueList, QueueView, QueuesStatus, QueuesView, UnreadableView};
pub use request::{Request, wrong_role};
pub use server::{Operator, Progress, Server};
#[cfg(test)]
pub use status::RefusedView;
pub use status::{FollowerView, FollowsView, HeldView, NamespaceView, PeerView, ReasonView, StatusView};
