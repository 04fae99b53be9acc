//! The check `index-health`: whether the backend that the promoted node is to index into answers.

use super::{Check, PreflightView};
use crate::types::Namespace;

/// The data index of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexView {
    /// Its name.
    pub namespace: Namespace,
    /// Whether this node is to keep one now, and after the upgrade.
    pub switch: (bool, bool),
    /// Where its backend is, as `HOST:PORT`s.
    pub address: String,
    /// Whether that answers; in words why not. Means nothing when it is not kept after the upgrade.
    pub backend: Result<(), String>,
}

pub(super) fn health(view: &PreflightView) -> Check {
    let id = "index-health";
    let indexes = match &view.indexes {
        Ok(indexes) => indexes,
        Err(why) => {
            let text = format!("the index settings cannot be read: {why}");
            return Check::fail(id, text, "correct ns_static.toml");
        }
    };
    let silent = indexes.iter().filter_map(|it| {
        let why = it.backend.as_ref().err().filter(|_| it.switch.1)?;
        Some(format!("{}: the index backend does not answer ({why})", it.namespace))
    });
    let switched = indexes.iter().filter(|it| it.switch.0 != it.switch.1).map(|it| {
        let word = if it.switch.1 { "on" } else { "off" };
        format!("{}: the upgrade switches the index {word}", it.namespace)
    });
    let wrong: Vec<String> = silent.chain(switched).collect();
    if !wrong.is_empty() {
        return Check::warn(
            id,
            wrong.join("; "),
            "start the backend, or correct database.indexdb in ns_static.toml; without it the index is to be built anew after the upgrade",
        );
    }
    let healthy = indexes.iter().filter(|it| it.switch.1);
    let healthy: Vec<String> = healthy
        .map(|it| format!("{}: {} answers", it.namespace, it.address))
        .collect();
    Check::pass(
        id,
        match healthy.is_empty() {
            true => "no index is configured".to_owned(),
            false => format!("{}; what it holds is not looked at", healthy.join(", ")),
        },
    )
}
