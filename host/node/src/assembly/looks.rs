//! What a status says of the files on the disk: a look at both trees reads and checks every file, so one serves all who ask shortly after
//! it. A node that is asked all the time spends little of its time on looks, however many namespaces it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cvp_core::config::{NodeConfig, PairRole};
use cvp_core::types::Namespace;

use super::copied::{self, Running, Seen};
use super::node::{Node, Ready};

/// A look counts so many times as long as it took,
const COUNTS_TIMES: u32 = 50;

/// and no longer than this: of a hundred namespaces a look takes a tenth of a second.
const COUNTS_MAX: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Clone, Default)]
pub(super) struct Found {
    /// What is wrong with the own files.
    pub(super) own: Vec<String>,
    /// What a standby has of its provider's.
    pub(super) copy: Option<Seen>,
}

/// What the look depends on, beside the files.
#[derive(Clone)]
struct Beside {
    config: Arc<NodeConfig>,
    running: Running,
    /// What runs or is held here.
    known: BTreeSet<Namespace>,
    ready: Ready,
}

impl Beside {
    fn is(&self, other: &Beside) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
            && self.running == other.running
            && self.known == other.known
            && self.ready == other.ready
    }
}

/// The last look.
#[derive(Default)]
pub(super) struct Looks(tokio::sync::Mutex<Option<Look>>);

struct Look {
    until: Instant,
    beside: Beside,
    found: Found,
}

impl Node {
    /// The last look at the files, or a new one; whoever asks meanwhile waits for it.
    pub(super) async fn look_at_files(
        &self,
        config: &Arc<NodeConfig>,
        ready: &Ready,
        known: BTreeSet<Namespace>,
    ) -> Found {
        let beside = Beside {
            config: Arc::clone(config),
            running: Running::of(&self.chains),
            known,
            ready: ready.clone(),
        };
        let mut last = self.looks.0.lock().await;
        let counts = |look: &&Look| Instant::now() < look.until && look.beside.is(&beside);
        if let Some(look) = last.as_ref().filter(counts) {
            return look.found.clone();
        }
        let (root, files, of) = (self.root.clone(), self.files.clone(), beside.clone());
        let (stopped, chains) = (Arc::clone(&self.stopped), self.chains.clone());
        let begun = Instant::now();
        let look = move || Found {
            own: copied::own(&root, &of.running),
            copy: (of.config.role() == PairRole::Receiver).then(|| {
                let seen = copied::look(&root, &files, &of.config, (&of.ready, &of.running, &of.known));
                seen.with_behind(stopped.behind(&files, &chains))
            }),
        };
        let found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let ended = Instant::now();
        *last = Some(Look {
            until: ended + COUNTS_MAX.min((ended - begun) * COUNTS_TIMES),
            beside,
            found: found.clone(),
        });
        found
    }
}
