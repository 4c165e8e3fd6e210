#!/usr/bin/env bash
# Boots systemd in namespaces of its own: boot.sh FOLDER UNIT..., with the engine's folder and the units.
# The machine's files are read-only here, and none of its own units runs: they would clean up its /tmp.
set -euo pipefail
engine=$1
shift
mount --make-rprivate /
mount -o remount,bind,ro /
mount -t tmpfs tmpfs /run
mkdir -p /run/units /run/opt/bytebrew /run/etc
cp "$@" /run/units
for unit in sysinit basic network-online multi-user shutdown; do
  printf '[Unit]\nDescription=%s\n' "$unit" >"/run/units/$unit.target"
done
cp /etc/passwd /etc/group /run/etc
echo 'bytebrew:x:990:990::/var/lib/bytebrew:/usr/sbin/nologin' >>/run/etc/passwd
echo 'bytebrew:x:990:' >>/run/etc/group
for file in passwd group; do mount --bind "/run/etc/$file" "/etc/$file"; done
mount --bind "$engine" /run/opt/bytebrew
mount --rbind /run/opt /opt
for folder in /tmp /var /usr/lib/systemd/system-generators /dev/shm; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /var/lib /var/tmp
mount -t proc proc /proc
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
export container=other SYSTEMD_UNIT_PATH=/run/units
exec /usr/lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
