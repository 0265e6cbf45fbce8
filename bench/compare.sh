#!/usr/bin/env bash
# Measures Posthouse and, when asked, Debian's ejabberd beside it in the same minutes, one after the other:
#   bench/compare.sh [ejabberd]
# Results go to the terminal and, as JSON, to bench/results/ (not kept in git). Settings by environment:
#   PAIRS=200 WINDOW=16 DURATION=20s USERS=2000 IDLE=10000 IDLE_TLS=5000 MECHANISM=SCRAM-SHA-256
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${PAIRS:-200} window=${WINDOW:-16} duration=${DURATION:-20s} users=${USERS:-2000}
idle=${IDLE:-10000} idle_tls=${IDLE_TLS:-5000}
with=${1:-}
bench=bin/posthouse-bench
results=bench/results
work=$(mktemp -d)
mkdir -p "$results"
stamp=$(date +%Y%m%d-%H%M%S)
server=""
stop() { [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; server=""; }
trap 'stop; rm -rf "$work"' EXIT

wait_for() { # port
  for _ in $(seq 300); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.2
  done
  echo "nothing listens on port $1" >&2
  exit 1
}

# run NAME PIDS PORT TLSPORT MECHANISM LOGIN_MECHANISM: every scenario against one server.
run() {
  local name=$1 pids=$2 port=$3 tls=$4 mechanism=$5
  local out="$results/$stamp-$name.json"
  local common=(-json -pid "$pids" -mechanism "$mechanism")
  local plain=("${common[@]}" -address "127.0.0.1:$port") secure=("${common[@]}" -address "127.0.0.1:$tls" -security tls)
  echo "== $name ($(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg))" >&2
  $bench "${plain[@]}" -users "$users" register | tee -a "$out"
  $bench "${plain[@]}" -users "$users" -duration "$duration" login | tee -a "$out"
  $bench "${common[@]}" -address "127.0.0.1:$port" -security starttls -users "$users" -duration "$duration" login | tee -a "$out"
  $bench "${plain[@]}" -register -pairs "$pairs" -window "$window" -duration "$duration" message | tee -a "$out"
  local limit
  limit=$(tail -1 "$out" | sed 's/.*"per_second":\([0-9]*\).*/\1/')
  $bench "${plain[@]}" -pairs "$pairs" -window "$window" -duration "$duration" -rate $((limit / 2)) message | tee -a "$out"
  $bench "${plain[@]}" -register -sessions "$idle" idle | tee -a "$out"
  $bench "${secure[@]}" -register -sessions "$idle_tls" idle | tee -a "$out"
  echo "written to $out" >&2
}

echo "building" >&2
make -s build
POSTHOUSE_DATA="$work/data" bin/posthouse serve --config bench/node.yaml >"$work/log" 2>&1 &
server=$!
wait_for 5222
run posthouse "$server" 5222 5223 "${MECHANISM:-SCRAM-SHA-256}"
stop

if [ "$with" = ejabberd ]; then
  for mode in postgres memory; do
    bench/ejabberd/run.sh "$mode" 5322 >"$work/ejabberd" 2>"$work/ejabberd.err" &
    server=$!
    wait_for 5322
    sleep 2
    pids=$(sed -n 's/^-pid //p' "$work/ejabberd")
    run "ejabberd-$mode" "$pids" 5322 5323 "${EJABBERD_MECHANISM:-PLAIN}"
    stop
  done
fi
