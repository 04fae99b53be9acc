//! The copy of the provider's configuration and certificates: inventories, what is asked for, what is swapped in.
//!
//! The provider tells its inventory when a session opens and whenever its tree changes; the receiver asks for what its copy lacks, one file a
//! request, and puts the new tree in the place of the old one as a whole. So the copy is always one state that the provider had, and the
//! status is normal only while it is the provider's own. Here is the wiring to the machine; the halves are in `give` and `take`.

mod advise;
mod change;
mod give;
mod inventory;
mod memory;
mod paths;
mod shown;
mod take;

use bytes::Bytes;

use crate::frame::{Frame, Kind};
use crate::session::refuse;
use crate::types::strategy::{Level, Role};
use crate::types::{Malformed, Reader, Refusal, Writer};

use super::api::{Action, ConnId};
use super::pair::Pair;
use super::status::TreeStatus;
use super::work::{TreeEvent, TreeWork};
use give::GiveDo;
use paths::is_vital;
use take::TakeDo;

/// Code of certificates that lie outside the directory that is copied.
pub const ELSEWHERE: &str = "elsewhere";
/// Code of a file that is another, or gone, since the inventory was told.
pub const CHANGED: &str = "changed";

pub(super) use advise::FileAdvisor;
pub use advise::KeptKey;
pub use change::{CHANGED_BYTES_MAX, CONFIG_CHANGE, FileChange};
pub(super) use give::Giver;
pub use inventory::{
    FILE_BYTES_MAX, FILES_MAX, Inventory, LEFT_OUT_MAX, LeftOut, PRIVATE_KEY, TREE_BYTES_MAX, TreeFile, file_digest,
};
pub use memory::MemoryTree;
pub use paths::{CERTIFICATES, CONFIGURATION, PATH_BYTES_MAX, check_copied, check_path, is_temporary};
pub(super) use shown::Shown;
pub(super) use take::Taker;

impl Pair {
    pub(super) fn on_tree(&mut self, event: TreeEvent) {
        // A file that is staged moves no inventory, and concerns those alone that asked for it.
        if matches!(event, TreeEvent::Scanned { .. } | TreeEvent::Swapped { .. }) {
            self.shown.moved();
        }
        match event {
            TreeEvent::Touched => match self.setup.role {
                Role::Provider => self.giver.touch(),
                Role::Receiver => self.taker.look_again(),
            },
            TreeEvent::Scanned { generation, inventory } => match self.setup.role {
                Role::Provider => self.giver.on_scanned(generation, inventory),
                Role::Receiver => {
                    let edited = self.taker.on_scanned(inventory);
                    if !edited.is_empty() {
                        self.warn(format!(
                            "the copy of the provider's configuration was changed by hand: {}; the provider's files replace it",
                            edited.join(", ")
                        ));
                    }
                }
            },
            TreeEvent::FileRead {
                conn,
                version,
                path,
                content,
            } => self.on_file_read(conn, version, &path, content),
            TreeEvent::FileStaged { digest, result } => {
                self.taker.on_staged(digest, result, self.now);
                self.tell_staged(digest);
            }
            TreeEvent::Swapped { inventory, result } => {
                self.taker.on_swapped(inventory, result, self.now);
                self.forget_decided();
                self.note_told();
            }
        }
    }

    fn warn(&mut self, text: String) {
        self.out.push(Action::Log {
            level: Level::Warn,
            ns: None,
            text,
        });
    }

    fn on_file_read(&mut self, conn: ConnId, version: u64, path: &str, content: Result<Bytes, Refusal>) {
        let mut out = Writer::new();
        out.u64(version);
        out.text(path);
        out.flag(content.is_ok());
        match &content {
            Ok(content) => out.bytes(content),
            // It changed since it was looked at: another look finds what it is now.
            Err(refusal) => {
                self.giver.touch();
                // Whoever edits a tree while it is copied does nothing wrong.
                if refusal.code != CHANGED {
                    self.warn(format!("send {path} to the receiver: {refusal}"));
                }
            }
        }
        if self.session.as_ref().is_some_and(|session| session.conn == conn) {
            self.giver.on_read();
            self.send_session(Frame::node(Kind::File, out.into_bytes()));
        }
    }

