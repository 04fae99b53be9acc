//! What must hold of a receiver's copy: it is one complete state that the provider had, with the strong changes that it was told to write
//! since; and who is called normal has the provider's tree.

use std::borrow::Cow;

use cvp_core::replication::{Change, Inventory, TreeWork};
use cvp_core::types::Millis;
use cvp_core::types::strategy::Role;

use super::check::{Wish, is_settled};
use super::{Job, own_tree, read_change};
use crate::world::{A, B, C, D, World};

/// An own tree, from a time on.
#[derive(Clone)]
pub struct State {
    pub since: Millis,
    pub inventory: Inventory,
}

impl World {
    /// A node's own tree is another from now on, or may be.
    pub fn note_own(&mut self, node: usize) {
        let inventory = own_tree(&self.nodes[node].disk).inventory();
        let states = &mut self.trees.states[node];
        if states.last().is_none_or(|last| last.inventory != inventory) {
            states.push(State {
                since: self.now,
                inventory,
            });
        }
    }

    /// The copy was written: by a swap, a change or a hand.
    pub fn note_copy(&mut self, node: usize) {
        self.trees.copies[node] = self.nodes[node].disk.copy.inventory();
    }

    pub fn note_swapped(&mut self, node: usize) {
        self.trees.edited[node].clear();
        self.note_copy(node);
        self.check_copy(node);
    }

    pub fn note_applied(&mut self, node: usize, change: &Change) {
        self.note_copy(node);
        if let Ok(file) = read_change(change) {
            self.trees.edited[node].remove(&file.path);
        }
        if let Some(ticket) = self.trees.ticket(change) {
            let committed = self.trees.wish(ticket).is_some_and(|wish| wish.committed.is_some());
            if !committed {
                let name = self.nodes[node].name;
                return self.fail(format!(
                    "{name} writes change {ticket}, which its provider never committed"
                ));
            }
            self.trees.applied[node].push(ticket);
        }
        self.check_copy(node);
    }

    /// What the copy's hand edits are called in the log.
    pub fn note_log(&mut self, node: usize, text: &str) {
        if text.contains("was changed by hand") {
            self.counts.copy_edits_found += 1;
            if self.trees.edited[node].is_empty() {
                let text = format!("{} names an edit that nobody made: {text}", self.nodes[node].name);
                self.fail(text);
            }
        }
    }

    /// Quiet begins: whoever looks at a copy only at a handshake has one.
    pub fn end_unseen_edits(&mut self) {
        for node in [B, D] {
            if !self.trees.edited[node].is_empty() {
                self.end_links(node);
            }
        }
    }

    /// Whose states a copy may hold.
    fn providers(node: usize) -> &'static [usize] {
        match node {
            B => &[A],
            C => &[A, B],
            _ => &[B],
        }
    }

    /// Exact: a state of the provider's, and over it each change that was written into the copy and is younger than that state.
    fn check_copy(&mut self, node: usize) {
        for provider in Self::providers(node) {
            let states = &self.trees.states[*provider];
            for (at, state) in states.iter().enumerate().rev() {
                let mut wanted = Cow::Borrowed(&state.inventory);
                for younger in self.younger(node, *provider, at) {
                    wanted.to_mut().put(younger.file.clone());
                }
                if self.is_copy(node, &wanted, 0) {
                    self.counts.mixed += u64::from(!wanted.same_files(&state.inventory));
                    return;
                }
            }
        }
        let text = format!(
            "the copy of {} is no state that its provider had",
            self.nodes[node].name
        );
        self.fail(text);
    }

    /// Changes written into the copy whose commit is younger than the state; all of a successor's are.
    fn younger(&self, node: usize, provider: usize, at: usize) -> impl Iterator<Item = &Wish> {
        let applied = self.trees.applied[node].iter();
        let wishes = applied.filter_map(|ticket| self.trees.wishes.get(*ticket as usize - 1));
        wishes.filter(move |wish| match wish.committed {
            Some((state, _)) => (wish.node == provider && state > at) || (wish.node, provider) == (B, A),
            None => false,
        })
    }

    /// Whether the copy is this, but for what a hand changed in it and nobody looked at before `seen`.
    fn is_copy(&self, node: usize, wanted: &Inventory, seen: Millis) -> bool {
        let (copy, edits) = (&self.trees.copies[node], &self.trees.edited[node]);
        let edited = |path: &String| edits.get(path).is_some_and(|looked| looked.is_none_or(|at| at >= seen));
        wanted.same_files(copy) || wanted.differing(copy).iter().all(edited)
    }

    /// Who is called normal: the copy is what the provider's tree was within the last 3.5 s.
    /// What a hand changed in the copy counts from the look at it on, for the provider from when it heard.
    pub fn check_normal_trees(&mut self, node: usize, provider: usize, receiver: usize) {
        let states = &self.trees.states[provider];
        let from = self.now.saturating_sub(3_500);
        let old = states.iter().take_while(|state| state.since <= from).count();
        let mut recent = states.iter().skip(old.saturating_sub(1));
        let seen = if node == receiver { Millis::MAX } else { from };
        let equal = recent.any(|state| self.is_copy(receiver, &state.inventory, seen));
        if !equal {
            let (provider, receiver) = (self.nodes[provider].name, self.nodes[receiver].name);
            let name = self.nodes[node].name;
            self.fail(format!(
                "{name} is normal, and {receiver} is without the tree that {provider} has"
            ));
        }
    }

    /// After quiet: both trees are equal byte for byte, and nothing is on its way.
    pub fn check_trees_end(&self, provider: usize, receiver: usize) -> Result<(), String> {
        let own = own_tree(&self.nodes[provider].disk);
        let (from, to) = (&self.nodes[provider], &self.nodes[receiver]);
        if own.files != to.disk.copy.files {
            let differing = own.inventory().differing(&to.disk.copy.inventory());
            return Err(format!("{} and {} differ at {differing:?}", from.name, to.name));
        }
        for node in [from, to] {
            // A receiver looks at its copy every few seconds: that alone changes nothing.
            let changes = |job: &Job| !matches!(job, Job::Tree(TreeWork::Scan { .. }));
            if !is_settled(&node.disk) || node.jobs.iter().any(changes) {
                return Err(format!("{} has a change on its way", node.name));
            }
        }
        debug_assert_eq!(to.role, Role::Receiver);
        self.check_changes_end()
    }
}
