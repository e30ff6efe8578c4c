#!/usr/bin/env bash
# Makes the Debian package, unpacks it, and starts what it installs: the server with the model in the box.
# usage: package.sh BUILD_DIR
set -euo pipefail
build_dir=$1
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
package=$("$(dirname "$0")/make_package.sh" "$build_dir" "$work") || exit
dpkg-deb --field "$package" Depends | grep -q libdnnl || { echo "the package names no libraries" >&2; exit 1; }
dpkg-deb -x "$package" "$work/root"
grep -q "^ExecStart=/usr/bin/longspan serve" "$work/root/usr/lib/systemd/system/longspan.service"
for file in lib/systemd/system/longspan.service share/doc/longspan/serving.md share/longspan/grafana-dashboard.json \
            share/longspan/eval/gsm8k/test.jsonl; do
  [ -f "$work/root/usr/$file" ] || { echo "the package lacks $file" >&2; exit 1; }
done
page=$work/root/usr/share/man/man1/longspan.1.gz
gzip -dc "$page" | cmp - <("$work/root/usr/bin/longspan" help man)
cmp "$work/root/usr/share/bash-completion/completions/longspan" <("$work/root/usr/bin/longspan" help bash)
cmp "$work/root/usr/share/zsh/vendor-completions/_longspan" <("$work/root/usr/bin/longspan" help zsh)
if command -v groff >/dev/null; then
  warnings=$(gzip -dc "$page" | groff -man -ww -Tutf8 2>&1 >"$work/page")
  [ -z "$warnings" ] || { echo "the man page: $warnings" >&2; exit 1; }
  grep -q "out of memory or of KV pages" "$work/page"
else
  echo "SKIPPED: the man page is not set; groff is not here"
fi

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
