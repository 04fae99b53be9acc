//! The check of what a config-sync strategy says; of index-check in `index`, of mq-sync in `queues`. A call is taken whole or not at all. Inventories were checked before it was shown them.
//!
//! Pure: it looks and changes nothing. What is refused here counts as a fault of the instance, as a trap does; an unknown action is none, for a
//! strategy may be newer than its host. What must be strong whatever a strategy says (the floor) is not known here.

mod index;
mod queues;

use std::collections::BTreeSet;

use crate::types::strategy::config_sync::{Action, FileEntry, KEY_BYTES_MAX, PATHS_MAX, View};
use crate::types::strategy::{self, Fault, Role};

pub use index::IndexGround;
pub use queues::QueueGround;

/// What holds when the answer of one call is checked.
#[derive(Clone, Copy, Debug)]
pub struct ConfigGround<'a> {
    /// The view that the call told, or the last one told before it.
    pub view: &'a View,
    /// Ids of the edits that the call asked about.
    pub edits: &'a [u64],
}

impl ConfigGround<'_> {
    /// Everything one call answered.
    ///
    /// # Errors
    /// The first action that cannot be, with what would be allowed; or an edit that was asked about and not weighed.
    pub fn check(&self, actions: &[Action]) -> Result<(), Fault> {
        if actions.len() > strategy::ACTIONS_MAX {
            let text = format!("{} actions, at most {} a call", actions.len(), strategy::ACTIONS_MAX);
            return Err(Fault::new("too-many-actions", text));
        }
        actions.iter().try_for_each(|action| self.check_one(action))?;
        self.all_weighed(actions)
    }

    fn check_one(&self, action: &Action) -> Result<(), Fault> {
        match action {
            Action::Request(paths) => {
                self.only(Role::Receiver, "request")?;
                let files = self.view.peer.as_deref().unwrap_or_default();
                known("request", paths, files, "the peer's inventory")
            }
            Action::Delete(paths) => {
                self.only(Role::Receiver, "delete")?;
                known("delete", paths, &self.view.local, "the local inventory")
            }
            Action::Weigh { edit, .. } => {
                self.only(Role::Provider, "weigh")?;
                self.asked(*edit)
            }
            Action::KeepLocal { file, key } => {
                self.only(Role::Receiver, "keep-local")?;
                self.rule(file, key)
            }
            Action::Refuse(reason) => text("refuse", reason),
            Action::Store(bytes) => size("store-too-long", bytes, strategy::STORE_BYTES_MAX),
            Action::Send(bytes) => size("message-too-long", bytes, strategy::SEND_BYTES_MAX),
            Action::Log(_, line) => text("log", line),
            Action::Metric(name, _) => gauge(name),
            Action::Other(..) => Ok(()),
        }
    }

    fn only(&self, wanted: Role, what: &str) -> Result<(), Fault> {
        if self.view.role == wanted {
            return Ok(());
        }
        Err(Fault::new("wrong-role", format!("{what} is the {}'s", wanted.as_str())))
    }

    fn asked(&self, edit: u64) -> Result<(), Fault> {
        if self.edits.contains(&edit) {
            return Ok(());
        }
        Err(Fault::new("unknown-edit", format!("edit {edit} was not asked about")))
    }

    /// Each edit of the call once: the operator waits for the answer.
    fn all_weighed(&self, actions: &[Action]) -> Result<(), Fault> {
        for asked in self.edits {
            let answers = actions
                .iter()
                .filter(|action| matches!(action, Action::Weigh { edit, .. } if edit == asked))
                .count();
            if answers != 1 {
                let text = format!("edit {asked} was weighed {answers} times, once is wanted");
                return Err(Fault::new("edit-not-weighed", text));
            }
        }
        Ok(())
    }

    fn rule(&self, file: &str, key: &str) -> Result<(), Fault> {
        let peer = self.view.peer.as_deref().unwrap_or_default();
        if !self.view.local.iter().chain(peer).any(|it| it.path == file) {
            let text = format!("keep-local names {:?}, which is in neither inventory", shown(file));
            return Err(Fault::new("unknown-path", text));
        }
        let parts_are_there = key.split('.').all(|part| !part.is_empty());
        if key.len() > KEY_BYTES_MAX || !parts_are_there || key.chars().any(char::is_control) {
            return Err(Fault::new("bad-key", format!("{:?} is no dotted key", shown(key))));
        }
        Ok(())
    }
}

/// That a list names only files there are, each once, and not too many.
fn known(what: &str, paths: &[String], files: &[FileEntry], of: &str) -> Result<(), Fault> {
    if paths.is_empty() || paths.len() > PATHS_MAX {
        let text = format!("{what} of {} paths; 1 to {PATHS_MAX} allowed", paths.len());
        return Err(Fault::new("bad-count", text));
    }
    let there: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut named = BTreeSet::new();
    for path in paths {
        if !there.contains(path.as_str()) {
            let text = format!("{what} names {:?}, which is not in {of}", shown(path));
            return Err(Fault::new("unknown-path", text));
        }
        if !named.insert(path) {
            return Err(Fault::new("named-twice", format!("{what} names {path:?} twice")));
        }
    }
    Ok(())
}

/// The beginning of a text that may be long: enough for a fault.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A text of any kind of strategy.
pub(crate) fn text(what: &str, text: &str) -> Result<(), Fault> {
    if text.len() > strategy::TEXT_BYTES_MAX {
        return Err(Fault::new("text-too-long", format!("{what} of {} bytes", text.len())));
    }
    Ok(())
}

