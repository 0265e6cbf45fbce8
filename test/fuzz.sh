#!/usr/bin/env bash
# Runs every fuzz target of the module for a time each: test/fuzz.sh 60s [PACKAGE...]
# It goes on after a finding, and fails at the end when there was one.
set -uo pipefail
cd "$(dirname "$0")/.."
each=${1:-60s}
shift || true
go=${GO:-go}
found=()
for package in $($go list "${@:-./...}"); do
  targets=$($go test -list '^Fuzz' "$package") || { echo "$targets"; exit 1; }
  for target in $(grep '^Fuzz' <<<"$targets"); do
    echo "== $package $target for $each"
    output=$($go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" -fuzzminimizetime 5s "$package" 2>&1) && {
      tail -n 3 <<<"$output"
      continue
    }
    # Go reports its own timer as a failure when it ends in the middle of something: no input was found.
    if grep -q 'context deadline exceeded' <<<"$output" && ! grep -q 'Failing input written' <<<"$output"; then
      grep 'elapsed' <<<"$output" | tail -n 1
      continue
    fi
    echo "$output"
    found+=("$package $target")
  done
done
if [ ${#found[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${found[@]}"
  exit 1
fi
echo "no findings"
