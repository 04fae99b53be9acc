//! Which queues at the broker are this node's own: those whose seal stands, looked for before the first message on a connection and before each removal;
//! and an empty one that the node was making.
//! A name says nothing, not at a place either where the node made a queue of that name: the virtual host may have been made anew.

use cvp_core::mq::Queue;

use super::channel::{Denied, Removed};
use super::task::{Said, Task, Work};

/// Whose a queue's name is at the broker.
enum Name {
    /// The very queue stands.
    Own,
    /// Nothing has it, or an empty queue: the node's is to be made.
    Free,
    /// It is somebody else's: why.
    Taken(String),
}

impl Task {
    /// Those of `wanted` that were made here and stand, and those that may be made: none whose name is somebody else's here. A queue without
    /// messages is taken for one that its consumer made; it could not be told from any other, and loses nothing.
    ///
    /// # Errors
    /// The connection is no good: why.
    pub(super) async fn own_there(
        &self,
        work: &mut Work,
        wanted: Vec<Queue>,
        said: &mut Said,
    ) -> Result<(Vec<Queue>, Vec<Queue>), String> {
        let (mut own, mut fresh) = (Vec::with_capacity(wanted.len()), Vec::new());
        for queue in wanted {
            let (number, name) = (queue.number, queue.registration.queue.as_str());
            let why = match self.name_of(work, &queue).await {
                Ok(Name::Own) => {
                    own.push(queue);
                    continue;
                }
                Ok(Name::Free) => {
                    fresh.push(queue);
                    continue;
                }
                Ok(Name::Taken(why)) => {
                    // From now on nothing under that name is removed for it.
                    self.queues.made_not(&queue).await;
                    why
                }
                Err(why) if work.may_go_on() => why,
                Err(why) => return Err(why),
            };
            work.publishers.rest(number);
            self.refuse(number, name, &self.redact(&why), said);
        }
        Ok((own, fresh))
    }

    /// Whose a queue's name is.
    ///
    /// # Errors
    /// The broker did not say: why.
    async fn name_of(&self, work: &mut Work, queue: &Queue) -> Result<Name, String> {
        let number = queue.number;
        let half_made = self.queues.may_be_half_made(number).await;
        if !half_made && self.queues.is_made_here(queue).await && self.stands(work, number).await? {
            return Ok(Name::Own);
        }
        match work.admin.look(&queue.registration.queue).await {
            Ok(None | Some((0, _))) => Ok(Name::Free),
            Ok(Some((count, _))) => {
                if half_made {
                    // It would say of what came there meanwhile that it is this node's.
                    self.remove_seal(work, number).await?;
                }
                Ok(Name::Taken(format!(
                    "a queue of that name is there already, with {count} messages that this node did not put into it: let its consumer take them, remove it there, or register another name"
                )))
            }
            Err(Denied::Foreign(why)) => Ok(Name::Taken(why)),
            Err(denied) => Err(denied.into_text()),
        }
    }

    /// Removes the queue of an unregistered one where it is the very one.
    ///
    /// # Errors
    /// The broker did not do it, or did not say whether it is: why.
    pub(super) async fn remove_own(&self, work: &mut Work, number: u64, name: &str) -> Result<Removed, String> {
        let stands = self.stands(work, number).await?;
        if !self.queues.may_be_half_made(number).await {
            return match stands {
                true => work.admin.remove_queue(name).await,
                false => Ok(Removed::Absent),
            };
        }
        let removed = self.remove_half_made(work, name, stands).await?;
        if stands {
            // It goes with its queue, but for one that was not bound yet.
            self.remove_seal(work, number).await?;
        }
        Ok(removed)
    }

    async fn remove_seal(&self, work: &mut Work, number: u64) -> Result<(), String> {
        match self.queues.seal_of(number).await {
            Some(seal) if work.admin.has_exchange(&seal).await? => work.admin.remove_exchange(&seal).await,
            _ => Ok(()),
        }
    }

    /// Removes a queue that the node was making, and so put nothing into: what has something, or may have it at a consumer, is somebody else's.
    async fn remove_half_made(&self, work: &mut Work, name: &str, sealed: bool) -> Result<Removed, String> {
        match work.admin.look(name).await {
            Ok(None) => Ok(Removed::Absent),
            Ok(Some((0, consumers))) if sealed || consumers == 0 => work.admin.remove_queue(name).await,
            Ok(Some((messages, consumers))) => Ok(Removed::Foreign(format!(
                "it has {messages} messages and {consumers} consumers, and nothing that shows that this node made it: remove it there by hand where it is not wanted"
            ))),
            Err(Denied::Foreign(why)) => Ok(Removed::Foreign(why)),
            Err(denied) => Err(denied.into_text()),
        }
    }

    /// Whether the seal of a queue that was made here stands. What a release made that knew no seals stands by the note.
    async fn stands(&self, work: &mut Work, number: u64) -> Result<bool, String> {
        match self.queues.seal_of(number).await {
            Some(seal) => work.admin.has_exchange(&seal).await,
            None => Ok(true),
        }
    }
}
