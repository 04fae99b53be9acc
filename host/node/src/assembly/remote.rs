//! The configuration for callers of JSON-RPC: what `config get|list|set` do, less what may not leave this machine.

use std::sync::Arc;

use serde_json::{Value, json};

use super::node::Node;
use super::operator::blocking;
use super::settings;
use crate::config::{Root, private_key, read_tree};
use crate::ipc::Failure;
use crate::rpc::{ConfigAnswer, ConfigChange, Configuration};

impl Configuration for Node {
    fn read(self: Arc<Self>, file: Option<String>, key: Option<String>) -> ConfigAnswer {
        Box::pin(blocking(move || read(&self.root, file.as_deref(), key.as_deref())))
    }

    fn change(self: Arc<Self>, change: ConfigChange) -> ConfigAnswer {
        Box::pin(async move {
            let (root, file) = (self.root.clone(), change.file.clone());
            // The answer would tell the value before.
            blocking(move || refuse_secret(&secrets(&root)?, &file)).await?;
            self.set_config(change).await
        })
    }
}

/// A file with a private key, and what gives it away.
type Secret = (String, &'static str);

fn secrets(root: &Root) -> Result<Vec<Secret>, Failure> {
    let files = read_tree(&root.configuration())?.into_iter();
    let secret = |(name, text): (String, String)| {
        let reason = private_key(&name, text.as_bytes())?;
        Some((name, reason))
    };
    Ok(files.filter_map(secret).collect())
}

fn refuse_secret(secrets: &[Secret], file: &str) -> Result<(), Failure> {
    let file = file.strip_prefix("configuration/").unwrap_or(file);
    match secrets.iter().find(|(name, _)| name == file) {
        Some((name, reason)) => Err(Failure::refused(
            "private-key",
            format!("configuration/{name}: {reason}"),
            "its values are not told to the network: use `cvp config` on this machine",
        )),
        None => Ok(()),
    }
}

/// One value, those of a file, or all: then files with a private key are left out, and named.
fn read(root: &Root, file: Option<&str>, key: Option<&str>) -> Result<Value, Failure> {
    let secrets = secrets(root)?;
    let Some(file) = file else {
        let mut all = settings::list(root, None)?;
        let withheld = |entry: &Value| secrets.iter().any(|(name, _)| entry["file"] == name.as_str());
        if let Some(values) = all["values"].as_array_mut() {
            values.retain(|entry| !withheld(entry));
        }
        let name = |(file, reason): &Secret| json!({"file": file, "reason": reason});
        all["withheld"] = secrets.iter().map(name).collect();
        return Ok(all);
    };
    refuse_secret(&secrets, file)?;
    match key {
        Some(key) => settings::get(root, file, key),
        None => settings::list(root, Some(file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_private_key_is_named_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let configuration = root.configuration();
        std::fs::create_dir_all(&configuration).unwrap();
        std::fs::write(configuration.join("dynamic.toml"), "self = \"node1\"\n").unwrap();
        let key = "key = \"\"\"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\"\"\"\n";
        std::fs::write(configuration.join("extra.toml"), key).unwrap();
        let all = read(&root, None, None).unwrap();
        assert_eq!(all["values"].as_array().unwrap().len(), 1, "{all}");
        assert_eq!(all["withheld"][0]["file"], "extra.toml");
        assert!(!all.to_string().contains("AAAA"));
        for file in ["extra.toml", "configuration/extra.toml"] {
            assert_eq!(read(&root, Some(file), None).unwrap_err().code, "private-key");
            assert_eq!(read(&root, Some(file), Some("key")).unwrap_err().code, "private-key");
        }
        assert_eq!(
            read(&root, Some("dynamic.toml"), Some("self")).unwrap()["value"],
            "\"node1\""
        );
    }
}
