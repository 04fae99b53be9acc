#!/usr/bin/env bash
# The demonstration: an online node, its hot standby, a kill -9, and the take-over. Called by start.sh with the path of the cvp binary.
#
#   examples/demo.sh CVP_BINARY [DIRECTORY]
#
# Makes DIRECTORY (default: a new temporary one), leaves the pair running until Ctrl-C, then stops it cleanly. With CVP_DEMO_ONCE=1 it
# stops by itself at the end (the tests do that).
set -euo pipefail

cvp=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
dir=${2:-$(mktemp -d "${TMPDIR:-/tmp}/cvp-demo.XXXXXX")}
mkdir -p "$dir"
dir=$(realpath "$dir")
pids=()

say()  { printf '\n\033[1m== %s\033[0m\n' "$*"; }
note() { printf '   %s\n' "$*"; }
run()  { printf '   $ %s\n' "$(shown "$@")"; "$@" 2>&1 | sed -e 's/^/     /' -e '$a\'; }
# The command as it could be typed in the demonstration's directory.
shown() {
  local word text=
  for word in "$@"; do
    case $word in
      *\"*) word="'$word'" ;;
      *" "*) word="\"$word\"" ;;
    esac
    text+="${text:+ }$word"
  done
  text=${text//$cvp/cvp}
  text=${text//$dir\//}
  printf '%s' "${text//$here\//examples/}"
}
fail() { printf 'Error: %s; the logs are in %s\n' "$*" "$dir" >&2; exit 1; }

stop_all() {
  trap - EXIT INT TERM
  [ ${#pids[@]} -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null || true
  [ ${#pids[@]} -eq 0 ] || wait "${pids[@]}" 2>/dev/null || true
  printf '\nStopped. The nodes of this demonstration are in %s; remove it when you have looked.\n' "$dir"
}
trap 'stop_all' EXIT
trap 'stop_all; exit 0' INT TERM

# start_node NAME: runs the node in the background, waits for its ready line; sets pid_NAME and rpc_NAME.
start_node() {
  local name=$1 out="$dir/$1.out"
  "$cvp" --root "$dir/$name" --json start >"$out" 2>"$dir/$name.err" &
  local pid=$!
  pids+=("$pid")
  until grep -q '"ready":true' "$out" 2>/dev/null; do
    kill -0 "$pid" 2>/dev/null || { cat "$dir/$name.err" >&2; fail "$name did not start"; }
    sleep 0.1
  done
  printf -v "pid_$name" '%s' "$pid"
  printf -v "rpc_$name" '%s' "$(sed -n 's/.*"jsonrpc":"\([^"]*\)".*/\1/p' "$out" | head -n 1)"
  printf -v "p2p_$name" '%s' "$(sed -n 's/.*"p2p":"\([^"]*\)".*/\1/p' "$out" | head -n 1)"
  note "$name runs (process $pid)"
}

# wait_normal NAME: until `cvp status` at that root ends with 0.
wait_normal() {
  local deadline=$((SECONDS + 30))
  until "$cvp" --root "$dir/$1" status >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { "$cvp" --root "$dir/$1" status || true; fail "$1 did not become normal within 30 s"; }
    sleep 0.2
  done
}

# event ADDRESS: the first event of the queue there that nobody acknowledged, its long line cut.
event() {
  note "$(printf '$ curl -N %s/mq/global/orders' "$1")"
  # The stream has no end: it is left behind the first event.
  { curl -sSN --max-time 2 "http://$1/mq/global/orders" 2>/dev/null || true; } | sed -n '/^id:/,/^data:/{s/^\(.\{150\}\).*/\1.../;s/^/     /;p;};/^ *data:/q'
}

# In its own directory: the SDK writes logs where it runs.
sdk() { (cd "$here/sdk" && exec node pair.mjs "$@"); }

say "1. A pair: node1, the online node, and cvp, its hot standby"
note "Certificates for both; cvp's also carries the name node1, which it may have to take over one day."
run "$cvp" certgen "$dir/tls" --host node1 --ip 127.0.0.1
run "$cvp" certgen "$dir/tls" --host cvp --standby-for node1 --ip 127.0.0.1
run "$cvp" init "$dir/node1" --hostname node1 --role provider --jsonrpc-port 0 --p2p-port 0 --tls-from "$dir/tls"
note "Message queues are kept in its namespace; nothing else is installed for them."
printf '\n[[service]]\nservice_name = "MQ"\n' >>"$dir/node1/configuration/global/ns_static.toml"
start_node node1
run "$cvp" init "$dir/cvp" --hostname cvp --role receiver --peer "node1 $p2p_node1" --jsonrpc-port 0 --p2p-port 0 \
  --tls-from "$dir/tls" --genesis-from "$dir/node1" --keys-from "$dir/node1"
start_node cvp
wait_normal node1
run "$cvp" --root "$dir/node1" status

say "2. Transactions through the public JavaScript SDK: transfers and evidence, secp256k1 and SM2"
note "A client registers a queue first, on both nodes with one call; it is told of every block."
register='{"method":"mq_register","params":[{"queueName":"orders","routingKeys":["MQBlock"]}]}'
run curl -sS "$rpc_node1" -d "$register"
run sdk setup --url "$rpc_node1"
run sdk send --url "$rpc_node1" --count 8 --out "$dir/receipts.jsonl"
event "$rpc_node1"
wait_normal cvp
run "$cvp" --root "$dir/cvp" status

say "3. The online node dies: kill -9, in the middle of a load"
sdk load --url "$rpc_node1" --out "$dir/receipts.jsonl" --seconds 30 >"$dir/load.out" 2>&1 &
load=$!
sleep 3
printf '   $ kill -9 %s\n' "$pid_node1"
{ kill -9 "$pid_node1"; wait "$pid_node1"; } 2>/dev/null || true
pids=("$pid_cvp")
wait "$load" || true
note "the load: $(tail -n 1 "$dir/load.out")"
"$cvp" --root "$dir/cvp" status | sed 's/^/     /' || true
durable=$("$cvp" --root "$dir/cvp" --json status | sed -n 's/.*"durable":\([0-9]*\).*/\1/p' | head -n 1 || true)
[ -n "$durable" ] || fail "the standby does not say how far it is"
note "the standby holds every block up to height $durable"

say "4. The standby takes its place"
note "It refuses while it has heard from node1 within three heartbeats; then the preflight passes."
deadline=$((SECONDS + 20))
until "$cvp" --root "$dir/cvp" upgrade --dry-run >/dev/null 2>&1; do
  [ $SECONDS -lt $deadline ] || { "$cvp" --root "$dir/cvp" upgrade --dry-run || true; fail "the preflight does not pass"; }
  sleep 0.3
done
run "$cvp" --root "$dir/cvp" upgrade
run "$cvp" --root "$dir/cvp" status || true

say "5. Nothing that the standby held is lost, and blocks go on"
run sdk check --url "$rpc_cvp" --in "$dir/receipts.jsonl" --upto "$durable"
note "The consumer goes on at the other node; it registers nothing again."
event "$rpc_cvp"
run sdk send --url "$rpc_cvp" --count 4
run "$cvp" --root "$dir/cvp" verify

say "6. A fresh standby protects the new node1"
run "$cvp" certgen "$dir/tls" --host cvp2 --standby-for node1 --ip 127.0.0.1
run "$cvp" init "$dir/cvp2" --hostname cvp2 --role receiver --peer "node1 $p2p_cvp" --jsonrpc-port 0 --p2p-port 0 \
  --tls-from "$dir/tls" --genesis-from "$dir/cvp" --keys-from "$dir/cvp"
start_node cvp2
wait_normal cvp
run "$cvp" --root "$dir/cvp" status

cat <<TXT

The pair is running. Try next, in another terminal:

  $cvp --root $dir/cvp status --watch          the node that took over (it is node1 now)
  $cvp --root $dir/cvp2 status                 its new standby
  (cd $here/sdk && node pair.mjs send --url $rpc_cvp)   more transactions
  $cvp --root $dir/node1 start                 the old node1 comes back, learns that it was replaced, and makes no block
  $cvp --root $dir/cvp shell                   the operator's shell

Ctrl-C stops both nodes.
TXT
[ -z "${CVP_DEMO_ONCE:-}" ] || exit 0
wait "${pids[-1]}"
