#!/usr/bin/env bash
# Makes the Debian package in a folder and prints its path; exits with 77 where the tools for that are missing.
# usage: make_package.sh BUILD_DIR FOLDER
set -euo pipefail
build_dir=$1 folder=$2
for tool in dpkg-deb dpkg-shlibdeps file; do
  command -v "$tool" >/dev/null || { echo "SKIPPED: $tool is not here (Debian's dpkg-dev and file)" >&2; exit 77; }
done
(cd "$folder" && cpack -G DEB --config "$build_dir/CPackConfig.cmake" -B "$folder" >"$folder/log" 2>&1) ||
  { cat "$folder/log" >&2; exit 1; }
echo "$folder"/longspan_*.deb
