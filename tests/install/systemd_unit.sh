#!/usr/bin/env bash
# The package under a systemd of its own, in namespaces: this machine's files with a layer above them for all that is
# written, so that nothing is downloaded and nothing of it stays. Exits with 77 where that can't be had.
# usage: systemd_unit.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
source_dir=$1 build_dir=$2
here=$(cd "$(dirname "$0")" && pwd)
skip() { echo "SKIPPED: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "namespaces with a systemd in them need root"
for tool in /lib/systemd/systemd systemctl systemd-analyze journalctl unshare nsenter setpriv openssl; do
  command -v "$tool" >/dev/null || skip "$tool is not here (Debian's systemd, util-linux and openssl)"
done
unshare --pid --mount --uts --ipc --cgroup --net --fork true 2>/dev/null || skip "the machine forbids namespaces"
# Mounts end with this script, however it ends.
[ -n "${OWN_MOUNTS:-}" ] || OWN_MOUNTS=1 exec unshare --mount "$here/systemd_unit.sh" "$@"

work=$(mktemp -d)
group=
clean_up() {
  [ -z "${init:-}" ] || kill -KILL "$init" || true
  wait
  for _ in $(seq 100); do  # its processes are gone a little later than their first one
    [ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || { sleep 0.1; continue; }
    break
  done
  umount "$work/layer" "$work/cgroup" 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT
mkdir "$work/package" "$work/layer" "$work/cgroup"
package=$("$here/make_package.sh" "$build_dir" "$work/package") || exit
mount -t cgroup2 cgroup2 "$work/cgroup" 2>/dev/null || skip "no cgroup2 can be mounted here"
mount -t tmpfs tmpfs "$work/layer"
mkdir "$work/layer/upper" "$work/layer/work" "$work/layer/root"
mkdir "$work/cgroup/longspan_unit.$$" 2>/dev/null || skip "no control group can be made here"
group=$work/cgroup/longspan_unit.$$

sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" setpriv --pdeathsig KILL \
  unshare --kill-child --pid --mount --uts --ipc --cgroup --net --fork \
  "$here/systemd_boot.sh" "$work/layer" "$source_dir" "$package" >"$work/boot" 2>&1 &
started=$!
inside() {
  nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root --wd=/ \
    env -i container=other LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
for _ in $(seq 300); do
  kill -0 $started 2>/dev/null || { cat "$work/boot"; grep -q "^SKIPPED" "$work/boot" && exit 77; exit 1; }
  init=$(tr -d ' ' <"/proc/$started/task/$started/children")
  [ -n "$init" ] && [ -S "/proc/$init/root/run/systemd/private" ] && break
  sleep 0.1
done
inside systemctl is-system-running --wait >/dev/null || { cat "$work/boot"; inside systemctl --failed --no-pager; exit 1; }
inside python3 /mnt/tests/install/systemd_checks.py
