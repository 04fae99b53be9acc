//! What must hold of a promotion: it ends in one state whatever crashes on its way, it never leaves two configurations mixed, and
//! nobody's role, identity or incarnation goes back.

use std::collections::BTreeMap;

use bytes::Bytes;
use cvp_core::chain::{state, takeover_delta};
use cvp_core::ledger::Ledger;
use cvp_core::promotion::{Append, HeldNamespace, Journal, Plan, PlannedNamespace, Sink, Step, StepReport, promote};
use cvp_core::record::parse;
use cvp_core::types::strategy::Role;
use cvp_core::types::{Height, Malformed, Refusal};

use super::sink::SimSink;
use crate::configuration;
use crate::disk::{Disk, Hand};
use crate::node::Store;
use crate::world::{B, World};

/// Where a promotion with this plan ends when nothing goes wrong: small files only, the blocks follow from the plan.
pub struct Expected {
    pub plan: Plan,
    pub disk: Disk,
}

/// The same effects without a crash; take-over blocks are judged apart.
struct Undisturbed<'a>(SimSink<'a>);

impl Sink for Undisturbed<'_> {
    fn perform(&mut self, step: Step, plan: &Plan) -> Result<Vec<HeldNamespace>, Refusal> {
        if step == Step::Takeover {
            return Ok(Vec::new());
        }
        self.0.perform(step, plan)
    }

    fn record(&mut self, step: Step, append: &Append) -> Result<(), Refusal> {
        self.0.record(step, append)
    }

    fn report(&mut self, _report: &StepReport) {}
}

impl World {
    /// Core's preflight let pass: then nobody answers under the provider's address.
    pub(super) fn check_target_is_gone(&mut self, node: usize) {
        let remote = self.nodes[node].remote().map(|remote| remote.address.clone());
        let Some(target) = remote.and_then(|address| self.node_at(&address)) else {
            return;
        };
        let provider = &self.nodes[target];
        if provider.pair.is_some() && provider.frozen_until <= self.now && !self.is_cut_off(node, target) {
            let text = format!(
                "{} is promoted although {} answers",
                self.nodes[node].name, self.nodes[target].name
            );
            self.fail(text);
        }
    }

    /// Runs the promotion on a copy of the disk, without a crash, and remembers the end.
    pub(super) fn expect_end(&mut self, node: usize, plan: &Plan) -> Result<(), String> {
        let machine = &mut self.nodes[node];
        let mut disk = machine.disk.clone();
        let mut journal = machine.journal()?;
        let mut sink = Undisturbed(SimSink {
            hand: Hand {
                disk: &mut disk,
                random: &mut self.random.clone(),
                left: &mut None,
            },
            stores: &mut [],
            now: self.now,
            resumed: false,
            died: false,
        });
        let reports = promote(&mut journal, plan.clone(), &mut sink);
        if let Some(failed) = reports.iter().find(|report| report.failed()) {
            return Err(format!("a promotion without a crash fails: {failed:?}"));
        }
        machine.expected.push(Expected {
            plan: plan.clone(),
            disk,
        });
        Ok(())
    }

    fn expected(&self, node: usize, journal: &Journal) -> Result<&Expected, String> {
        let machine = &self.nodes[node];
        let forgotten = || format!("the journal of {} has forgotten its promotion", machine.name);
        let plan = journal.plan().ok_or_else(forgotten)?;
        let mut expected = machine.expected.iter();
        expected.find(|expected| expected.plan == *plan).ok_or_else(|| {
            format!(
                "the journal of {} holds a plan that nobody made: {plan:?}",
                machine.name
            )
        })
    }

    /// What a start goes on with was begun here.
    pub(super) fn check_resumed(&self, node: usize, journal: &Journal) -> Result<(), String> {
        self.expected(node, journal).map(|_| ())
    }

