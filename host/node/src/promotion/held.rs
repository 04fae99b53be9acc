//! What a promotion could not take over, tried again on the node that serves already: the same steps, with a plan of these namespaces alone.

use std::sync::Arc;

use cvp_core::promotion::{HeldNamespace, Journal, NamespaceView, Plan, PlannedNamespace, allowed, preflight_of_held};
use cvp_core::types::Refusal;

use super::view::{CheckView, UpgradeLine, UpgradeView};
use super::{Beginning, Flags, Ground, JOURNAL, JournalFile, Tell, plan, planned, survey};
use crate::failure::Failure;

/// What was found of the held namespaces.
struct Found {
    views: Vec<NamespaceView>,
    /// Takes over what is usable now; none when nothing is.
    plan: Option<Plan>,
}

impl Ground {
    /// `cvp upgrade` on a provider whose promotion held namespaces: takes over what is usable now.
    ///
    /// # Errors
    /// The journal or the configuration cannot be read. A refusing check or a failed step is part of the answer, not an error.
    pub async fn upgrade_held(
        self: Arc<Self>,
        flags: Flags,
        progress: impl Fn(UpgradeLine) + Send + Sync + 'static,
    ) -> Result<UpgradeView, Failure> {
        let failure = |refusal: Refusal| Failure::from_refusal(&refusal);
        let progress: Box<Tell> = Box::new(progress);
        let (file, journal) = JournalFile::open(&self.files.path(JOURNAL)).map_err(failure)?;
        let (ground, before) = (Arc::clone(&self), journal.clone());
        let found = tokio::task::spawn_blocking(move || ground.look_into_held(&before))
            .await
            .map_err(|error| Failure::failed("internal", error.to_string(), "see the log"))??;
        let mut checks = preflight_of_held(&found.views, flags.allow_missing_keys);
        let mut steps = Vec::new();
        if let Some(late) = &found.plan {
            let rehearsal = plan::rehearse(&journal, &Ok(late.clone()));
            checks.push(rehearsal.check);
            steps = rehearsal.steps;
        }
        if flags.dry_run {
            return Ok(planned(&checks, &steps));
        }
        for check in &checks {
            progress(UpgradeLine::Check(CheckView::from(check)));
        }
        if !allowed(&checks) {
            return Ok(UpgradeView::refusal(&checks));
        }
        let beginning = Beginning {
            checks,
            plan: found.plan,
            probed: None,
        };
        self.finish(beginning, file, journal, progress).await
    }

    fn look_into_held(&self, journal: &Journal) -> Result<Found, Failure> {
        let loaded = self.root.load()?;
        let Some(last) = journal.plan() else {
            return Ok(Found {
                views: Vec::new(),
                plan: None,
            });
        };
        let told = self.files.last_told();
        let (mut views, mut namespaces, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for known in journal.held().values() {
            let (name, role) = (known.name.clone(), known.role);
            let durable = self.hooks.look_into(&name, last);
            match &durable {
                Ok(durable) => namespaces.push(PlannedNamespace {
                    name: name.clone(),
                    role,
                    durable: *durable,
                }),
                Err(refusal) => held.push(HeldNamespace::new(name.clone(), role, refusal.text.clone())),
            }
            views.push(NamespaceView {
                keys: survey::key_state(&self.root, &loaded.config, &told, &name),
                name,
                role,
                chain: durable.map_err(|refusal| refusal.text),
                provider_tip: None,
                staged: None,
                history_from: 0,
                fills_to: None,
                waits_seconds: 0,
                untold: Vec::new(),
                queues_unreadable: None,
                provider_strategies: Vec::new(),
                own_strategies: Vec::new(),
            });
        }
        let plan = (!namespaces.is_empty()).then(|| last.late(namespaces, held));
        Ok(Found { views, plan })
    }
}
