#!/usr/bin/env bash
# Holds namespaces in which Podman runs: only cgroups of version 2, as crun takes no other beside them, and a /run of its
# own, in which nothing is left.
set -euo pipefail
mount --make-rprivate /
mount -t tmpfs tmpfs /run
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo ready
exec sleep infinity
