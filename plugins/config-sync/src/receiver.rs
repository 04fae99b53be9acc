//! The receiver's half: what to delete, what to ask for and when again, which keys stay its own.

use std::collections::{BTreeMap, BTreeSet};

use cvp_sdk::Level;
use cvp_sdk::config_sync::{Action, Event, FileEntry, PATHS_MAX, View};

use crate::settings::Options;

/// Most rules said in one call; the rest follow in the next.
const RULES_MAX: usize = 128;

/// The namespace whose strategy decides on the whole node's files as well.
const GLOBAL: &str = "global";

/// Where certificates lie in the tree.
const CERTIFICATES: &str = "certificates/";

/// What the receiver's half remembers between calls: the latest view, and what saves it from repeating itself.
#[derive(Debug, Default)]
pub struct Receiver {
    view: Option<View>,
    /// What was asked for and does not show in the copy yet, by path.
    asked: BTreeMap<String, Asked>,
    /// The rules said since the session was opened: file and key.
    rules: BTreeSet<(String, String)>,
    /// A view came since all its rules were said.
    rules_due: bool,
    /// The last gauge set.
    behind: Option<usize>,
    /// The provider shows no file at all: said once.
    warned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The content that was asked for; none: the file was to go.
    digest: Option<[u8; 32]>,
    /// When it was last asked for, or seen under way.
    at: u64,
}

/// What separates the copy from the provider's files.
struct Difference<'a> {
    /// Files of the provider that the copy lacks or has otherwise.
    wanted: Vec<&'a FileEntry>,
    /// Paths of the copy that the provider has not.
    surplus: Vec<&'a str>,
}

impl Receiver {
    /// Takes everything in, and decides once from the latest view.
    pub fn handle(&mut self, options: &Options, events: Vec<Event>) -> Vec<Action> {
        let mut told = false;
        for event in events {
            told |= self.note(event);
        }
        let mut actions = Vec::new();
        if told && let Some(view) = self.view.take() {
            if self.rules_due {
                self.say_rules(options, &view, &mut actions);
            }
            if let Some(peer) = &view.peer {
                self.align(options, &view, peer, &mut actions);
            }
            self.view = Some(view);
        }
        actions
    }

    /// True when there is something to decide from.
    fn note(&mut self, event: Event) -> bool {
        match event {
            Event::Opened { view, .. } => {
                *self = Self {
                    view: Some(view),
                    rules_due: true,
                    ..Self::default()
                };
                true
            }
            Event::Inventories(view) => {
                self.view = Some(view);
                self.rules_due = true;
                true
            }
            Event::Tick(now) => match &mut self.view {
                Some(view) => {
                    view.now = now;
                    true
                }
                None => false,
            },
            // An action that the host does not know was none that the copy hangs on; edits are weighed by the provider.
            Event::Edit(_) | Event::Fault(_) | Event::Message(_) | Event::Other(..) => false,
        }
    }

    /// Each rule for each file there is, once a session: the files show one after the other.
    fn say_rules(&mut self, options: &Options, view: &View, actions: &mut Vec<Action>) {
        let mut room = RULES_MAX;
        for file in view.local.iter().chain(view.peer.iter().flatten()) {
            for rule in options.keep_local.iter().filter(|rule| rule.names(&file.path)) {
                if room == 0 {
                    return;
                }
                let said = (file.path.clone(), rule.key.clone().unwrap_or_default());
                if self.rules.insert(said.clone()) {
                    room -= 1;
                    let (file, key) = said;
                    actions.push(Action::KeepLocal { file, key });
                }
            }
        }
        self.rules_due = false;
    }

    fn align(&mut self, options: &Options, view: &View, peer: &[FileEntry], actions: &mut Vec<Action>) {
        if is_gone(view, peer) {
            // No node runs without a file: whatever this is, it is no reason to throw a good copy away.
            if !self.warned {
                let text = "the provider shows no configuration file: the copy is kept as it is";
                actions.push(Action::Log(Level::Warn, text.into()));
            }
            self.warned = true;
            return;
        }
        self.warned = false;
        let difference = Difference::of(&view.local, peer);
        self.forget_done(view, &difference);
        self.ask_to_delete(options, view, &difference, actions);
        self.ask_for_files(options, view, difference.wanted_in_order(options), actions);
        let behind = difference.wanted.len() + difference.surplus.len();
        if self.behind != Some(behind) {
            self.behind = Some(behind);
            actions.push(Action::Metric("files_behind".into(), behind as i64));
        }
    }

