//! Peers with good certificates that misuse the copy of the configuration and strong changes: cut off or refused, nothing of theirs is
//! kept, and the true pair goes on.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use cvp_core::frame::{Frame, HEADER_BYTES, Kind};
use cvp_core::replication::{Change, ChangeId, Inventory, TreeFile, file_digest};
use cvp_core::types::{Reader, Refusal, Writer};
use cvp_pair::pair::{Pair, Setup, configured_p2p};
use cvp_pair::peer::{Guise, Online, Standby, TlsSet, geneses, hello};

use crate::configuration::{copy_of, files, wait_equal};

/// Stands in everything that a hostile provider sends.
pub const EVIL: &[u8] = b"nobody's configuration";
pub const NEW: &str = "configuration/new.toml";

/// What a provider says of itself, and what nobody may keep of it.
struct Liar<'a, 'b> {
    online: &'a mut Online<'b>,
    /// The true tree.
    tree: Inventory,
    version: u64,
}

fn evil(path: &str) -> TreeFile {
    TreeFile {
        path: path.to_owned(),
        bytes: EVIL.len() as u64,
        digest: file_digest(EVIL),
    }
}

/// Payload of an inventory frame, checked by nobody.
fn inventory(version: u64, inventory: &Inventory) -> Vec<u8> {
    let mut out = Writer::new();
    out.u64(version);
    inventory.write(&mut out);
    out.into_bytes()
}

fn file(version: u64, path: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.u64(version);
    out.text(path);
    out.flag(true);
    out.bytes(content);
    out.into_bytes()
}

pub fn change(sequence: u64, kind: &str, body: Vec<u8>) -> Change {
    let incarnation = [0xe7; 16];
    Change {
        id: ChangeId { incarnation, sequence },
        kind: kind.to_owned(),
        body: body.into(),
    }
}

/// Body of a change of one file; written by hand, since no path is too bad.
pub fn body(path: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.text(path);
    out.option(None::<&u8>, |_, _| ());
    out.bytes(content);
    out.into_bytes()
}

fn id(change: &Change) -> Vec<u8> {
    let mut out = Writer::new();
    change.id.write(&mut out);
    out.into_bytes()
}

impl Liar<'_, '_> {
    /// An inventory of the true tree, with more.
    fn with(&self, more: Vec<TreeFile>) -> Vec<u8> {
        let mut files = self.tree.files.clone();
        files.extend(more);
        inventory(self.version, &Inventory::new(files, Vec::new()))
    }

    fn tell(&mut self, payload: Vec<u8>) -> Result<()> {
        self.online.say(Kind::Inventory, payload)
    }

    /// Waits for the receiver's wish; its path.
    fn asked(&mut self) -> Result<String> {
        let payload = self.online.hear(Kind::FileRequest)?;
        let mut input = Reader::new(&payload);
        let version = input.u64().map_err(|error| anyhow!("{error}"))?;
        ensure!(version == self.version, "version {version}");
        Ok(input.text(1 << 10).map_err(|error| anyhow!("{error}"))?.to_owned())
    }

    fn prepare(&mut self, change: &Change) -> Result<()> {
        self.online.say(Kind::Prepare, change.encode())
    }

    /// The receiver must refuse the change; the session goes on.
    fn is_refused(&mut self, change: &Change, code: &str) -> Result<()> {
        self.prepare(change)?;
        let payload = self.online.hear(Kind::Aborted)?;
        let mut input = Reader::new(&payload);
        let id = ChangeId::read(&mut input).map_err(|error| anyhow!("{error}"))?;
        let refusal = input.option(Refusal::read).map_err(|error| anyhow!("{error}"))?;
        let refusal = refusal.context("no reason")?;
        ensure!(id == change.id && refusal.code == code, "{refusal}");
        Ok(())
    }

