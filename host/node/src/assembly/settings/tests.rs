//! What may be set, and how it is shown.

use super::*;

fn root() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    std::fs::create_dir_all(root.configuration().join("global")).unwrap();
    for (name, text) in [
        ("system.toml", include_str!("../../../../../configuration/system.toml")),
        (
            "dynamic.toml",
            include_str!("../../../../../configuration/dynamic.toml"),
        ),
        (
            "global/ns_static.toml",
            include_str!("../../../../../configuration/global/ns_static.toml"),
        ),
        (
            "global/ns_dynamic.toml",
            include_str!("../../../../../configuration/global/ns_dynamic.toml"),
        ),
        (
            "global/ns_genesis.toml",
            include_str!("../../../../../configuration/global/ns_genesis.toml"),
        ),
    ] {
        std::fs::write(root.configuration().join(name), text).unwrap();
    }
    (directory, root)
}

#[test]
fn a_value_is_read_and_listed_with_its_weight() {
    let (_directory, root) = root();
    let found = get(&root, "configuration/dynamic.toml", "cvp.max_rate").unwrap();
    assert_eq!(
        (found["value"].as_str(), found["weight"].as_str()),
        (Some("0"), Some("strong"))
    );
    assert_eq!(get(&root, "dynamic.toml", "cvp.nothing").unwrap_err().code, "no-key");
    assert_eq!(get(&root, "other.toml", "a").unwrap_err().code, "no-file");
    let all = list(&root, None).unwrap();
    let values = all["values"].as_array().unwrap();
    assert!(
        values
            .iter()
            .any(|v| v["key"] == "port.jsonrpc" && v["weight"] == "local")
    );
    assert!(values.iter().any(|v| v["file"] == "global/ns_static.toml"));
}

#[test]
fn what_an_address_is_logged_into_with_is_shown_by_no_command_and_set_by_none() {
    let (_directory, root) = root();
    let (file, key) = ("global/ns_static.toml", "mq.rabbit.url");
    let url = |user: &str| ConfigValue::Text(format!("amqp://{user}@10.0.0.1:5672/"));
    let set = draft(&root, file, key, url("me:s3cret")).unwrap();
    assert_eq!(set.changed.new, "\"amqp://***@10.0.0.1:5672/\"");
    assert!(set.after.contains("me:s3cret"));
    std::fs::write(root.configuration().join(file), &set.after).unwrap();
    let again = draft(&root, file, key, url("me:an0ther")).unwrap();
    assert_eq!(again.changed.old.as_deref(), Some("\"amqp://***@10.0.0.1:5672/\""));
    assert_eq!(get(&root, file, key).unwrap()["value"], "\"amqp://***@10.0.0.1:5672/\"");
    assert!(!get(&root, file, "mq").unwrap().to_string().contains("s3cret"));
    let all = list(&root, None).unwrap().to_string();
    assert!(all.contains("mq.rabbit.url") && !all.contains("s3cret"), "{all}");
    // What is shown is no value.
    assert_eq!(draft(&root, file, key, url("***")).err().unwrap().code, "bad-value");
}

#[test]
fn a_bad_value_is_refused_before_anything_is_written() {
    let (directory, root) = root();
    let bad = |file: &str, key: &str, value: &str| {
        draft(&root, file, key, ConfigValue::from_input(value))
            .err()
            .map(|failure| failure.code)
    };
    assert_eq!(
        bad("dynamic.toml", "cvp.heartbeat", "soon").as_deref(),
        Some("bad-value")
    );
    assert_eq!(bad("dynamic.toml", "cvp", "1").as_deref(), Some("bad-key"));
    assert_eq!(bad("dynamic.toml", "self", "other").as_deref(), Some("identity-key"));
    assert_eq!(
        bad("global/ns_dynamic.toml", "self.type", "nvp").as_deref(),
        Some("identity-key")
    );
    assert_eq!(bad("dynamic.toml", "cvp.enable", "true").as_deref(), Some("use-enable"));
    let genesis = || bad("global/ns_genesis.toml", "genesis.note", "x");
    assert_eq!(genesis(), None, "before its first start");
    std::fs::create_dir_all(directory.path().join("namespaces/global/data")).unwrap();
    assert_eq!(genesis().as_deref(), Some("genesis-file"));
    let good = draft(&root, "dynamic.toml", "cvp.max_rate", ConfigValue::Number(5)).unwrap();
    assert_eq!(
        (good.weight, good.changed.takes_effect.as_str()),
        (Weight::Strong, "now")
    );
    assert_eq!(
        (good.changed.old.as_deref(), good.changed.new.as_str()),
        (Some("0"), "5")
    );
    for (key, value, named) in [
        ("http.security", "true", "http.tlsCert: "),
        ("p2p.tlsCA", "./tls/nothere.ca", "nothere.ca is missing"),
        ("log.log_dir", "./configuration/system.toml/logs", "is no directory"),
    ] {
        let refused = draft(&root, "system.toml", key, ConfigValue::from_input(value)).err();
        let refused = refused.unwrap_or_else(|| panic!("{key} is accepted"));
        assert_eq!(refused.code, "bad-value", "{key}");
        assert!(
            refused.message.contains(named) && refused.help.contains("nothing was changed"),
            "{refused:?}"
        );
    }
    // What no start reads may name anything.
    draft(
        &root,
        "system.toml",
        "http.tlsCert",
        ConfigValue::from_input("./later.cert"),
    )
    .unwrap();
    draft(&root, "system.toml", "log.log_dir", ConfigValue::from_input("./a/b")).unwrap();
    draft(&root, "system.toml", "p2p.enableTLS", ConfigValue::Flag(false)).unwrap();
    let level = draft(&root, "system.toml", "log.log_level", ConfigValue::from_input("INFO")).unwrap();
    assert_eq!(level.weight, Weight::Strong);
    let unknown = draft(&root, "dynamic.toml", "cvp.later", ConfigValue::Number(5)).unwrap();
    assert_eq!((unknown.weight, unknown.changed.warnings.len()), (Weight::Weak, 1));
}

