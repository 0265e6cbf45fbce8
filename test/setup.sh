#!/usr/bin/env bash
# Installs what the whole-system tests talk to: XMPP clients that others wrote, strace, a disk that can be unplugged,
# and libexpat's xmlwf. It tells what it does, does nothing when all is there, and needs a Debian-like system.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian package, and a command or file that shows that it is there.
needs=(
  "python3            /usr/bin/python3"
  "python3-slixmpp    /usr/lib/python3/dist-packages/slixmpp/__init__.py"
  "go-sendxmpp        /usr/bin/go-sendxmpp"
  "profanity          /usr/bin/profanity"
  "bsdutils           /usr/bin/script"
  "strace             /usr/bin/strace"
  "fuse3              /usr/bin/fusermount3"
  "e2fsprogs          mke2fs"
  "mount              losetup"
  "expat              /usr/bin/xmlwf"
)
export PATH="$PATH:/usr/sbin:/sbin"

missing=()
for need in "${needs[@]}"; do
  read -r package proof <<<"$need"
  case $proof in
    /*) [ -e "$proof" ] || missing+=("$package") ;;
    *) command -v "$proof" >/dev/null || missing+=("$package") ;;
  esac
done
command -v npm >/dev/null || missing+=(nodejs npm)

if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "setup: this is not a Debian-like system: install these by hand, under the names that they have here:" \
      "${missing[*]}" >&2
    exit 1
  fi
  root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "setup: neither root nor sudo: ask for: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    root=(sudo)
  fi
  apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
  log=$(mktemp)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "setup: apt-get failed; the whole of it is in $log" >&2
    exit 1
  fi
  rm -f "$log"
fi

# The JavaScript clients, exactly as locked. The lock names no registry: the one that npm is configured for is used.
clients=test/clients
if [ -f "$clients/package-lock.json" ] &&
  ! cmp -s "$clients/package-lock.json" "$clients/node_modules/.installed-lock"; then
  echo "setup: npm ci in $clients"
  (cd "$clients" && npm ci --no-audit --no-fund --ignore-scripts --omit-lockfile-registry-resolved --loglevel=error)
  cp "$clients/package-lock.json" "$clients/node_modules/.installed-lock"
fi
echo "setup: all there"
