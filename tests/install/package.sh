#!/usr/bin/env bash
# Makes the Debian package, unpacks it, and starts what it installs: the server with the model in the box.
# usage: package.sh BUILD_DIR
set -euo pipefail
build_dir=$1
for tool in dpkg-deb dpkg-shlibdeps; do
  command -v "$tool" >/dev/null || { echo "SKIPPED: $tool is not here (Debian's dpkg-dev)"; exit 77; }
done
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
(cd "$work" && cpack -G DEB --config "$build_dir/CPackConfig.cmake" -B "$work" >"$work/log" 2>&1) ||
  { cat "$work/log" >&2; exit 1; }
package=$(echo "$work"/longspan_*.deb)
dpkg-deb --field "$package" Depends | grep -q libdnnl || { echo "the package names no libraries" >&2; exit 1; }
dpkg-deb -x "$package" "$work/root"
grep -q "^ExecStart=/usr/bin/longspan serve" "$work/root/usr/lib/systemd/system/longspan.service"

cd "$work"
"$work/root/usr/bin/longspan" serve --port 0 2>"$work/err" &
server=$!
for _ in $(seq 300); do
  grep -q "^ready: recall-moe" "$work/err" && break
  kill -0 $server || { cat "$work/err" >&2; exit 1; }
  sleep 0.1
done
cat "$work/err"
kill -TERM $server
wait $server
