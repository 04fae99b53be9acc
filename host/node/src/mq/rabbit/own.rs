//! Which queues at the broker are this node's own: those whose seal stands, looked for before the first message on a connection and before each removal.
//! A name says nothing, not at a place either where the node made a queue of that name: the virtual host may have been made anew.

use cvp_core::mq::Queue;

use super::channel::{Denied, Removed};
use super::task::{Said, Task, Work};

impl Task {
    /// Those of `wanted` that were made here and stand, or may be made: none whose name is somebody else's here. A queue without messages is taken
    /// for one that its consumer made; it could not be told from any other, and loses nothing.
    ///
    /// # Errors
    /// The connection is no good: why.
    pub(super) async fn own_there(
        &self,
        work: &mut Work,
        wanted: Vec<Queue>,
        said: &mut Said,
    ) -> Result<Vec<Queue>, String> {
        let mut own = Vec::with_capacity(wanted.len());
        for queue in wanted {
            let (number, name) = (queue.number, queue.registration.queue.as_str());
            let why = match self.own_or_free(work, &queue).await {
                Ok(None) => {
                    own.push(queue);
                    continue;
                }
                Ok(Some(why)) => {
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
        Ok(own)
    }

    /// Why a queue's name is somebody else's; none where the queue is this node's, or the name is free.
    ///
    /// # Errors
    /// The broker did not say: why.
    async fn own_or_free(&self, work: &mut Work, queue: &Queue) -> Result<Option<String>, String> {
        if self.queues.is_made_here(queue).await && self.stands(work, queue.number).await? {
            return Ok(None);
        }
        match work.admin.messages(&queue.registration.queue).await {
            Ok(None | Some(0)) => Ok(None),
            Ok(Some(count)) => Ok(Some(format!(
                "a queue of that name is there already, with {count} messages that this node did not put into it: let its consumer take them, remove it there, or register another name"
            ))),
            Err(Denied::Foreign(why)) => Ok(Some(why)),
            Err(denied) => Err(denied.into_text()),
        }
    }

    /// Removes the queue of an unregistered one where it is the very one.
    ///
    /// # Errors
    /// The broker did not do it, or did not say whether it is: why.
    pub(super) async fn remove_own(&self, work: &mut Work, number: u64, name: &str) -> Result<Removed, String> {
        if self.stands(work, number).await? {
            return work.admin.remove_queue(name).await;
        }
        Ok(Removed::Absent)
    }

    /// Whether the seal of a queue that was made here stands. What a release made that knew no seals stands by the note.
    async fn stands(&self, work: &mut Work, number: u64) -> Result<bool, String> {
        match self.queues.seal_of(number).await {
            Some(seal) => work.admin.has_exchange(&seal).await,
            None => Ok(true),
        }
    }
}
