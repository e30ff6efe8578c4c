#!/usr/bin/env bash
# Installs the build into a fresh prefix, builds examples/generate against it with find_package, and runs it.
# usage: consume.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
source_dir=$1 build_dir=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build_dir" --prefix "$work/prefix" >/dev/null
cmake -G Ninja -S "$source_dir/examples/generate" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/build" >/dev/null
output=$("$work/build/example" "$source_dir/models/recall-moe" "Hello" 2)
echo "$output"
grep -q "prompt tokens, first token after" <<<"$output"
if "$work/build/example" /nonexistent "Hello" 2>"$work/errors"; then
  echo "a missing model folder must fail" >&2
  exit 1
fi
grep -q "^example: .*/nonexistent" "$work/errors"