/// Bytes of any kind of strategy.
pub(crate) fn size(code: &'static str, bytes: &[u8], most: usize) -> Result<(), Fault> {
    if bytes.len() > most {
        return Err(Fault::new(code, format!("{} bytes, at most {most}", bytes.len())));
    }
    Ok(())
}

/// The name of a gauge of any kind of strategy.
pub(crate) fn gauge(name: &str) -> Result<(), Fault> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(Fault::new("bad-name", "a gauge is named with a-z, 0-9 and _"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::strategy::Level;

    fn file(path: &str) -> FileEntry {
        FileEntry {
            path: path.into(),
            size: 1,
            digest: [1; 32],
        }
    }

    /// The receiver's copy holds `old` and `same`, the provider `new` and `same`.
    fn view(role: Role) -> View {
        let (copy, provider) = (vec![file("old"), file("same")], vec![file("new"), file("same")]);
        let (local, peer) = match role {
            Role::Receiver => (copy, provider),
            Role::Provider => (provider, copy),
        };
        View {
            local,
            peer: Some(peer),
            ..View::new(role, "global")
        }
    }

    fn paths(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|&path| path.to_owned()).collect()
    }

    fn keep(file: &str, key: &str) -> Action {
        Action::KeepLocal {
            file: file.into(),
            key: key.into(),
        }
    }

    fn weigh(edit: u64) -> Action {
        Action::Weigh { edit, strong: true }
    }

    fn checked(role: Role, edits: &[u64], actions: &[Action]) -> Result<(), String> {
        let view = view(role);
        let ground = ConfigGround { view: &view, edits };
        ground.check(actions).map_err(|fault| fault.code)
    }

    fn refused(role: Role, actions: &[Action]) -> String {
        checked(role, &[7, 8], actions).unwrap_err()
    }

    #[test]
    fn what_a_receiver_may_say_is_taken() {
        let said = [
            Action::Request(paths(&["new", "same"])),
            Action::Delete(paths(&["old"])),
            keep("new", "cvp.enable"),
            keep("old", "port"),
            Action::Refuse("never".into()),
            Action::Store(vec![0; strategy::STORE_BYTES_MAX]),
            Action::Send(vec![0; strategy::SEND_BYTES_MAX]),
            Action::Log(Level::Info, "line".into()),
            Action::Metric("files_behind".into(), -1),
            Action::Other("of-a-later-release".into(), Vec::new()),
        ];
        assert_eq!(checked(Role::Receiver, &[], &said), Ok(()));
    }

    #[test]
    fn each_edit_is_weighed_once_by_the_provider() {
        assert_eq!(checked(Role::Provider, &[7, 8], &[weigh(8), weigh(7)]), Ok(()));
        assert_eq!(checked(Role::Provider, &[], &[]), Ok(()));
        assert_eq!(refused(Role::Provider, &[weigh(7)]), "edit-not-weighed");
        assert_eq!(
            refused(Role::Provider, &[weigh(7), weigh(7), weigh(8)]),
            "edit-not-weighed"
        );
        assert_eq!(refused(Role::Provider, &[weigh(7), weigh(8), weigh(9)]), "unknown-edit");
        for foreign in [
            Action::Request(paths(&["old"])),
            Action::Delete(paths(&["new"])),
            keep("new", "a"),
        ] {
            assert_eq!(refused(Role::Provider, &[foreign]), "wrong-role");
        }
    }

    #[test]
    fn each_kind_of_nonsense_is_refused_by_its_name() {
        let long = || "x".repeat(strategy::TEXT_BYTES_MAX + 1);
        for (code, action) in [
            ("unknown-path", Action::Request(paths(&["same", "old"]))),
            ("unknown-path", Action::Request(paths(&["../new"]))),
            ("unknown-path", Action::Delete(paths(&["new"]))),
            ("named-twice", Action::Request(paths(&["new", "new"]))),
            ("bad-count", Action::Request(Vec::new())),
            ("bad-count", Action::Delete(vec!["old".into(); PATHS_MAX + 1])),
            ("wrong-role", weigh(7)),
            ("unknown-path", keep("elsewhere", "a")),
            ("bad-key", keep("new", "")),
            ("bad-key", keep("new", "a..b")),
            ("bad-key", keep("new", "a\nb")),
            ("bad-key", keep("new", &"x".repeat(KEY_BYTES_MAX + 1))),
            ("text-too-long", Action::Refuse(long())),
            ("text-too-long", Action::Log(Level::Info, long())),
            ("store-too-long", Action::Store(vec![0; strategy::STORE_BYTES_MAX + 1])),
            ("message-too-long", Action::Send(vec![0; strategy::SEND_BYTES_MAX + 1])),
            ("bad-name", Action::Metric("Files".into(), 1)),
        ] {
            assert_eq!(
                refused(Role::Receiver, std::slice::from_ref(&action)),
                code,
                "{action:?}"
            );
        }
        let many = vec![Action::Metric("a".into(), 1); strategy::ACTIONS_MAX + 1];
        assert_eq!(refused(Role::Receiver, &many), "too-many-actions");
    }

    #[test]
    fn without_a_peer_nothing_can_be_asked_for() {
        let mut view = view(Role::Receiver);
        view.peer = None;
        let ground = ConfigGround {
            view: &view,
            edits: &[],
        };
        let asked = ground.check(&[Action::Request(paths(&["new"]))]);
        assert_eq!(asked.unwrap_err().code, "unknown-path");
    }
}