    /// A promotion has ended: each file is what it would be without a crash, and each chain has one block more, the take-over block.
    pub(super) fn check_end_state(&self, node: usize) -> Result<(), String> {
        let machine = &self.nodes[node];
        let journal = machine.journal()?;
        let Expected { plan, disk } = self.expected(node, &journal)?;
        self.check_incarnation(node, plan)?;
        let differs = |what: &str| Err(format!("the promotion of {} ends with another {what}", machine.name));
        if machine.disk.identity != disk.identity {
            return differs("identity");
        }
        if machine.disk.binding != disk.binding {
            return differs("binding");
        }
        let own = |disk: &Disk| {
            (
                disk.configuration.clone(),
                disk.aside.clone(),
                disk.certificates.clone(),
            )
        };
        if own(&machine.disk) != own(disk) {
            return differs("configuration");
        }
        if (&machine.disk.copy.files, &machine.disk.copy.staged) != (&disk.copy.files, &disk.copy.staged) {
            return differs("copy");
        }
        let registries = |disk: &Disk| -> Vec<_> {
            let queues = disk.queues.iter();
            queues
                .map(|(ns, (registry, _))| (ns.clone(), registry.clone()))
                .collect()
        };
        if registries(&machine.disk) != registries(disk) {
            return differs("registry of queues");
        }
        let config = configuration::load(&machine.disk.configuration, false)?;
        if config.dynamic.jsonrpc_port != configuration::port(Role::Receiver) {
            return differs("port than its own");
        }
        self.check_not_lost()?;
        let held_more = journal.held().len() > plan.held.len();
        if !held_more && Journal::read(&disk.journal.read()).ok().as_ref() != Some(&journal) {
            return differs("journal");
        }
        let taken = |planned: &&PlannedNamespace| !journal.held().contains_key(&planned.name);
        for planned in plan.namespaces.iter().filter(taken) {
            let mut stores = machine.stores.iter();
            let Some(store) = stores.find(|store| store.namespace == planned.name) else {
                return differs("list of stores");
            };
            let height = planned.durable.height + 1;
            if store.ledger.tips().appended.height != height || store.durable().height != height {
                return differs(&format!("tip of {}: {:?}", planned.name, store.ledger.tips()));
            }
            self.check_takeover_block(node, plan, height, &store.ledger)?;
        }
        Ok(())
    }

    fn check_takeover_block(
        &self,
        node: usize,
        plan: &Plan,
        height: Height,
        ledger: &dyn Ledger,
    ) -> Result<(), String> {
        if height < ledger.history_from() {
            // It went with the history that is not kept.
            return Ok(());
        }
        let bytes = ledger.record(height).map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or("the take-over block is not applied")?;
        let record = parse(&bytes).map_err(|error| error.to_string())?;
        let header = record.header();
        let changes = changes(&bytes).map_err(|error| error.to_string())?;
        let wanted = takeover_delta(plan.old, plan.new, height - 1);
        if (header.incarnation, &header.proposer) != (plan.new, &plan.hostname) || changes != wanted {
            return Err(format!(
                "record {height} of {} is not the take-over block of its plan",
                self.nodes[node].name
            ));
        }
        Ok(())
    }

    fn check_incarnation(&self, node: usize, plan: &Plan) -> Result<(), String> {
        let machine = &self.nodes[node];
        let current = machine.identity()?.lineage.current();
        if current != Some(plan.new) {
            return Err(format!(
                "{} is promoted under incarnation {current:?}, its plan says {}",
                machine.name, plan.new
            ));
        }
        Ok(())
    }

