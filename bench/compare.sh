#!/usr/bin/env bash
# Measures Posthouse, in XML and on the compact stream, and, when asked, Debian's ejabberd beside it in the same
# minutes, one after the other:
#   bench/compare.sh [ejabberd]
# Results go to the terminal and, as JSON, one object a line, to bench/results/ (not kept in git). Settings by
# environment:
#   PAIRS=200 WINDOW=16 DURATION=20s USERS=2000 IDLE=10000 IDLE_TLS=5000 MECHANISM=SCRAM-SHA-256 PORT=5222
# PORT is that of XMPP; direct TLS is the next one, the compact stream is three above, and HTTP, metrics and the peer
# are above it.
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${PAIRS:-200} window=${WINDOW:-16} duration=${DURATION:-20s} users=${USERS:-2000}
idle=${IDLE:-10000} idle_tls=${IDLE_TLS:-5000} port=${PORT:-5222}
with=${1:-}
case $with in
  "" | ejabberd) ;;
  *) echo "usage: bench/compare.sh [ejabberd]" >&2; exit 2 ;;
esac
if [ "$with" = ejabberd ] && [ "$(id -u)" -ne 0 ]; then
  echo "run this as root: ejabberd and PostgreSQL change to users of their own" >&2
  exit 1
fi
bench=bin/posthouse-bench
results=bench/results
work=$(mktemp -d)
mkdir -p "$results"
stamp=$(date +%Y%m%d-%H%M%S)
files=()
server=""
stop() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
    server=""
  fi
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

must_be_free() { # ports
  for p in "$@"; do
    if taken "$p"; then
      echo "another program listens on port $p: stop it, or name another PORT" >&2
      exit 1
    fi
  done
}

# wait_for PORT LOG: until the server listens; its log is shown when it does not.
wait_for() {
  for _ in $(seq 300); do
    taken "$1" && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.2
  done
  echo "the server did not start:" >&2
  tail -20 "$2" >&2
  exit 1
}

# half FILE: half of the messages a second that were measured last, to see how long a message takes when the server is
# not at its limit.
half() { echo $(($(tail -1 "$1" | sed 's/.*"per_second":\([0-9]*\).*/\1/') / 2 + 1)); }

# run NAME PIDS PORT MECHANISM: every scenario against one server, in XML.
run() {
  local name=$1 pids=$2 at=$3 mechanism=$4
  local out="$results/$stamp-$name.json"
  local common=(-out "$out" -pid "$pids" -mechanism "$mechanism")
  local plain=("${common[@]}" -address "127.0.0.1:$at")
  local secure=("${common[@]}" -address "127.0.0.1:$((at + 1))" -security tls)
  echo "== $name ($(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg))" >&2
  $bench "${plain[@]}" -users "$users" register
  $bench "${plain[@]}" -users "$users" -duration "$duration" login
  $bench "${plain[@]}" -security starttls -users "$users" -duration "$duration" login
  $bench "${plain[@]}" -register -pairs "$pairs" -window "$window" -duration "$duration" message
  $bench "${plain[@]}" -pairs "$pairs" -window "$window" -duration "$duration" -rate "$(half "$out")" message
  $bench "${plain[@]}" -register -sessions "$idle" idle
  $bench "${secure[@]}" -register -sessions "$idle_tls" idle
  files+=("$out")
}

# run_compact PIDS PORT: the same on the compact stream, logging in with SCRAM and then with device tokens.
run_compact() {
  local pids=$1 at=$2
  local out="$results/$stamp-compact.json"
  local common=(-out "$out" -pid "$pids" -transport compact)
  local plain=("${common[@]}" -address "127.0.0.1:$((at + 3))")
  local secure=("${common[@]}" -address "127.0.0.1:$((at + 1))" -security tls)
  echo "== posthouse, compact stream ($(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg))" >&2
  $bench "${plain[@]}" -users "$users" register
  $bench "${plain[@]}" -mechanism SCRAM-SHA-256 -users "$users" -duration "$duration" login
  $bench "${plain[@]}" -users "$users" -duration "$duration" login
  $bench "${plain[@]}" -register -pairs "$pairs" -window "$window" -duration "$duration" message
  $bench "${plain[@]}" -pairs "$pairs" -window "$window" -duration "$duration" -rate "$(half "$out")" message
  $bench "${plain[@]}" -register -sessions "$idle" idle
  $bench "${secure[@]}" -register -sessions "$idle_tls" idle
  files+=("$out")
}

# serve NAME: a node of its own with an empty data folder.
serve() {
  env POSTHOUSE_DATA="$work/$1" \
    POSTHOUSE_LISTEN_XMPP_ADDRESS="127.0.0.1:$port" POSTHOUSE_LISTEN_XMPP_TLS_ADDRESS="127.0.0.1:$((port + 1))" \
    POSTHOUSE_LISTEN_COMPACT_ADDRESS="127.0.0.1:$((port + 3))" \
    POSTHOUSE_LISTEN_HTTP_ADDRESS="127.0.0.1:$((port + 58))" \
    POSTHOUSE_LISTEN_METRICS_ADDRESS="127.0.0.1:$((port + 68))" \
    bin/posthouse serve --quiet --config bench/node.yaml >"$work/log" 2>&1 &
  server=$!
  wait_for "$port" "$work/log"
}

echo "building" >&2
make -s build
must_be_free "$port" "$((port + 1))" "$((port + 3))" "$((port + 58))" "$((port + 68))"
serve xml
run posthouse "$server" "$port" "${MECHANISM:-SCRAM-SHA-256}"
stop
serve compact
run_compact "$server" "$port"
stop

if [ "$with" = ejabberd ]; then
  peer=$((port + 100))
  for mode in postgres memory; do
    must_be_free "$peer" "$((peer + 1))"
    bench/ejabberd/run.sh "$mode" "$peer" >"$work/ejabberd" 2>"$work/ejabberd.err" &
    server=$!
    for _ in $(seq 600); do # installing it may take a while
      grep -q '^-pid ' "$work/ejabberd" && break
      kill -0 "$server" 2>/dev/null || break
      sleep 0.5
    done
    wait_for "$peer" "$work/ejabberd.err"
    pids=$(sed -n 's/^-pid //p' "$work/ejabberd")
    run "ejabberd-$mode" "$pids" "$peer" "${EJABBERD_MECHANISM:-PLAIN}"
    stop
  done
fi

echo "== figures; a ratio is to the first column" >&2
$bench compare "${files[@]}"
echo "written to ${files[*]}" >&2
