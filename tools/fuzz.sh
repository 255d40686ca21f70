#!/usr/bin/env bash
# Runs each fuzz target for a bounded time, beginning with the seeds of fuzz/seeds; what it finds stands in fuzz/artifacts.
#   tools/fuzz.sh [SECONDS]         60 without an argument
# Needs cargo-fuzz (cargo install cargo-fuzz --locked), which works with the stable toolchain.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-60}
# -Zsanitizer is not stable; what it needs comes with the stable toolchain all the same.
export RUSTC_BOOTSTRAP=1
target=../target/fuzz

cargo fuzz build --target-dir "$target"
mkdir -p artifacts
fuzz() {
  mkdir -p "corpus/$1"
  "$target/x86_64-unknown-linux-gnu/release/$1" "corpus/$1" "seeds/$1" -max_total_time="$seconds" -max_len="$2" \
    -timeout=20 -rss_limit_mb=3000 -artifact_prefix="artifacts/$1-" -print_final_stats=1 >"artifacts/$1.log" 2>&1 ||
    { tail -n 60 "artifacts/$1.log"; echo "fuzz: $1 found something; it is in fuzz/artifacts" >&2; exit 1; }
  echo "fuzz: $1: $(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$1.log") executions, nothing found"
}
fuzz addresses 400
fuzz configs 700
fuzz calls 1024
