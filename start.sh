#!/usr/bin/env bash
# Builds cvp and runs the demonstration: an online node, its hot standby, a kill -9, the take-over. Ctrl-C stops it cleanly.
#
#   ./start.sh            installs what is missing (as root on Debian; else names the commands), builds, runs the demonstration
#   ./start.sh --build    only builds
set -euo pipefail
cd "$(dirname "$0")"
. ./examples/environment.sh

need_for_build
need_for_sdk
install_missing
install_sdk
step "Building cvp (the first time compiles RocksDB: 15 to 25 minutes on two cores)"
cargo build --release --locked -p cvp
[ "${1:-}" != "--build" ] || exit 0
exec examples/demo.sh "$CARGO_TARGET_DIR/release/cvp" ${CVP_DEMO_DIR:+"$CVP_DEMO_DIR"}
