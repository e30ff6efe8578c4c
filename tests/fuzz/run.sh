#!/usr/bin/env bash
# Fuzzes for FUZZ_SECONDS (5), starting from a corpus.
# usage: run.sh FUZZER CORPUS
set -euo pipefail
work=$(mktemp -d)
"$1" -max_total_time="${FUZZ_SECONDS:-5}" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
  -artifact_prefix="$work/" "$work" "$2" >"$work.log" 2>&1 ||
  { tail -n 40 "$work.log"; echo "the input that failed is in $work"; exit 1; }
grep executed_units "$work.log"
rm -rf "$work" "$work.log"
