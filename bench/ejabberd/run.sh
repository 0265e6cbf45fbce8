#!/usr/bin/env bash
# Runs Debian's ejabberd in the foreground for a measurement, on ports of its own, until Ctrl-C:
#   bench/ejabberd/run.sh [postgres|memory] [PORT]
# postgres: archive, accounts and rosters in a PostgreSQL of its own, with fsync, as in production (default).
# memory:   no archive; accounts in Mnesia.
# It prints the process ids to give to posthouse-bench. Everything it writes is in a temporary folder.
set -euo pipefail
mode=${1:-postgres}
port=${2:-5322}
pgport=$((port + 1000))
here=$(cd "$(dirname "$0")" && pwd)

need=(ejabberd)
[ "$mode" = postgres ] && need+=(postgresql erlang-p1-pgsql)
if ! dpkg -s "${need[@]}" >/dev/null 2>&1; then
  echo "installing: ${need[*]}" >&2
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${need[@]}" >/dev/null
fi
[ "$(id -u)" = 0 ] || { echo "run this as root: ejabberd and PostgreSQL change to users of their own" >&2; exit 1; }

if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
  echo "port $port is in use; name another one" >&2
  exit 1
fi

work=$(mktemp -d /tmp/ejabberd-bench.XXXXXX)
chmod 755 "$work"
stop() {
  trap - EXIT INT TERM
  [ -n "${beam:-}" ] && kill "$beam" 2>/dev/null && wait "$beam" 2>/dev/null || true
  # The Erlang port mapper stays behind otherwise. It refuses to go while another node needs it.
  [ -n "${mapper:-}" ] && epmd -kill >/dev/null 2>&1 || true
  [ -d "$work/pg" ] && su postgres -s /bin/sh -c "$pgbin/pg_ctl -D $work/pg -m fast -w stop" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap stop EXIT INT TERM

mkdir "$work/spool" "$work/log"
chown ejabberd: "$work/spool" "$work/log"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
cat "$work/key.pem" "$work/cert.pem" >"$work/both.pem"
chown ejabberd: "$work"/*.pem
sed -e "s#@PORT@#$port#; s#@TLSPORT@#$((port + 1))#; s#@PGPORT@#$pgport#; s#@CERT@#$work/both.pem#" \
  "$here/ejabberd-$mode.yml" >"$work/ejabberd.yml"
pids=""
if [ "$mode" = postgres ]; then
  pgbin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
  mkdir "$work/pg" && chown postgres: "$work/pg"
  su postgres -s /bin/sh -c "$pgbin/initdb -D $work/pg -A trust >/dev/null &&
    $pgbin/pg_ctl -D $work/pg -w -o '-p $pgport -k /tmp -c listen_addresses=127.0.0.1' -l $work/pg/log start" >/dev/null
  su postgres -s /bin/sh -c "createdb -h 127.0.0.1 -p $pgport ejabberd &&
    psql -q -h 127.0.0.1 -p $pgport -d ejabberd -f /usr/share/ejabberd/sql/pg.sql" >/dev/null
  pids=$(head -1 "$work/pg/postmaster.pid")
fi

cat >"$work/inetrc" <<'END'
{lookup,["file","native"]}.
END
export HOME="$work/spool" ERL_EPMD_ADDRESS=127.0.0.1
if ! (exec 3<>/dev/tcp/127.0.0.1/4369) 2>/dev/null; then mapper=ours; fi
cd "$work/spool"
# The emulator is started directly, so that it is a child of this script and ends with it.
setpriv --reuid ejabberd --regid ejabberd --clear-groups env EJABBERD_CONFIG_PATH="$work/ejabberd.yml" \
  EJABBERD_LOG_PATH="$work/log/ejabberd.log" SPOOL_DIR="$work/spool" \
  erl +K true -smp auto +P 250000 +Q 65536 -noinput -sname "bench$port@localhost" \
  -pa "$(ls -d /usr/lib/*/ejabberd*/ebin | head -1)" \
  -mnesia dir "\"$work/spool\"" -s ejabberd >"$work/log/out" 2>&1 &
beam=$!
for _ in $(seq 120); do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "ejabberd ($mode) listens on 127.0.0.1:$port (TLS $((port + 1)))"
    echo "-pid $beam${pids:+,$pids}"
    wait "$beam"
    exit
  fi
  kill -0 "$beam" 2>/dev/null || break
  sleep 0.5
done
echo "ejabberd did not start:" >&2
tail -30 "$work"/log/* >&2
exit 1
