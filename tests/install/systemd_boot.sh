#!/bin/sh
# In namespaces of systemd_unit.sh: makes a root of this machine's files and LAYER, installs the package, becomes systemd.
# Kernel settings, modules and the clock, which namespaces share, stay out of its reach.
# usage: systemd_boot.sh LAYER SOURCE_DIR PACKAGE
set -e
layer=$1 source_dir=$2 package=$3
root=$layer/root
mount --make-rprivate /
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" overlay "$root" ||
  { echo "SKIPPED: no overlay of this machine's files can be mounted"; exit 77; }

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in dev run tmp var/tmp mnt etc/systemd/system; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp" "$root/var/tmp"
mkdir "$root/dev/pts" "$root/dev/shm"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount --bind "$source_dir" "$root/mnt"
mount -o remount,bind,ro "$root/mnt"

rm -rf "$root/etc/longspan" "$root/var/cache/longspan" "$root/var/cache/private"
# Not every machine has it: then users that systemd makes for a service have no entry in the user database.
rm -f "$root"/usr/lib/*/libnss_systemd.so.2
: >"$root/etc/fstab"
head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$root/etc/machine-id"
cp "$package" "$root/tmp/longspan.deb"
chroot "$root" dpkg --install --no-triggers /tmp/longspan.deb >/dev/null
rm "$root/tmp/longspan.deb"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"

cd "$root"
mkdir run/old
pivot_root . run/old
umount -l /run/old
rmdir /run/old
mount --make-rshared /  # what systemd expects of who makes its container
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog /lib/systemd/systemd --unit=basic.target