    /// What has come or gone, or is wanted otherwise by now, is not waited for. The clock of a file that is under way does not run.
    fn forget_done(&mut self, view: &View, difference: &Difference<'_>) {
        let wanted: BTreeMap<&str, [u8; 32]> = difference.wanted.iter().map(|f| (f.path.as_str(), f.digest)).collect();
        let surplus: BTreeSet<&str> = difference.surplus.iter().copied().collect();
        self.asked.retain(|path, asked| match asked.digest {
            Some(digest) => wanted.get(path.as_str()) == Some(&digest),
            None => surplus.contains(path.as_str()),
        });
        for path in &view.requested {
            if let Some(asked) = self.asked.get_mut(path) {
                asked.at = view.now;
            }
        }
    }

    /// Asked for so short a while ago that the answer may still come.
    fn is_recent(&self, options: &Options, path: &str, now: u64) -> bool {
        self.asked
            .get(path)
            .is_some_and(|asked| now < asked.at.saturating_add(options.ask_again_millis))
    }

    fn ask_to_delete(
        &mut self,
        options: &Options,
        view: &View,
        difference: &Difference<'_>,
        actions: &mut Vec<Action>,
    ) {
        let paths: Vec<String> = difference
            .surplus
            .iter()
            .filter(|path| !self.is_recent(options, path, view.now))
            .take(PATHS_MAX)
            .map(|&path| path.to_owned())
            .collect();
        for path in &paths {
            let asked = Asked {
                digest: None,
                at: view.now,
            };
            self.asked.insert(path.clone(), asked);
        }
        if !paths.is_empty() {
            actions.push(Action::Delete(paths));
        }
    }

    fn ask_for_files(&mut self, options: &Options, view: &View, wanted: Vec<&FileEntry>, actions: &mut Vec<Action>) {
        let requested: BTreeSet<&str> = view.requested.iter().map(String::as_str).collect();
        let (waiting, free): (Vec<&FileEntry>, Vec<&FileEntry>) = wanted
            .into_iter()
            .partition(|file| requested.contains(file.path.as_str()) || self.is_recent(options, &file.path, view.now));
        let room = options.files_max.saturating_sub(waiting.len());
        let mut paths = Vec::new();
        let mut late = Vec::new();
        for file in free.into_iter().take(room) {
            let asked = Asked {
                digest: Some(file.digest),
                at: view.now,
            };
            if self.asked.insert(file.path.clone(), asked).is_some() {
                late.push(file.path.as_str());
            }
            paths.push(file.path.clone());
        }
        if let Some(first) = late.first() {
            let (count, millis) = (late.len(), options.ask_again_millis);
            let text = format!("{count} files did not come within {millis} ms, {first} among them: asking again");
            actions.push(Action::Log(Level::Warn, text));
        }
        if !paths.is_empty() {
            actions.push(Action::Request(paths));
        }
    }
}

/// Whether the provider shows none of the files that the copy has: none at all or, where the whole node's are this strategy's, certificates
/// alone.
fn is_gone(view: &View, peer: &[FileEntry]) -> bool {
    let counts = |file: &&FileEntry| view.namespace != GLOBAL || !file.path.starts_with(CERTIFICATES);
    !peer.iter().any(|file| counts(&file)) && view.local.iter().any(|file| counts(&file))
}

impl<'a> Difference<'a> {
    fn of(local: &'a [FileEntry], peer: &'a [FileEntry]) -> Self {
        let ours: BTreeMap<&str, &FileEntry> = local.iter().map(|file| (file.path.as_str(), file)).collect();
        let theirs: BTreeSet<&str> = peer.iter().map(|file| file.path.as_str()).collect();
        Self {
            wanted: peer
                .iter()
                .filter(|file| ours.get(file.path.as_str()) != Some(file))
                .collect(),
            surplus: ours.into_keys().filter(|path| !theirs.contains(path)).collect(),
        }
    }

    /// TOML first, then what is small, then the rest; among equals by path.
    fn wanted_in_order(&self, options: &Options) -> Vec<&'a FileEntry> {
        let mut wanted = self.wanted.clone();
        wanted.sort_by_key(|file| {
            let is_toml = file.path.ends_with(".toml");
            (!is_toml, file.size > options.small_bytes, file.path.as_str())
        });
        wanted
    }
}

#[cfg(test)]
mod tests;