    /// Frames of the tree.
    pub(super) fn on_tree_frame(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let conn = self.session.as_ref().map_or(0, |session| session.conn);
        let malformed = |error: Malformed| refuse::malformed(&format!("a frame {:?}", frame.kind), &error);
        let mut input = Reader::new(&frame.payload);
        match frame.kind {
            Kind::Inventory => {
                let version = input.u64().map_err(malformed)?;
                let inventory = Inventory::read(&mut input).map_err(malformed)?;
                input.finish().map_err(malformed)?;
                let is_new = self.taker.theirs().is_none();
                self.taker.on_inventory(version, inventory);
                self.forget_decided();
                if is_new {
                    self.owe_unheard();
                }
                self.note_told();
                self.shown.moved();
            }
            Kind::FileRequest => {
                let version = input.u64().map_err(malformed)?;
                let path = input.text(PATH_BYTES_MAX).map_err(malformed)?;
                input.finish().map_err(malformed)?;
                if let Some(wanted) = self.giver.on_request(version, path)? {
                    self.out.push(Action::Tree(TreeWork::ReadFile {
                        conn,
                        version: wanted.version,
                        path: wanted.path,
                        digest: wanted.digest,
                    }));
                }
            }
            Kind::File => {
                let (version, path, content) = read_file_frame(&frame.payload).map_err(malformed)?;
                let content = content.map(|range| frame.payload.slice(range));
                if let Some((digest, content)) = self.taker.on_file(version, path, content)? {
                    self.out.push(Action::Tree(TreeWork::StageFile { digest, content }));
                }
            }
            _ => {
                let version = input.u64().map_err(malformed)?;
                let trouble = input.option(Refusal::read).map_err(malformed)?;
                input.finish().map_err(malformed)?;
                self.giver.on_held(version, trouble)?;
                self.shown.moved();
            }
        }
        Ok(())
    }

    /// After each event: scans, inventories, requests, the swap.
    pub(super) fn settle_tree(&mut self) {
        match self.setup.role {
            Role::Provider => {
                self.owe_moved();
                for index in 0..self.lanes.len() {
                    self.pump_files(index);
                }
                // What the receiver holds staged is settled before it hears of any tree.
                for told in self.giver.settle(self.changes.is_settled(), self.now) {
                    match told {
                        GiveDo::Scan { generation, whole } => {
                            self.out.push(Action::Tree(TreeWork::Scan { generation, whole }));
                        }
                        GiveDo::Tell(version, inventory) => {
                            let mut out = Writer::new();
                            out.u64(version);
                            inventory.write(&mut out);
                            self.send_session(Frame::node(Kind::Inventory, out.into_bytes()));
                        }
                    }
                }
                // Not with the receiver's word: a look at the tree may have been under way then, which found it as it was.
                if self.giver.is_held() {
                    self.changes.unreplicated.clear();
                }
            }
            Role::Receiver => {
                // A strong change that is being written changes the copy as well.
                if !self.changes.is_quiet() {
                    return;
                }
                self.owe_moved();
                for index in 0..self.lanes.len() {
                    self.pump_files(index);
                }
                if !self.taker.may_settle(self.now) {
                    return;
                }
                let Some(advice) = self.file_advice() else { return };
                for told in self.taker.settle(self.now, &advice) {
                    self.take(told);
                }
            }
        }
    }

    /// What the provider told last is kept where the copy is another: an upgrade names the difference, also after a restart.
    pub(super) fn note_told(&mut self) {
        if let Some(note) = self.taker.note() {
            self.take(note);
        }
    }

    fn take(&mut self, told: TakeDo) {
        match told {
            TakeDo::Note(told) => self.out.push(Action::Tree(TreeWork::Note { told })),
            TakeDo::Scan { whole } => self.out.push(Action::Tree(TreeWork::Scan { generation: 0, whole })),
            TakeDo::Ask(version, path) => {
                let mut out = Writer::new();
                out.u64(version);
                out.text(&path);
                self.send_session(Frame::node(Kind::FileRequest, out.into_bytes()));
            }
            TakeDo::Forget => self.out.push(Action::Tree(TreeWork::Forget)),
            TakeDo::Swap(inventory) => self.out.push(Action::Tree(TreeWork::Swap { inventory })),
            TakeDo::Held(version, trouble) => {
                let mut out = Writer::new();
                out.u64(version);
                out.option(trouble.as_ref(), |out, refusal| refusal.write(out));
                self.send_session(Frame::node(Kind::TreeHeld, out.into_bytes()));
            }
        }
    }