    /// The whole chains of the promoted node: one incarnation, one take-over block, then the other incarnation; that block where the plan
    /// says, for what was taken over with a plan.
    pub fn check_reigns(&self, node: usize) -> Result<(), String> {
        let machine = &self.nodes[node];
        let last = &self.expected(node, &machine.journal()?)?.plan;
        let lineage = machine.identity()?.lineage;
        for store in machine.stores_running() {
            let (name, first) = (&store.namespace, first_of(store, last)?);
            let mut plans = machine.expected.iter().map(|expected| &expected.plan).rev();
            let planned = plans.find_map(|plan| {
                let mut planned = plan.namespaces.iter().filter(|_| plan.new == last.new);
                planned.find(|planned| planned.name == *name)
            });
            let Some(planned) = planned else { continue };
            // Where the take-over block itself went, the plan says where it was.
            let gone = planned.durable.height + 1 < store.ledger.history_from();
            let first = if gone { planned.durable.height + 1 } else { first };
            if first != planned.durable.height + 1 {
                return Err(format!(
                    "record {first} of {name} takes over, or {} does not",
                    planned.durable.height + 1
                ));
            }
            let starts = lineage.reigns().last().map(|reign| &reign.starts);
            if !starts.is_some_and(|starts| {
                starts
                    .iter()
                    .any(|start| start.namespace == *name && start.first == first)
            }) {
                return Err(format!("the lineage does not say where {} begins in {name}", last.new));
            }
        }
        Ok(())
    }

    /// A machine begins to run: its files agree with each other and with its journal, and nothing of it went back.
    pub fn check_standing(&mut self, node: usize) -> Result<(), String> {
        let machine = &self.nodes[node];
        let (name, role, identity) = (machine.name, machine.role, machine.identity()?);
        let number = identity.lineage.current().map_or(0, |incarnation| incarnation.number);
        if let Some((was, node_id, before)) = machine.standing {
            if was == Role::Provider && role == Role::Receiver {
                return Err(format!("{name} was a provider, and receives again"));
            }
            if number < before {
                return Err(format!(
                    "{name} spoke under incarnation {before}, and now under {number}"
                ));
            }
            if was == role && node_id != identity.node_id {
                return Err(format!("{name} was node {node_id}, and now is {}", identity.node_id));
            }
        }
        if node == B {
            self.check_promoted_files(node)?;
        }
        self.nodes[node].standing = Some((role, identity.node_id, number));
        Ok(())
    }

    fn check_promoted_files(&self, node: usize) -> Result<(), String> {
        let machine = &self.nodes[node];
        if !self.promoted {
            return match machine.role {
                Role::Receiver => Ok(()),
                Role::Provider => Err(format!("{} is a provider, and nobody promoted it", machine.name)),
            };
        }
        if machine.role == Role::Receiver {
            return Err(format!("{} receives although its promotion has begun", machine.name));
        }
        let Expected { plan, disk } = self.expected(node, &machine.journal()?)?;
        self.check_incarnation(node, plan)?;
        if machine.disk.configuration != disk.configuration {
            return Err(format!("{} runs with two configurations mixed", machine.name));
        }
        Ok(())
    }
}

/// The first record of the new incarnation; with older ones below it, it is the take-over block and no other is.
fn first_of(store: &Store, plan: &Plan) -> Result<Height, String> {
    let (name, key) = (&store.namespace, state::takeover_key(plan.new.number));
    let mut first = None;
    let from = store.ledger.history_from().max(1);
    for height in from..=store.durable().height {
        let bytes = store.ledger.record(height).map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("record {height} is not applied"))?;
        let record = parse(&bytes).map_err(|error| error.to_string())?;
        let incarnation = record.header().incarnation;
        if incarnation == plan.new {
            first.get_or_insert(height);
        } else if incarnation != plan.old || first.is_some() {
            return Err(format!("record {height} of {name} is of incarnation {incarnation}"));
        }
        let takes_over = changes(&bytes).map_err(|error| error.to_string())?.contains_key(&key);
        // Over the genesis it is made by a plan only.
        // And below what is kept nobody can tell.
        let over_genesis = height == from && first == Some(from);
        if takes_over != (first == Some(height)) && !over_genesis {
            return Err(format!(
                "record {height} of {name} takes over, or the first of its incarnation does not"
            ));
        }
    }
    Ok(first.unwrap_or(store.durable().height + 1))
}

/// What a record changes in the state.
fn changes(record: &Bytes) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>, Malformed> {
    let record = parse(record)?;
    let delta = record.delta()?;
    let owned = |(key, value): (&[u8], Option<&[u8]>)| (key.to_vec(), value.map(<[u8]>::to_vec));
    delta.iter().map(|entry| entry.map(owned)).collect()
}