#[test]
fn files_of_a_namespace_that_does_not_run_are_checked_as_well() {
    let (_directory, root) = root();
    let configuration = root.configuration();
    std::fs::create_dir(configuration.join("ns1")).unwrap();
    for file in ["ns_static.toml", "ns_dynamic.toml", "ns_genesis.toml"] {
        std::fs::copy(
            configuration.join("global").join(file),
            configuration.join("ns1").join(file),
        )
        .unwrap();
    }
    let set = |file: &str, key: &str, value: &str| draft(&root, file, key, ConfigValue::from_input(value));
    for stopped in [false, true] {
        if stopped {
            root.rewrite(LIST, |text| config::put_namespace(text, "ns1", false))
                .unwrap();
        }
        for (file, key, value) in [
            ("ns1/ns_dynamic.toml", "consensus.algo", "RBFT"),
            ("ns1/ns_static.toml", "consensus.solo.timeout.batch", "banana"),
            ("ns1/ns_dynamic.toml", "consensus.pool.batch_size", "\"abc\""),
            ("ns1/ns_static.toml", "strategy.chain-sync.id", "../../x"),
        ] {
            let refused = set(file, key, value).err().map(|failure| failure.code);
            assert_eq!(refused.as_deref(), Some("bad-value"), "{key}");
        }
        set("ns1/ns_dynamic.toml", "consensus.pool.batch_size", "7").unwrap();
        let remark = set("ns1/ns_static.toml", "encryption.root.ca", "elsewhere").unwrap();
        assert_eq!(remark.changed.warnings.len(), 1, "{:?}", remark.changed);
    }
    // What is bad already does not keep the rest from being set.
    let path = configuration.join("ns1/ns_dynamic.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("batch_size = 500", "batch_size = \"abc\"")).unwrap();
    set("ns1/ns_dynamic.toml", "consensus.pool.pool_size", "900").unwrap();
    set("ns1/ns_dynamic.toml", "consensus.pool.batch_size", "7").unwrap();
}

#[test]
fn a_strategy_that_is_not_installed_is_accepted_with_a_warning() {
    let (directory, root) = root();
    let set = |id: &str| {
        let id = ConfigValue::Text(id.into());
        draft(&root, "global/ns_static.toml", "strategy.chain-sync.id", id)
    };
    let warnings = |id: &str| set(id).unwrap().changed.warnings;
    assert_eq!(set("../../x").err().unwrap().code, "bad-value");
    let missing = warnings("mine");
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with("global: chain-sync mine: "), "{missing:?}");
    assert_eq!(warnings("default"), Vec::<String>::new());
    let plugin = directory.path().join("plugins/mine");
    std::fs::create_dir_all(&plugin).unwrap();
    let manifest = |kind: &str| {
        let sha256 = "00".repeat(32);
        format!(
            "id = \"mine\"\nkind = \"{kind}\"\nversion = \"1\"\ncontract = \"cvp:{kind}@0.1.0\"\nsha256 = \"{sha256}\"\n"
        )
    };
    std::fs::write(plugin.join("plugin.toml"), manifest("mq-sync")).unwrap();
    assert!(warnings("mine")[0].contains("of kind mq-sync"));
    std::fs::write(plugin.join("plugin.toml"), manifest("chain-sync")).unwrap();
    assert_eq!(warnings("mine"), Vec::<String>::new());
}

#[test]
fn what_is_no_key_of_a_file_is_refused() {
    let (directory, root) = root();
    let refused = |file: &str, key: &str| draft(&root, file, key, ConfigValue::Flag(false)).err().unwrap().code;
    assert_eq!(refused("dynamic.toml", "namespace[0].start"), "use-namespace");
    assert_eq!(refused("dynamic.toml", "namespace.start"), "use-namespace");
    assert_eq!(refused("global/ns_dynamic.toml", "nodes[0].hostname"), "bad-key");
    let path = root.configuration().join("global/ns_dynamic.toml");
    std::fs::rename(&path, directory.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
    assert_eq!(
        refused("global/ns_dynamic.toml", "consensus.pool.batch_size"),
        "symlink"
    );
}
