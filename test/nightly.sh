#!/usr/bin/env bash
# Runs what is too long for `make test`, in at most 90 minutes, and goes on after a failure:
#   NIGHTLY_FUZZ=2400  seconds of fuzzing, which all targets share; building them takes some minutes more
#   NIGHTLY_ROUNDS=10  how many times the usual rounds the durability tests make, and the usual size the tests of the
#                      stores have (DURABILITY_FACTOR, STORE_FACTOR); they end after 25 and 10 minutes at most
# and the bench, which takes some eight minutes.
set -uo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
failed=()
targets=$(git grep -hE '^func Fuzz' -- '*_test.go' | wc -l)
test/fuzz.sh $((${NIGHTLY_FUZZ:-2400} / targets))s || failed+=(fuzz)
DURABILITY_FACTOR=${NIGHTLY_ROUNDS:-10} $go test -count=1 -timeout 25m ./test/durability || failed+=(durability)
STORE_FACTOR=${NIGHTLY_ROUNDS:-10} $go test -count=1 -timeout 10m ./store/... ./inbox || failed+=(store)
bench/compare.sh || failed+=(bench)
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
