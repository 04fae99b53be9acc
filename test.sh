#!/usr/bin/env bash
# Formatting, lints, unit tests, the simulator, the demonstration, and tests with real processes. CVP_TEST_FULL=1 runs the full counts.
set -euo pipefail
cd "$(dirname "$0")"
. ./examples/environment.sh

need_for_build
need_for_lints
need_for_sdk
need_for_queues
install_missing
install_sdk
step "Formatting"
cargo fmt --all --check
step "Building (the first time compiles RocksDB: 15 to 25 minutes on two cores)"
cargo build --release --locked -p cvp
step "Lints"
cargo clippy --release --locked --workspace --exclude cvp-sim --all-targets -- -D warnings
cargo clippy --release --locked -p cvp-sim --all-targets -- -D warnings
if command -v cargo-deny >/dev/null; then
  step "Licences and sources of dependencies"
  cargo deny --offline check licenses bans sources
fi
if command -v cargo-component >/dev/null; then
  step "The strategies with cargo component"
  cargo component build --release --locked -p cvp-example-strategy -p cvp-chain-sync -p cvp-example-config-strategy -p cvp-config-sync \
    -p cvp-example-index-strategy -p cvp-index-check -p cvp-example-mq-strategy -p cvp-mq-sync \
    --target-dir "$CARGO_TARGET_DIR/component"
  for name in cvp_example_strategy cvp_chain_sync cvp_example_config_strategy cvp_config_sync cvp_example_index_strategy cvp_index_check \
    cvp_example_mq_strategy cvp_mq_sync; do
    "$CARGO_TARGET_DIR/release/cvp" plugin check "$CARGO_TARGET_DIR/component/wasm32-wasip1/release/$name.wasm"
  done
fi

# The simulator switches on core's planted faults: it is never built together with the node.
step "Simulator: ${CVP_SIM_SEEDS:-500} fresh seeds, planted faults"
# --nocapture: a run that passes says what it reached, too, and which seed caught each fault.
cargo test --release --locked -p cvp-sim -- --nocapture
step "Unit and process tests"
if command -v cargo-nextest >/dev/null; then
  cargo nextest run --release --locked --workspace --exclude cvp-sim --no-fail-fast
else
  cargo test --release --locked --workspace --exclude cvp-sim --no-fail-fast
fi
step "The demonstration"
told=$(mktemp -d)
trap 'rm -rf "$told"' EXIT
CVP_DEMO_ONCE=1 examples/demo.sh "$CARGO_TARGET_DIR/release/cvp" "$told/nodes" >"$told/story" 2>&1 || { cat "$told/story"; exit 1; }