    /// The receiver says that it cannot hold the tree.
    fn is_in_trouble(&mut self, code: &str) -> Result<()> {
        let payload = self.online.hear(Kind::TreeHeld)?;
        let mut input = Reader::new(&payload);
        input.u64().map_err(|error| anyhow!("{error}"))?;
        let trouble = input.option(Refusal::read).map_err(|error| anyhow!("{error}"))?;
        let trouble = trouble.context("the receiver holds the tree")?;
        ensure!(trouble.code == code, "{trouble}");
        Ok(())
    }
}

/// What a provider does wrong, and the code of the goodbye (`None`: the session stands, and the liar itself ends it).
type Lie = (&'static str, fn(&mut Liar<'_, '_>) -> Result<()>, Option<&'static str>);

fn paths(paths: &[&str]) -> Inventory {
    Inventory {
        files: paths.iter().map(|path| evil(path)).collect(),
        left_out: Vec::new(),
    }
}

fn numbered(count: usize, bytes: u64) -> Inventory {
    let file = |number: usize| TreeFile {
        bytes,
        ..evil(&format!("configuration/{number:05}"))
    };
    Inventory {
        files: (0..count).map(file).collect(),
        left_out: Vec::new(),
    }
}

/// What it is, and how it is made.
type Told = (&'static str, fn() -> Inventory);

const INVENTORIES: [Told; 10] = [
    ("a path that leaves the tree", || {
        paths(&["configuration/../../../evil"])
    }),
    ("an absolute path", || paths(&["/tmp/evil"])),
    ("a path of no tree", || paths(&["tls/tls_peer.priv"])),
    ("a control character", || paths(&["configuration/a\nb"])),
    ("a private key's name", || paths(&["configuration/key.Priv"])),
    ("a temporary name", || paths(&["configuration/.dynamic.toml.7.new"])),
    ("an order that is none", || {
        paths(&["configuration/b", "configuration/a"])
    }),
    ("a file that is a directory", || {
        paths(&["configuration/a", "configuration/a/b"])
    }),
    ("too many files", || numbered(4_097, 1)),
    ("a tree that is too large", || numbered(65, 4 << 20)),
];

const LIES: [Lie; 17] = [
    (
        "a file that is too large",
        |it| it.tell(inventory(1, &numbered(1, (4 << 20) + 1))),
        Some("malformed"),
    ),
    (
        "a count that is a lie",
        |it| it.tell([&[1; 8][..], &[0xff; 4]].concat()),
        Some("malformed"),
    ),
    (
        "a wrong digest",
        |it| {
            let told = it.with(vec![TreeFile {
                digest: file_digest(b"another"),
                ..evil(NEW)
            }]);
            it.tell(told)?;
            ensure!(it.asked()? == NEW);
            it.online.say(Kind::File, file(it.version, NEW, EVIL))
        },
        Some("protocol"),
    ),
    (
        "a file that nobody asked for",
        |it| {
            it.tell(it.with(vec![evil(NEW)]))?;
            it.asked()?;
            it.online
                .say(Kind::File, file(it.version, "configuration/dynamic.toml", EVIL))
        },
        Some("protocol"),
    ),
    (
        "a file twice",
        |it| {
            it.tell(it.with(vec![
                evil(NEW),
                TreeFile {
                    digest: file_digest(b"never"),
                    ..evil("configuration/z")
                },
            ]))?;
            it.asked()?;
            it.online.say(Kind::File, file(it.version, NEW, EVIL))?;
            it.online.say(Kind::File, file(it.version, NEW, EVIL))
        },
        Some("protocol"),
    ),
    (
        "a file before any inventory",
        |it| it.online.say(Kind::File, file(7, NEW, EVIL)),
        None,
    ),
    (
        "a file frame that is none",
        |it| it.online.say(Kind::File, EVIL.to_vec()),
        Some("malformed"),
    ),
    (
        "a private key as a file",
        |it| {
            let key = [rcgen::KeyPair::generate()?.serialize_pem().as_bytes(), EVIL].concat();
            let told = TreeFile {
                bytes: key.len() as u64,
                digest: file_digest(&key),
                ..evil(NEW)
            };
            it.tell(it.with(vec![told]))?;
            it.asked()?;
            it.online.say(Kind::File, file(it.version, NEW, &key))?;
            it.is_in_trouble("private-key")
        },
        None,
    ),
    (
        "a commit of nothing",
        |it| it.online.say(Kind::Commit, id(&change(1, "config", Vec::new()))),
        Some("protocol"),
    ),
    (
        "a commit that is none",
        |it| it.online.say(Kind::Commit, EVIL.to_vec()),
        Some("malformed"),
    ),
    (
        "a commit of another change",
        |it| {
            it.prepare(&change(1, "config", body("configuration/dynamic.toml", EVIL)))?;
            it.online.hear(Kind::Prepared)?;
            it.online.say(Kind::Commit, id(&change(2, "config", Vec::new())))
        },
        Some("protocol"),
    ),
    (
        "a change of an unknown kind",
        |it| it.is_refused(&change(1, "evil", EVIL.to_vec()), "unknown-change"),
        None,
    ),
    (
        "changes with bad paths",
        |it| {
            for path in [
                "configuration/../../evil",
                "/tmp/evil",
                "tls/evil",
                "configuration/x.priv",
            ] {
                it.is_refused(&change(1, "config", body(path, EVIL)), "bad-change")
                    .context(path)?;
            }
            for path in ["configuration/global", "configuration/dynamic.toml/below"] {
                it.is_refused(&change(1, "config", body(path, EVIL)), "bad-path")
                    .context(path)?;
            }
            Ok(())
        },
        None,
    ),
    (
        "a change with a private key",
        |it| {
            let key = rcgen::KeyPair::generate()?.serialize_pem();
            let content = [b"# ", EVIL, b"\n", key.as_bytes()].concat();
            it.is_refused(
                &change(1, "config", body("configuration/dynamic.toml", &content)),
                "private-key",
            )
        },
        None,
    ),
    (
        "a change that is none",
        |it| it.online.say(Kind::Prepare, EVIL.to_vec()),
        Some("malformed"),
    ),
    (
        "a receiver's words",
        |it| it.online.say(Kind::FileRequest, EVIL.to_vec()),
        Some("protocol"),
    ),
    (
        "a change twice",
        |it| {
            let staged = change(1, "config", body("configuration/dynamic.toml", EVIL));
            it.prepare(&staged)?;
            it.online.hear(Kind::Prepared)?;
            it.prepare(&staged)
        },
        Some("protocol"),
    ),
];

/// Where something of a liar lies; what is staged for a swap, and a change that waits for its provider's word, are nobody's truth yet.
fn kept(pair: &Pair) -> Result<Vec<PathBuf>> {
    let all = files(pair.directory.path())?;
    let holds = |content: &Vec<u8>| content.windows(EVIL.len()).any(|window| window == EVIL);
    let waits = |path: &PathBuf| path.starts_with("cvp/system/cvp/staging") || path.ends_with("system/cvp/staged");
    let found = all.into_iter().filter(|(path, content)| holds(content) && !waits(path));
    Ok(found.map(|(path, _)| path).collect())
}

#[test]
fn a_provider_that_lies_about_its_tree_changes_nothing() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.receiver
        .provokes(&["(malformed)", "(malformed-frame)", "(protocol)"]);
    pair.provider.start()?;
    let set = TlsSet::of(pair.receiver.root())?;
    let own = hello(pair.receiver.root(), "cvp")?;
    let attached = Standby::attach(pair.provider.p2p(), "node1", &set, &own)?;
    let guise = Guise {
        hello: attached.map_err(|refusal| anyhow!("{refusal}"))?.provider,
        chains: geneses(pair.provider.root())?
            .into_iter()
            .map(|(namespace, genesis)| (namespace, (genesis, Vec::new())))
            .collect(),
    };
    // It dials again at once after each of many goodbyes.
    let file = pair.receiver.root().join("configuration/system.toml");
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.contains("retrytime = \"3s\""));
    std::fs::write(&file, text.replace("retrytime = \"3s\"", "retrytime = \"20ms\""))?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.provider.stop()?;
    let copy = files(&copy_of(&pair.receiver))?;
    let certificates = pair.receiver.root().join("namespaces/global/system/cvp");
    let backup = files(&certificates)?;
    let tree = true_tree(&copy, &backup);

    let set = TlsSet::of(pair.provider.root())?;
    let listener = TcpListener::bind(configured_p2p(pair.provider.root())?)?;
    let unchanged = |what: &str| -> Result<()> {
        ensure!(files(&copy_of(&pair.receiver))? == copy, "{what}: the copy was changed");
        ensure!(files(&certificates)? == backup, "{what}: the certificates were changed");
        let kept = kept(&pair)?;
        ensure!(kept.is_empty(), "{what}: kept in {kept:?}");
        Ok(())
    };
    for (what, inventory_of) in INVENTORIES {
        let mut online = Online::accept(&listener, &set, &guise).context(what)?;
        settled(&mut online).context(what)?;
        online.say(Kind::Inventory, inventory(1, &inventory_of()))?;
        let goodbye = online.ended().context(what)?.context(what)?;
        ensure!(goodbye.code == "malformed", "{what}: {goodbye}");
        unchanged(what)?;
    }
    for (what, lie, code) in LIES {
        let mut online = Online::accept(&listener, &set, &guise).context(what)?;
        settled(&mut online).context(what)?;
        let mut liar = Liar {
            online: &mut online,
            tree: tree.clone(),
            version: 1,
        };
        lie(&mut liar).context(what)?;
        if let Some(code) = code {
            let goodbye = online.ended().context(what)?.context(what)?;
            ensure!(goodbye.code == code, "{what}: {goodbye}");
        }
        drop(online);
        unchanged(what)?;
    }
    // Nothing is read of a frame that is longer than its kind may be.
    let mut online = Online::accept(&listener, &set, &guise)?;
    let mut header: [u8; HEADER_BYTES] = Frame::node(Kind::Inventory, Vec::new()).encode_header(false);
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    online.wire().say(&header)?;
    online.ended()?;
    unchanged("a giant inventory")?;
    drop((online, listener));

    // The last change that a liar staged is settled by the true provider.
    ensure!(pair.receiver.root().join("system/cvp/staged").exists());
    pair.provider.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(!pair.receiver.root().join("system/cvp/staged").exists());
    ensure!(files(&copy_of(&pair.receiver))? == copy && kept(&pair)?.is_empty());
    ensure!(!pair.receiver.log().contains("panicked"));
    pair.receiver.verify()
}

/// The true provider's inventory, from what the standby holds.
fn true_tree(copy: &BTreeMap<PathBuf, Vec<u8>>, backup: &BTreeMap<PathBuf, Vec<u8>>) -> Inventory {
    let below = |prefix: &str, files: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<TreeFile> {
        let file = |(path, content): (&PathBuf, &Vec<u8>)| TreeFile {
            path: format!("{prefix}/{}", path.display()),
            bytes: content.len() as u64,
            digest: file_digest(content),
        };
        files.iter().map(file).collect()
    };
    let mut all = below("configuration", copy);
    all.extend(below("certificates/global", backup));
    Inventory::new(all, Vec::new())
}

/// Hears what the receiver holds staged, and has it dropped, as a provider must before anything else.
fn settled(online: &mut Online<'_>) -> Result<()> {
    let payload = online.hear(Kind::Staged)?;
    let staged = Reader::new(&payload).option(ChangeId::read);
    if let Some(id) = staged.map_err(|error| anyhow!("{error}"))? {
        let mut out = Writer::new();
        id.write(&mut out);
        online.say(Kind::Abort, out.into_bytes())?;
        online.hear(Kind::Aborted)?;
    }
    Ok(())
}