    /// Why the copy is not the provider's tree, if it is not.
    pub(super) fn tree_reasons(&self, reasons: &mut Vec<Refusal>) {
        let trouble = match self.setup.role {
            Role::Provider => self.giver.trouble(),
            Role::Receiver => self.taker.trouble(),
        };
        let TreeStatus {
            equal,
            to_come,
            left_out,
            ..
        } = self.tree_status();
        if let Some(trouble) = trouble {
            reasons.push(Refusal {
                code: format!("configuration-{}", trouble.code).into(),
                ..trouble
            });
        } else if !equal {
            reasons.push(Refusal::new(
                "configuration-behind",
                match to_come {
                    0 => "the copy of the configuration is not the provider's yet".to_owned(),
                    files => format!("the copy of the configuration is not the provider's yet: {files} files differ"),
                },
                "it is being copied; if this stays, see the logs of both nodes",
            ));
        }
        for lane in &self.lanes {
            if let Some(reason) = lane.files.refusal() {
                reasons.push(Refusal::new(
                    "configuration-strategy-refused",
                    format!("{}: {reason}", lane.setup.namespace),
                    "see the strategy named by `cvp plugin list`",
                ));
            }
        }
        for left in left_out {
            if self.is_needed(&left.path) {
                reasons.push(Refusal::new(
                    "configuration-incomplete",
                    format!(
                        "{} is not copied, and an upgrade needs it: {}; the standby keeps the version that it got last, if any",
                        left.path, left.reason
                    ),
                    match left.code.as_str() {
                        PRIVATE_KEY => "move the private key out of this file",
                        ELSEWHERE => "keep them below certs/, and set encryption.ecert.ecert",
                        _ => "make it an ordinary file or directory again",
                    },
                ));
            } else if left.code != PRIVATE_KEY {
                reasons.push(Refusal::new(
                    "configuration-refused",
                    format!("{} is not copied: {}", left.path, left.reason),
                    "move it out of the provider's configuration, or make it an ordinary file",
                ));
            }
        }
    }

    /// Whether a node cannot go on without what lies at a path: a file, or the directory of a namespace that runs.
    fn is_needed(&self, path: &str) -> bool {
        let runs = |name: &str| {
            let mut lanes = self.lanes.iter();
            lanes.any(|lane| lane.setup.namespace.as_str() == name)
        };
        match path.split('/').collect::<Vec<_>>().as_slice() {
            [CONFIGURATION | CERTIFICATES, name] | [CERTIFICATES, name, "certs"] => is_vital(path) || runs(name),
            _ => is_vital(path),
        }
    }

    /// What an operator should know of the copy, behind a code each.
    pub(super) fn tree_warnings(&self) -> Vec<String> {
        let status = self.tree_status();
        // A key among the certificates is where keys belong, if it is a key by its name.
        let secrets = status.left_out.iter().filter(|left| left.code == PRIVATE_KEY);
        let misplaced = secrets.filter(|left| !is_key_in_its_place(&left.path) && !self.is_needed(&left.path));
        let mut warnings: Vec<String> = misplaced
            .map(|left| format!("{PRIVATE_KEY}: {} is not copied: {}", left.path, left.reason))
            .collect();
        let edited = status.edited.iter();
        warnings
            .extend(edited.map(|path| format!("copy-edited: {path} was changed by hand; the provider's replaces it")));
        warnings
    }

    /// The copy, as this end sees it.
    pub(super) fn tree_status(&self) -> TreeStatus {
        let (equal, theirs) = match self.setup.role {
            Role::Provider => (self.giver.is_held(), self.giver.inventory()),
            // What is staged may still be on its way out of the disk.
            Role::Receiver => (self.taker.is_equal() && self.changes.is_quiet(), self.taker.theirs()),
        };
        TreeStatus {
            equal,
            files: theirs.map_or(0, |inventory| inventory.files.len()),
            to_come: self.taker.to_come(),
            left_out: theirs.map(|inventory| inventory.left_out.clone()).unwrap_or_default(),
            edited: self.taker.edited().to_vec(),
        }
    }
}

/// Keys of the node and of TLS beside their certificates: nobody expects them to travel.
fn is_key_in_its_place(path: &str) -> bool {
    let name = path.to_ascii_lowercase();
    path.starts_with(CERTIFICATES) && (name.ends_with(".priv") || name.ends_with(".key"))
}

/// Version, path, and where the content stands in the payload.
fn read_file_frame(payload: &[u8]) -> Result<(u64, &str, Option<std::ops::Range<usize>>), Malformed> {
    let mut input = Reader::new(payload);
    let version = input.u64()?;
    let path = input.text(PATH_BYTES_MAX)?;
    if !input.flag()? {
        input.finish()?;
        return Ok((version, path, None));
    }
    let content = input.bytes(FILE_BYTES_MAX as usize)?;
    input.finish()?;
    let end = payload.len();
    Ok((version, path, Some(end - content.len()..end)))
}
