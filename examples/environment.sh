# Sourced by start.sh and test.sh: where things are built, and what must be installed before. Needs bash.
#
# Each `need_*` looks for something and notes what is missing; `install_missing` at the end installs it all (packages as root on Debian,
# parts of Rust through rustup), or names it all at once, as commands to copy.

# Outside the checkout, so that a fresh clone does not compile RocksDB again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cvp/target}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

lacking=()   # in words
packages=()  # of Debian
parts=()     # words after `rustup`: what it can add
by_hand=()   # commands that only the user can decide on

step() { printf '\n\033[1m-- %s\033[0m\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
# at_least FOUND WANTED: versions.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# As the bindings' generator looks for it; libclang-cpp is another library, and does not do.
has_libclang() {
  [ -z "${LIBCLANG_PATH:-}" ] || return 0
  # Reads to the end: under pipefail a grep that stops early fails the pipe.
  { ldconfig -p || /sbin/ldconfig -p; ls /usr/lib/llvm-*/lib; } 2>/dev/null | grep -E '(^|[[:space:]])libclang(-[0-9.]+)?\.so' >/dev/null
}

# Rust of rustup, also beside an older one of Debian: its directory comes first in PATH once its `env` is read.
want_rustup() {
  lacking+=("$1")
  has curl || packages+=(curl ca-certificates)
  by_hand+=("curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --target wasm32-wasip2" '. "$HOME/.cargo/env"')
}

need_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if ! has cargo || ! has rustc; then
    want_rustup "Rust $wanted or newer"
    return
  fi
  found=$(rustc --version | cut -d ' ' -f 2)
  if ! at_least "${found%%-*}" "$wanted"; then
    if has rustup; then
      lacking+=("Rust $wanted or newer (this is $found)")
      parts+=("update stable" "default stable" "target add wasm32-wasip2")
    else
      want_rustup "Rust $wanted or newer (this is $found, not of rustup)"
    fi
  elif [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2" ]; then
    if has rustup; then
      lacking+=("Rust's target wasm32-wasip2 (strategies are compiled for it)")
      parts+=("target add wasm32-wasip2")
    else
      want_rustup "Rust's target wasm32-wasip2, which only rustup brings (this Rust is not of rustup)"
    fi
  fi
}

need_for_build() {
  need_rust
  has c++ || { lacking+=("a C++ compiler"); packages+=(g++ make); }
  has_libclang || { lacking+=("libclang (RocksDB's bindings need it)"); packages+=(libclang-dev); }
}

# What test.sh calls beside: formatting and lints.
need_for_lints() {
  has cargo || return 0
  cargo fmt --version >/dev/null 2>&1 || {
    lacking+=("rustfmt")
    if has rustup; then parts+=("component add rustfmt"); else packages+=(rustfmt); fi
  }
  cargo clippy --version >/dev/null 2>&1 || {
    lacking+=("clippy")
    if has rustup; then parts+=("component add clippy"); else packages+=(rust-clippy); fi
  }
}

# A broker and an independent client for it, for the tests of message queues.
need_for_queues() {
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || { lacking+=("RabbitMQ (the tests start one of their own)"); packages+=(rabbitmq-server); }
  /usr/bin/python3 -c 'import pika' 2>/dev/null || { lacking+=("pika, a client of RabbitMQ for Python"); packages+=(python3-pika); }
}

# The SDK and a client of the event stream, for the demonstration.
need_for_sdk() {
  local wanted=18
  # Rust's installer may have asked for it already.
  if ! has curl && [[ " ${packages[*]} " != *" curl "* ]]; then
    lacking+=("curl")
    packages+=(curl ca-certificates)
  fi
  if ! has node || ! has npm || ! at_least "$(node --version | tr -d v)" "$wanted"; then
    lacking+=("Node.js $wanted or newer, with npm")
    packages+=(nodejs npm)
  fi
}

# Installs what is missing, or says all of it and stops.
install_missing() {
  local install=(apt-get install -y -q "${packages[@]}") part
  if [ ${#packages[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && has apt-get; then
    step "Installing ${packages[*]}"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null
    packages=()
  fi
  if [ ${#packages[@]} -eq 0 ] && [ ${#by_hand[@]} -eq 0 ]; then
    for part in "${parts[@]}"; do
      step "rustup $part"
      # Words of one command.
      # shellcheck disable=SC2086
      rustup $part
    done
    return
  fi
  {
    printf 'Error: something is missing:\n'
    printf '  - %s\n' "${lacking[@]}"
    printf '\nRun these, then start again:\n\n'
    [ ${#packages[@]} -eq 0 ] || printf '  sudo apt-get update && sudo %s\n' "${install[*]}"
    [ ${#by_hand[@]} -eq 0 ] || printf '  %s\n' "${by_hand[@]}"
    [ ${#parts[@]} -eq 0 ] || printf '  rustup %s\n' "${parts[@]}"
  } >&2
  exit 1
}

install_sdk() {
  if [ ! -d examples/sdk/node_modules/@hyperchain/jssdk ]; then
    step "Installing the public JavaScript SDK: npm ci --ignore-scripts --prefix examples/sdk"
    npm ci --ignore-scripts --no-audit --no-fund --prefix examples/sdk >/dev/null
  fi
}
