//! Random edits of the provider's configuration while the link is cut again and again: when it holds, both trees are the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::dice::Dice;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, configured_p2p};
use cvp_pair::proxy::Proxy;
use cvp_pair::wait;

use crate::configuration::{files, wait_equal};

/// Most bytes that pass before a connection is cut: some end in the handshake, some in the middle of a file.
const BYTES_MAX: u64 = 120_000;
/// Names that may travel, awkward ones among them.
const NAMES: [&str; 12] = [
    "a",
    "b.toml",
    "c d.txt",
    ".hidden",
    ".half.new",
    "-dash",
    "\u{e4}\u{4e2d}.conf",
    "UPPER.Toml",
    "a.b.c",
    "x'y\"z",
    "~tilde#",
    "long",
];

fn edits() -> u64 {
    if std::env::var_os("CVP_TEST_FULL").is_some() {
        1_000
    } else {
        150
    }
}

fn name(dice: &mut Dice) -> String {
    let name = dice.one(&NAMES).copied().unwrap_or("a");
    match name {
        // Also some in one another are no longer than a path of the tree may be.
        "long" => "n".repeat(100),
        other => format!("{other}{}", dice.below(3)),
    }
}

/// Every directory below `at`, itself too.
fn directories(at: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![at.to_owned()];
    let mut next = 0;
    while next < found.len() {
        for entry in std::fs::read_dir(&found[next])? {
            let path = entry?.path();
            if path.is_dir() {
                found.push(path);
            }
        }
        next += 1;
    }
    Ok(found)
}

/// What an editor, a script or an operator does to files below `at`.
fn edit(at: &Path, dice: &mut Dice) -> Result<&'static str> {
    let all: Vec<PathBuf> = files(at)?.into_keys().map(|path| at.join(path)).collect();
    let directories = directories(at)?;
    let inside = dice.one(&directories).context("no directory")?.clone();
    let target = inside.join(name(dice));
    let depth = target.strip_prefix(at)?.components().count();
    let what = dice.below(12);
    Ok(match (what, dice.one(&all)) {
        (0..=1, Some(path)) => {
            std::fs::remove_file(path)?;
            "remove"
        }
        (2..=3, Some(path)) if !target.exists() => {
            std::fs::rename(path, &target)?;
            "rename"
        }
        (4, Some(path)) => {
            // As editors save: another file in its place.
            let aside = inside.join(".save.tmp");
            std::fs::write(&aside, dice.bytes(100))?;
            std::fs::rename(&aside, path)?;
            "save"
        }
        (5, Some(path)) => {
            let content = std::fs::read(path)?;
            std::fs::write(path, &content[..content.len() / 2])?;
            "cut"
        }
        (6, _) if inside != at && !target.exists() && !target.starts_with(&inside) => {
            std::fs::rename(&inside, &target)?;
            "move a directory"
        }
        (6, _) if inside != at => {
            let mut asides = (0..).map(|number| at.join(format!("moved-{number}")));
            let aside = asides.find(|aside| !aside.exists()).context("no free name")?;
            std::fs::rename(&inside, &aside)?;
            "move a directory"
        }
        (7, _) if inside != at => {
            std::fs::remove_dir_all(&inside)?;
            "remove a directory"
        }
        (8, Some(path)) => {
            // A directory where a file was.
            std::fs::remove_file(path)?;
            std::fs::create_dir(path)?;
            std::fs::write(path.join(name(dice)), dice.bytes(50))?;
            "a directory in the place of a file"
        }
        (9, _) if depth < 6 && !target.exists() => {
            std::fs::create_dir(&target)?;
            std::fs::write(target.join(name(dice)), dice.bytes(300))?;
            "a directory"
        }
        _ if target.is_dir() => "nothing",
        _ => {
            let bytes = if dice.below(20) == 0 {
                300_000
            } else {
                dice.below(9_000)
            };
            std::fs::write(&target, dice.bytes(usize::try_from(bytes)?))?;
            "write"
        }
    })
}

