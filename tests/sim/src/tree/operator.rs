//! Operators: hand edits of a provider's files, strong changes that they ask for, and a hand that reaches into a standby's copy.

use bytes::Bytes;
use cvp_core::replication::{
    CONFIG_CHANGE, CONFIGURATION, ChangeEvent, Event, FileChange, Proposal, Ticket, TreeEvent, TreeFile, file_digest,
};
use cvp_core::types::Millis;
use cvp_core::types::strategy::Role;

use super::own_tree;
use crate::configuration::RETAIN_BYTES;
use crate::world::{A, B, D, Ev, World};

/// A hand edit is noticed after so long at most.
const NOTICED_MS: Millis = 300;

/// A hand in a standby's copy is followed by so long a rest, where a session is to find what it did.
const LOOKED_AT_MS: Millis = 4_000;

/// Files that carry a strong key; the list of namespaces more often.
const STRONG: [&str; 4] = [
    "dynamic.toml",
    "dynamic.toml",
    "global/ns_static.toml",
    "ns1/ns_static.toml",
];

/// Files that hands write comments into.
const COMMENTED: [&str; 5] = [
    "dynamic.toml",
    "system.toml",
    "global/ns_static.toml",
    "global/ns_genesis.toml",
    "ns1/ns_dynamic.toml",
];

/// The change that stands in a file; 0: none.
pub fn slot(content: &[u8]) -> Ticket {
    let text = std::str::from_utf8(content).unwrap_or_default();
    let number = |line: &str| {
        let retained = line
            .strip_prefix("retain_bytes = ")
            .and_then(|number| number.parse::<u64>().ok());
        let sim = line.strip_prefix("sim = ").and_then(|number| number.parse().ok());
        retained.and_then(|bytes| bytes.checked_sub(RETAIN_BYTES)).or(sim)
    };
    text.lines().find_map(number).unwrap_or(0)
}

/// The text with the line that begins so replaced, or with the addition behind it.
fn with_line(text: &str, begins: &str, line: &str, addition: &str) -> String {
    if !text.lines().any(|known| known.starts_with(begins)) {
        return format!("{text}{addition}{line}\n");
    }
    let lines = text
        .lines()
        .map(|known| if known.starts_with(begins) { line } else { known });
    lines.map(|line| format!("{line}\n")).collect()
}

impl World {
    /// An operator does something.
    pub fn operate(&mut self) -> Result<(), String> {
        let quiet = self.now >= self.chaos_until;
        let provider = if self.promoted && (quiet || self.random.chance(70)) {
            B
        } else {
            A
        };
        let mut looked_at = false;
        match self.random.range(0, 99) {
            0..45 => self.edit_own(provider),
            45..88 => {
                // Now and then several at once, which wait for each other.
                let count = if self.random.chance(12) { 3 } else { 1 };
                for _ in 0..count {
                    self.propose(provider)?;
                }
            }
            _ if quiet => {}
            _ => looked_at = self.edit_copy()? && self.random.chance(50),
        }
        let most = if quiet { 2_500 } else { 1_200 };
        let mut pause = self.random.range(100, most);
        if looked_at {
            // A session more finds it, and nobody touches the provider's tree meanwhile.
            let standby = if self.promoted { D } else { B };
            self.end_links(standby);
            pause += LOOKED_AT_MS;
        }
        self.later(pause, Ev::Operator);
        Ok(())
    }

