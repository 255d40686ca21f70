#!/bin/sh
# ran.sh LOG PAGE...: whether every test that the pages name ran and passed, by what cargo printed of it.
set -eu
log=$1
shift
# `tests/bounds.rs`: `a_test`, `another_test` - names of tests have three underscores at least.
names=$(cat "$@" | grep -oE '`[a-z0-9_]+`' | tr -d '`' | awk -F_ 'NF > 3' | sort -u)
missing=0
for name in $names; do
  # Only what is a test of ours: pages name other long words, too.
  grep -rqE "fn $name\(" tests || continue
  if ! grep -qE "^test ([A-Za-z0-9_]+::)*$name(::[A-Za-z0-9_]+)* \.\.\. ok" "$log"; then
    echo "ran.sh: $name did not run, or did not pass" >&2
    missing=$((missing + 1))
  fi
done
echo "$(echo "$names" | wc -l) named tests, $missing of them did not run"
[ "$missing" -eq 0 ]
