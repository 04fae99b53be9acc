//! A standby follows the list of its provider's namespaces: it stops what the provider does not run any more, and starts what is missing,
//! with its own prepared files or else the provider's. Nothing is deleted here; what cannot be started is held with its reason.

use std::collections::BTreeSet;
use std::sync::Arc;

use cvp_core::config::{self, GLOBAL, PairRole};
use cvp_core::types::{Hostname, Namespace, Refusal};

use super::namespaces::LIST;
use super::node::Node;
use super::operator::blocking;
use super::prepared::prepare;
use crate::config::Places;
use crate::ipc::Failure;
use crate::namespace::Chain;
use crate::promotion;
use crate::replication::Difference;

/// Aligns this node each time that its machine says so.
pub(super) async fn follow_difference(node: Arc<Node>) {
    let Some(replication) = node.replication() else {
        return;
    };
    let mut differences = replication.watch_difference();
    while differences.changed().await.is_ok() {
        let difference = differences.borrow_and_update().clone();
        if let Err(failure) = node.align(difference).await {
            tracing::error!("the namespaces are not aligned to the provider's: {failure}");
        }
    }
}

/// What aligning changed.
#[derive(Default)]
struct Aligned {
    started: bool,
    gone: Vec<Arc<Chain>>,
}

impl Node {
    async fn align(self: &Arc<Self>, difference: Difference) -> Result<(), Failure> {
        let _one_at_a_time = self.changing.lock().await;
        let unfinished = promotion::standing(&self.files).is_ok_and(|standing| standing.unfinished);
        if self.config().role() != PairRole::Receiver || unfinished {
            return Ok(());
        }
        let node = Arc::clone(self);
        let aligned = blocking(move || node.align_chains(&difference)).await?;
        if aligned.started || !aligned.gone.is_empty() {
            return self.go_on(aligned.gone).await;
        }
        if let Some(replication) = self.replication() {
            replication.set_held(self.held_list()).await;
        }
        Ok(())
    }

    fn align_chains(&self, difference: &Difference) -> Result<Aligned, Failure> {
        let wanted = self.wanted_by_provider()?;
        let provider = self
            .files
            .binding()
            .map_err(|error| Failure::from_refusal(&error.refusal()))?;
        let Some(provider) = provider.map(|binding| binding.hostname) else {
            return Ok(Aligned::default());
        };
        let mut aligned = Aligned::default();
        let runs = |name: &Namespace| self.chains.get(name.as_str()).is_some();
        // What the provider would run if it could goes on here: this copy may be the only good one.
        let extra = difference
            .extra
            .iter()
            .filter(|name| !wanted.contains(name.as_str()) && runs(name));
        for name in extra.filter(|name| name.as_str() != GLOBAL) {
            self.root
                .rewrite(LIST, |text| config::put_namespace(text, name.as_str(), false))?;
            tracing::info!(namespace = %name, "the provider does not run it any more: stopped");
            self.held.lock().remove(name);
            aligned.gone.extend(self.take_out(name));
        }
        // Held here, and not wanted any more.
        self.held.lock().retain(|name, _| wanted.contains(name.as_str()));
        for name in difference
            .missing
            .iter()
            .filter(|name| wanted.contains(name.as_str()) && !runs(name))
        {
            match self.start_missing(name, &provider) {
                Ok(()) => aligned.started = true,
                Err(refusal) => {
                    let known = self.held.lock().insert(name.clone(), refusal.clone());
                    // Tried again and again: said once.
                    if known.as_ref() != Some(&refusal) {
                        tracing::error!(namespace = %name, "the provider's namespace {name} cannot be started here: {refusal}");
                    }
                }
            }
        }
        Ok(aligned)
    }

    fn start_missing(&self, name: &Namespace, provider: &Hostname) -> Result<(), Refusal> {
        let own = self.config().dynamic.hostname.clone();
        let ns = prepare(&self.root, name, &own, provider)?;
        let among = self.chains.names().len() + 1;
        let chain = self
            .opener
            .open(name, &ns, among)
            .map_err(|failure| failure.to_refusal())?;
        tracing::info!(namespace = %name, "the provider runs it: started");
        self.chains.insert(chain);
        self.held.lock().remove(name);
        self.change_config(|config| {
            config.namespaces.insert(name.clone(), ns.clone());
        });
        Ok(())
    }

    /// The namespaces that the provider's configuration starts.
    fn wanted_by_provider(&self) -> Result<BTreeSet<String>, Failure> {
        let path = Places::copy(&self.root).configuration().join(LIST);
        let unreadable = |what: String| {
            let what = format!("cannot read {}: {what}", path.display());
            Failure::failed("unreadable", what, "it is copied again at the next handshake")
        };
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
        let entries = config::namespace_entries(&text).map_err(|error| unreadable(error.to_string()))?;
        Ok(entries
            .into_iter()
            .filter(|(_, start)| *start)
            .map(|(name, _)| name)
            .collect())
    }
}
