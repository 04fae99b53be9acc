//! Actors with the embedded strategy and with plugin directories.

use super::*;
use cvp_core::types::strategy::chain_sync::{Action, Event, View};

fn strategies(root: &Path) -> Strategies {
    let strategies = Strategies::new(&root.join("cache"), &root.join("plugins")).unwrap();
    strategies.record_into(&root.join("traces"))
}

fn choice(id: &str, settings: &str) -> StrategyChoice {
    StrategyChoice {
        id: id.into(),
        settings: settings.into(),
    }
}

fn view() -> View {
    let mut view = View::new(Role::Receiver, "global");
    view.peer = Some(cvp_core::types::strategy::Position {
        height: 9,
        hash: [1; 32],
    });
    view
}

#[tokio::test]
async fn the_embedded_default_fetches_and_its_calls_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let strategies = strategies(root.path());
    let namespace = Namespace::new("global").unwrap();
    let handle = strategies
        .start::<ChainSync>(&namespace, Role::Receiver, &choice("default", ""), 1 << 20)
        .unwrap();
    // Not opened by the caller: the actor opens it with the view at hand.
    let actions = handle.handle(vec![Event::Progress(view())]).await.unwrap();
    assert!(matches!(actions[..], [Action::Fetch(_)]), "{actions:?}");
    assert_eq!(handle.state().spelling(), "running");
    assert_eq!(handle.cost().calls, 1);
    assert!(handle.cost().nanos > 0);
    let trace = std::fs::read(root.path().join("traces/global/000001-receiver.trace")).unwrap();
    let (opening, calls) = cvp_core::strategy::trace::read::<cvp_core::strategy::ChainSync>(&trace).unwrap();
    assert_eq!(
        (opening.id.as_str(), opening.sha256),
        ("default", strategies.embedded::<ChainSync>().sha256)
    );
    assert_eq!(calls[0].answer, Ok(actions));
}

#[tokio::test]
async fn an_instance_whose_answer_was_refused_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let namespace = Namespace::new("global").unwrap();
    let handle = strategies(root.path())
        .start::<ChainSync>(&namespace, Role::Receiver, &choice("default", ""), 0)
        .unwrap();
    let refused = || Fault::new("window-out-of-range", "0");
    // Nobody has answered yet: there is nobody to blame.
    handle.refuse(refused()).unwrap();
    handle.handle(vec![Event::Tick(view())]).await.unwrap();
    handle.refuse(refused()).unwrap();
    let fault = handle.handle(vec![Event::Tick(view())]).await.unwrap_err();
    assert_eq!(fault.code, "restarting", "the default has nobody to take its place");
}

#[tokio::test]
async fn a_missing_plugin_leaves_the_namespace_on_the_default() {
    let root = tempfile::tempdir().unwrap();
    let namespace = Namespace::new("global").unwrap();
    let handle = strategies(root.path())
        .start::<ChainSync>(&namespace, Role::Receiver, &choice("absent", ""), 0)
        .unwrap();
    assert_eq!(handle.state().spelling(), "quarantined");
    assert_eq!(handle.state().running.id, "default");
    assert!(handle.state().problem.contains("plugin.toml"), "{:?}", handle.state());
    let actions = handle.handle(vec![Event::Tick(view())]).await.unwrap();
    assert!(matches!(actions[..], [Action::Fetch(_)]), "{actions:?}");
    assert!(!root.path().join("traces").exists(), "nothing is recorded unasked");
}

#[test]
fn settings_are_toml_for_operators_and_json_for_strategies() {
    assert_eq!(settings_json("").unwrap(), "{}");
    assert_eq!(settings_json("a = 1\nb = \"x\"").unwrap(), r#"{"a":1,"b":"x"}"#);
    assert_eq!(settings_json("{ a = 1 }").unwrap(), r#"{"a":1}"#);
    assert!(settings_json("{ a = ").is_err());
}