/// A value through the command: its answer and the provider's own file agree.
fn set(provider: &Node, dice: &mut Dice) -> Result<&'static str> {
    let (file, key, line, least) = match dice.below(3) {
        0 => ("global/ns_dynamic.toml", "consensus.pool.batch_size", "batch_size", 1),
        _ => ("dynamic.toml", "cvp.max_rate", "max_rate", 1_000_000_000),
    };
    let value = (least + dice.below(5_000)).to_string();
    let path = provider.root().join("configuration").join(file);
    let before = std::fs::read_to_string(&path)?;
    let (exit, answer) = provider.json(&["config", "set", file, key, &value])?;
    let after = std::fs::read_to_string(&path)?;
    let has = after.contains(&format!("{line} = {value}\n"));
    match exit {
        0 => ensure!(has, "{answer}, and {file} has another {key}"),
        1 | 7 => ensure!(before == after, "{exit} {answer}, and {file} was changed"),
        other => anyhow::bail!("{other} {answer}"),
    }
    Ok(match answer["answer"].as_str() {
        Some("replicated") => "set, replicated",
        Some("local") => "set, local",
        Some("weak") => "set, weak",
        _ if exit == 7 => "set, undecided",
        _ => "set, failed",
    })
}

fn certificates_equal(pair: &Pair) -> Result<()> {
    let of = |node: &Node, place: &str| -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut all = files(&node.root().join(place))?;
        all.retain(|path, _| path.extension().is_none_or(|end| end != "priv"));
        Ok(all)
    };
    wait::until("the certificates are the same", Duration::from_secs(20), || {
        let ours = of(&pair.provider, "namespaces/ns1/certs")?;
        let theirs = of(&pair.receiver, "namespaces/ns1/system/cvp")?;
        let (ours_count, theirs_count) = (ours.len(), theirs.len());
        Ok(if ours == theirs {
            Ok(())
        } else {
            Err(format!("{ours_count} files, {theirs_count} in the copy"))
        })
    })
}

#[test]
fn random_edits_over_a_flapping_link_end_in_the_same_tree() -> Result<()> {
    let seed = Dice::seed();
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let ended = flap(seed, &mut done);
    println!("seed {seed}: {done:?}");
    ended.with_context(|| format!("CVP_TEST_SEED={seed}; {done:?}"))
}

fn flap(seed: u64, done: &mut BTreeMap<&str, u64>) -> Result<()> {
    let mut dice = Dice::new(seed);
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    let target = configured_p2p(pair.provider.root())?;
    let proxy = Proxy::start(&target, Dice::new(dice.number()))?;
    proxy.lead(pair.receiver.root(), &target)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let places = ["configuration/of the operator", "namespaces/ns1/certs/more"].map(|at| pair.provider.root().join(at));
    for place in &places {
        std::fs::create_dir(place)?;
    }
    proxy.cut_after(BYTES_MAX);
    for number in 1..=edits() {
        let what = if dice.below(6) == 0 {
            set(&pair.provider, &mut dice)?
        } else {
            edit(dice.one(&places).context("no place")?, &mut dice)?
        };
        *done.entry(what).or_default() += 1;
        match dice.below(25) {
            0 => proxy.cut(),
            // It holds for a while: files travel.
            1 => proxy.cut_after(20 * BYTES_MAX),
            2 => proxy.cut_after(BYTES_MAX),
            _ => {}
        }
        // Edits of a moment, and edits one by one.
        if dice.below(3) == 0 {
            std::thread::park_timeout(Duration::from_millis(dice.below(80)));
        }
        if number % 50 == 0 && dice.below(2) == 0 {
            pair.receiver.kill()?;
            pair.receiver.start()?;
            *done.entry("the receiver is killed").or_default() += 1;
        }
    }
    done.insert("cuts", proxy.cuts());
    proxy.cut_after(0);
    wait_equal(&pair.provider, &pair.receiver)?;
    certificates_equal(&pair)?;
    ensure!(!pair.receiver.root().join("system/cvp/staged").exists());
    ensure!(proxy.cuts() > 0, "the link held all the time");
    for node in [&pair.provider, &pair.receiver] {
        ensure!(
            !node.log().contains("panicked") && !node.log().contains("changed by hand"),
            "{}",
            node.log()
        );
    }
    pair.receiver.verify()
}
