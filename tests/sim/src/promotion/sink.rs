//! The steps' effects on the virtual node, as the node's own sink has them.

use cvp_core::config::GLOBAL;
use cvp_core::ledger::{Ledger, LedgerError};
use cvp_core::planted::{self, Fault};
use cvp_core::promotion::{
    Append, HeldNamespace, Plan, PlannedNamespace, Sink, Step, StepReport, promoted_identity, takeover_changes,
};
use cvp_core::record::parse;
use cvp_core::session::{Binding, Identity};
use cvp_core::types::{Malformed, Millis, Refusal};

use super::tree;
use crate::chain::Maker;
use crate::configuration;
use crate::disk::{Dead, Hand};
use crate::node::Store;

/// What a disk that fails says.
const DISK: [&str; 2] = ["disk-failed", "disk-full"];

/// Does what the steps say, until the process dies.
pub struct SimSink<'a> {
    pub hand: Hand<'a>,
    pub stores: &'a mut [Store],
    pub now: Millis,
    pub resumed: bool,
    pub died: bool,
}

/// Why an effect was not completed.
enum Stop {
    Died,
    Refused(Refusal),
}

impl From<Dead> for Stop {
    fn from(_: Dead) -> Stop {
        Stop::Died
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Stop {
        Stop::Refused(error.refusal())
    }
}

impl From<Malformed> for Stop {
    fn from(error: Malformed) -> Stop {
        Stop::Refused(Refusal::new("malformed", error.to_string(), ""))
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Stop {
        Stop::Refused(Refusal::new("defect", text, ""))
    }
}

impl Sink for SimSink<'_> {
    fn perform(&mut self, step: Step, plan: &Plan) -> Result<Vec<HeldNamespace>, Refusal> {
        let done = match step {
            Step::Fence | Step::Serve | Step::Done => Ok(()),
            Step::Identity => self.identity(plan),
            Step::Configuration => self.configuration(plan),
            Step::Roles => self.roles(),
            Step::Takeover => return self.takeover(plan).map_err(|stop| self.refusal(stop)),
        };
        done.map(|()| Vec::new()).map_err(|stop| self.refusal(stop))
    }

    fn record(&mut self, _step: Step, append: &Append) -> Result<(), Refusal> {
        let recorded = self.hand.record(append);
        recorded.map_err(|dead| self.refusal(dead.into()))
    }

    fn report(&mut self, _report: &StepReport) {}
}

impl SimSink<'_> {
    fn refusal(&mut self, stop: Stop) -> Refusal {
        match stop {
            Stop::Refused(refusal) => refusal,
            Stop::Died => {
                self.died = true;
                Refusal::new("died", "the process died here", "")
            }
        }
    }

    fn identity(&mut self, plan: &Plan) -> Result<(), Stop> {
        let own = Identity::decode(&self.hand.disk.identity)?;
        let binding = self.hand.disk.binding.as_deref().map(Binding::decode).transpose()?;
        if let Some(mut identity) = promoted_identity(plan, Some(&own), binding.as_ref())? {
            if self.resumed && planted::active(Fault::IncarnationNotRaised) {
                identity.lineage = binding.map(|binding| binding.lineage).unwrap_or_default();
            }
            self.hand.replace(|disk| disk.identity = identity.encode())?;
        }
        self.hand.replace(|disk| disk.binding = None)?;
        Ok(())
    }

    fn configuration(&mut self, plan: &Plan) -> Result<(), Stop> {
        let done = match plan.late {
            true => tree::start_late(&mut self.hand, plan),
            false => tree::take_over(&mut self.hand, plan),
        };
        done.map_err(|stop| match stop {
            tree::Stop::Died => Stop::Died,
            tree::Stop::Refused(text) => text.into(),
        })
    }

    /// The machine of the new role is made by the world, after this: of files that must be whole now.
    fn roles(&mut self) -> Result<(), Stop> {
        configuration::load(&self.hand.disk.configuration, false)?;
        self.hand.operate()?;
        Ok(())
    }

    /// What cannot be taken over is held; without `global` there is no node.
    fn takeover(&mut self, plan: &Plan) -> Result<Vec<HeldNamespace>, Stop> {
        let mut held = Vec::new();
        for namespace in &plan.namespaces {
            let mut stores = self.stores.iter_mut();
            let store = stores.find(|store| store.namespace == namespace.name);
            let store = store.ok_or_else(|| format!("no namespace {}", namespace.name))?;
            match take_over(store, plan, namespace, self.now, &mut self.hand) {
                Err(Stop::Refused(refusal))
                    if namespace.name.as_str() != GLOBAL && DISK.contains(&refusal.code.as_ref()) =>
                {
                    held.push(HeldNamespace::new(namespace.name.clone(), namespace.role, refusal.text));
                }
                done => done?,
            }
        }
        Ok(held)
    }
}

/// Makes the take-over block, unless a run before a crash made it.
fn take_over(
    store: &Store,
    plan: &Plan,
    namespace: &PlannedNamespace,
    now: Millis,
    hand: &mut Hand<'_>,
) -> Result<(), Stop> {
    let ledger = &store.ledger;
    hand.operate()?;
    ledger.sync()?;
    ledger.apply()?;
    let height = namespace.durable.height;
    let above = match ledger.record(height + 1)? {
        Some(bytes) => Some(parse(&bytes)?.header().incarnation),
        None => None,
    };
    let Some(delta) = takeover_changes(plan, namespace, ledger.hash_at(height)?, above)? else {
        return Ok(());
    };
    let mut maker = Maker::open(ledger, &namespace.name, &plan.hostname, plan.new)?;
    ledger.append(maker.takeover(ledger, now, delta)?)?;
    hand.operate()?;
    ledger.sync()?;
    ledger.apply()?;
    Ok(())
}
