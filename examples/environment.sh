# Sourced by start.sh and test.sh: where things are built, and what must be installed before. Needs bash.

# Outside the checkout, so that a fresh clone does not compile RocksDB again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cvp/target}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

step() { printf '\n\033[1m-- %s\033[0m\n' "$*" >&2; }

# missing WHAT COMMAND...: runs the command as root on Debian, else names it and stops.
missing() {
  local what=$1
  shift
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    step "Installing $what: $*"
    [ -n "${apt_updated:-}" ] || apt-get update -q >/dev/null
    apt_updated=1
    DEBIAN_FRONTEND=noninteractive "$@" >/dev/null
  else
    printf 'Error: %s is missing; run: sudo %s\n' "$what" "$*" >&2
    exit 1
  fi
}

# As the bindings' generator looks for it; libclang-cpp is another library, and does not do.
has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || { ldconfig -p 2>/dev/null; ls /usr/lib/llvm-*/lib 2>/dev/null; } | grep -qE '(^|[[:space:]])libclang(-[0-9.]+)?\.so'
}

need_for_build() {
  if ! command -v cargo >/dev/null; then
    printf 'Error: Rust is missing; install it with rustup (https://rustup.rs), version 1.95 or newer\n' >&2
    exit 1
  fi
  command -v c++ >/dev/null || missing "a C++ compiler" apt-get install -y -q g++ make
  has_libclang || missing "libclang (RocksDB's bindings need it)" apt-get install -y -q libclang-dev
  if [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2" ]; then
    step "Adding the wasm32-wasip2 target: rustup target add wasm32-wasip2"
    rustup target add wasm32-wasip2 || { printf 'Error: run: rustup target add wasm32-wasip2\n' >&2; exit 1; }
  fi
}

need_for_sdk() {
  command -v node >/dev/null && command -v npm >/dev/null || missing "Node.js" apt-get install -y -q nodejs npm
  if [ ! -d examples/sdk/node_modules/@hyperchain/jssdk ]; then
    step "Installing the public JavaScript SDK: npm ci --ignore-scripts --prefix examples/sdk"
    npm ci --ignore-scripts --no-audit --no-fund --prefix examples/sdk >/dev/null
  fi
}
