//! The configuration after a promotion, as the node makes it: the provider's whole tree from the copy, with the keys that this node keeps
//! for itself and what the plan says. The survey checks it, the step writes it: both make it here.

use std::collections::BTreeSet;

use cvp_core::config;
use cvp_core::mq::Cursors;
use cvp_core::planted::{self, Fault};
use cvp_core::promotion::{CopyState, Plan, configuration_edits};
use cvp_core::replication::{CERTIFICATES, CONFIG_CHANGE, CONFIGURATION, FileChange};
use cvp_core::types::Namespace;

use crate::configuration::{self, Files};
use crate::disk::{Dead, Disk, Hand};
use crate::queues::queue_change;
use crate::tree::copied_configuration;

fn is_standby(files: &Files) -> bool {
    let node_type = files.get("dynamic.toml").map(|text| config::get(text, "cvp.node_type"));
    matches!(node_type, Some(Ok(Some(value))) if value.trim_matches(['"', '\'']) == "receiver")
}

fn staged(disk: &Disk) -> Result<Option<FileChange>, String> {
    let of_a_file = disk.copy.staged.as_ref().filter(|change| change.kind == CONFIG_CHANGE);
    let change = of_a_file.map(|change| FileChange::decode(&change.body));
    change.transpose().map_err(|error| error.to_string())
}

/// What the provider's tree is once a change that is staged rolls forward.
fn provider_files(disk: &Disk) -> Result<Files, String> {
    let mut theirs = copied_configuration(disk)?;
    if theirs.is_empty() {
        return Err("the copy holds nothing".into());
    }
    if let Some(change) = staged(disk)?
        && let Some(below) = change.path.strip_prefix(&format!("{CONFIGURATION}/"))
        && !planted::active(Fault::StagedDropped)
    {
        theirs.insert(below.to_owned(), String::from_utf8_lossy(&change.content).into_owned());
    }
    Ok(theirs)
}

/// The namespaces that the provider's configuration starts.
pub fn started_by_provider(disk: &Disk) -> Result<BTreeSet<Namespace>, String> {
    configuration::started(&provider_files(disk)?)
}

/// What was never copied does not start: its chain would begin anew here.
fn start_planned(files: &mut Files, plan: &Plan) -> Result<(), String> {
    for name in configuration::started(files)? {
        let planned = plan.namespaces.iter().any(|planned| planned.name == name);
        if !planned && !plan.held.iter().any(|held| held.name == name) {
            switch(files, &name, false)?;
        }
    }
    Ok(())
}

fn switch(files: &mut Files, name: &Namespace, start: bool) -> Result<(), String> {
    let text = files.get("dynamic.toml").ok_or("dynamic.toml is missing")?;
    let text = configuration::switched(text, name, start)?;
    files.insert("dynamic.toml".into(), text);
    Ok(())
}

/// The step of a late plan: what it takes over starts with the node from now on.
pub fn start_late(hand: &mut Hand<'_>, plan: &Plan) -> Result<(), Stop> {
    let mut files = hand.disk.configuration.clone();
    for namespace in &plan.namespaces {
        switch(&mut files, &namespace.name, true)?;
    }
    hand.replace(|disk| disk.configuration = files)?;
    Ok(())
}

/// The tree that the node goes on with; reads only.
fn promoted_files(disk: &Disk, plan: Option<&Plan>) -> Result<Files, String> {
    let mut theirs = provider_files(disk)?;
    if let Some(plan) = plan {
        start_planned(&mut theirs, plan)?;
    }
    let own = if is_standby(&disk.configuration) {
        &disk.configuration
    } else {
        &disk.aside
    };
    for (name, own) in own {
        if let Some(text) = theirs.get_mut(name) {
            *text = config::keep_local(name, text, own, &kept_keys(disk, name))
                .map_err(|error| format!("{name}: {error}"))?;
        }
    }
    for edit in plan.map(configuration_edits).unwrap_or_default() {
        let text = configuration::edited(&theirs, &edit.file, edit.key, edit.value)?;
        theirs.insert(edit.file, text);
    }
    Ok(theirs)
}

/// What the strategies of all namespaces keep of a file.
fn kept_keys(disk: &Disk, name: &str) -> Vec<String> {
    let path = format!("{CONFIGURATION}/{name}");
    let kept = disk.kept.values().flatten().filter(|kept| kept.file == path);
    kept.map(|kept| kept.key.clone()).collect()
}

/// Whether the node could start with the provider's tree and its own keys.
pub fn check(disk: &Disk, plan: Option<&Plan>) -> Result<(), String> {
    configuration::load(&promoted_files(disk, plan)?, false).map(|_| ())
}

/// The copy, as the preflight judges it.
pub fn copy_state(disk: &Disk) -> CopyState {
    if disk.copy.files.is_empty() {
        return CopyState::Missing("it was never copied".into());
    }
    match staged(disk) {
        Ok(change) => CopyState::Whole(change.map(|change| change.path)),
        Err(text) => CopyState::Missing(text),
    }
}

/// Why the step was not completed.
pub enum Stop {
    Died,
    Refused(String),
}

impl From<Dead> for Stop {
    fn from(_: Dead) -> Stop {
        Stop::Died
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Stop {
        Stop::Refused(text)
    }
}

/// The step: the own tree goes aside, the provider's takes its place in one rename, its certificates go to theirs; what was staged is in
/// the copy then. Doing it again ends in the same files.
pub fn take_over(hand: &mut Hand<'_>, plan: &Plan) -> Result<(), Stop> {
    let own = hand.disk.configuration.clone();
    if is_standby(&own) {
        hand.replace(|disk| disk.aside = own)?;
    }
    let promoted = promoted_files(hand.disk, Some(plan))?;
    if planted::active(Fault::ConfigurationInPlace) {
        for (name, text) in promoted {
            hand.write_in_place(&name, &text)?;
        }
    } else {
        hand.replace(|disk| disk.configuration = promoted)?;
    }
    for (path, content) in hand.disk.copy.files.clone() {
        if path.starts_with(CERTIFICATES) && hand.disk.certificates.get(&path) != Some(&content) {
            hand.replace(|disk| drop(disk.certificates.insert(path, content)))?;
        }
    }
    if let Some(wanted) = hand.disk.copy.staged.as_ref().and_then(queue_change) {
        if !planted::active(Fault::StagedDropped) {
            let fresh = || (wanted.registry.clone(), Cursors::default());
            hand.replace(|disk| {
                disk.queues.entry(wanted.namespace.clone()).or_insert_with(fresh).0 = wanted.registry.clone();
            })?;
        }
        hand.replace(|disk| disk.copy.staged = None)?;
    }
    if let Some(change) = staged(hand.disk)? {
        hand.replace(|disk| drop(disk.copy.files.insert(change.path, change.content)))?;
        hand.replace(|disk| disk.copy.staged = None)?;
    }
    Ok(())
}