    /// A weak edit: a comment, a note or a certificate, written, replaced or removed.
    fn edit_own(&mut self, node: usize) {
        if self.nodes[node].role != Role::Provider {
            return;
        }
        let own = own_tree(&self.nodes[node].disk);
        let (kind, number) = (self.random.range(0, 99), self.random.range(0, 3));
        let (path, content) = match kind {
            0..40 => {
                let file = COMMENTED[self.random.range(0, COMMENTED.len() as u64 - 1) as usize];
                let path = format!("{CONFIGURATION}/{file}");
                let text = own
                    .files
                    .get(&path)
                    .map(|text| String::from_utf8_lossy(text).into_owned());
                let line = format!("# edit {number}");
                let text = with_line(&text.unwrap_or_default(), "# edit", &line, "");
                let emptied = file == "system.toml" && self.random.chance(30);
                (path, Some(if emptied { String::new() } else { text }))
            }
            40..72 => (format!("{CONFIGURATION}/notes/{number}.txt"), None),
            _ => (format!("certificates/ns1/certs/{number}.cert"), None),
        };
        let removed = own.files.contains_key(&path) && content.is_none() && self.random.chance(75);
        // Few contents: the same ones come under several names, and come back.
        let content = content.unwrap_or_else(|| format!("content {}\n", self.random.range(0, 3)));
        let content = Bytes::from(content.into_bytes());
        self.counts.edits += 1;
        self.write_own(node, &path, (!removed).then_some(&content));
        if self.nodes[node].pair.is_some() {
            let (delay, epoch) = (self.random.range(0, NOTICED_MS), self.nodes[node].epoch);
            let event = Event::Tree(TreeEvent::Touched);
            self.later(delay, Ev::Host { node, epoch, event });
        }
    }

    /// A strong change, as `config set` asks for it: of the file as it is now.
    fn propose(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].pair.is_none() || self.nodes[node].frozen_until > self.now {
            return Ok(());
        }
        let ticket = self.trees.wishes.len() as Ticket + 1;
        let name = STRONG[self.random.range(0, STRONG.len() as u64 - 1) as usize];
        let path = format!("{CONFIGURATION}/{name}");
        let before = own_tree(&self.nodes[node].disk).files.remove(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&before);
        let after = if name == "dynamic.toml" {
            let line = format!("retain_bytes = {}", RETAIN_BYTES + ticket);
            let text = with_line(&text, "retain_bytes = ", &line, "");
            let switched = match self.random.chance(35) {
                true => self.switch_over(node, &text)?,
                false => None,
            };
            switched.unwrap_or(text)
        } else {
            with_line(
                &text,
                "sim = ",
                &format!("sim = {ticket}"),
                "[[service]]\nservice_name = \"Radar\"\n",
            )
        };
        // Somebody else was faster: what was read is old.
        let seen = if self.random.chance(8) {
            file_digest(b"older")
        } else {
            file_digest(&before)
        };
        let change = FileChange {
            path: path.clone(),
            old: Some(seen),
            content: Bytes::from(after.into_bytes()),
        };
        let file = TreeFile {
            path,
            bytes: change.content.len() as u64,
            digest: change.digest(),
        };
        let must_replicate = self.random.chance(30);
        let known = !self.random.chance(4);
        let noted = self.note_asked(node, file, must_replicate);
        let proposal = Proposal {
            ticket: noted,
            kind: if known { CONFIG_CHANGE } else { "of-a-later-release" }.to_owned(),
            body: change.encode().into(),
            note: format!("{name} {ticket}"),
            must_replicate,
            queue: None,
        };
        self.step(node, Event::Change(ChangeEvent::Proposed(proposal)));
        Ok(())
    }

    /// Somebody changes a standby's copy. Nobody watches it: the next handshake or start finds it. Answers whether there was one.
    fn edit_copy(&mut self) -> Result<bool, String> {
        let node = if self.promoted { D } else { B };
        let machine = &self.nodes[node];
        let idle = machine.role == Role::Receiver && machine.promotion.is_none() && machine.disk.copied;
        if !idle || machine.journal()?.plan().is_some() {
            return Ok(false);
        }
        let paths: Vec<String> = machine.disk.copy.files.keys().cloned().collect();
        let path = match paths.get(self.random.range(0, paths.len() as u64) as usize) {
            Some(path) => path.clone(),
            None => format!("{CONFIGURATION}/by-hand.txt"),
        };
        let removed = !path.ends_with(".toml") && self.random.chance(40);
        let number = self.random.draw();
        let files = &mut self.nodes[node].disk.copy.files;
        if removed {
            files.remove(&path);
        } else {
            let before = files.get(&path).map(|text| String::from_utf8_lossy(text).into_owned());
            let text = format!("{}# by hand {number}\n", before.unwrap_or_default());
            files.insert(path.clone(), Bytes::from(text.into_bytes()));
        }
        self.trees.edited[node].insert(path, None);
        self.note_copy(node);
        Ok(true)
    }
}
