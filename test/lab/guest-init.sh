#!/bin/busybox sh
# Question: how does a guest become a machine with Docker or Podman, on which the lab's scenes are played?
# It is pid 1. The kernel's messages and ours go to the first serial line, results to the second.
# Input: /lab (guest.ts makes it), with policy.bin where SELinux shall be enforcing; on the kernel's
# command line the second serial line and the program that plays.
export PATH=/usr/bin:/usr/sbin:/lab/bin HOME=/root
die() { echo "guest: $*"; tail -n 5 /tmp/engine.log; poweroff -f; }

mount_all() {
  mount -t proc none /proc
  mount -t sysfs none /sys
  if [ -e /lab/policy.bin ]; then load_policy; fi
  mount -t devtmpfs none /dev
  mkdir -p /dev/pts /dev/shm /run /tmp /root
  mount -t devpts none /dev/pts
  mount -t tmpfs none /dev/shm
  mount -t tmpfs -o "mode=755$run_label" none /run
  mount -t tmpfs -o "mode=1777$tmp_label" none /tmp
  mount -t tmpfs -o "mode=755$lib_label" none /var/lib
  mount -t cgroup2 none /sys/fs/cgroup
  [ ! -e /sys/kernel/security ] || mount -t securityfs none /sys/kernel/security
}

# Before the other file systems are mounted: what they hold gets its labels then.
load_policy() {
  mount -t selinuxfs none /sys/fs/selinux || die "this kernel runs without SELinux"
  dd if=/lab/policy.bin of=/sys/fs/selinux/load bs=16M 2>/dev/null || die "the policy does not load"
  run_label=,rootcontext=system_u:object_r:var_run_t:s0
  tmp_label=,rootcontext=system_u:object_r:tmp_t:s0
  lib_label=,rootcontext=system_u:object_r:var_lib_t:s0
}

# A domain is a process's from execve on: the rest runs as init's scripts do.
be_confined() {
  setfiles /etc/selinux/default/contexts/files/file_contexts /dev || die "no labels for /dev"
  exec runcon system_u:system_r:initrc_t:s0 /usr/bin/busybox sh /lab/init confined
}

# For the Node that plays, as initrc_t: authproxy_t has the right by itself.
enforce() {
  echo 1 >/sys/fs/selinux/booleans/allow_execmem
  echo 1 >/sys/fs/selinux/commit_pending_bools
  echo 1 >/sys/fs/selinux/enforce
}

if [ "$1" != confined ]; then
  mount_all
  if [ -e /lab/policy.bin ]; then be_confined; fi
fi
if [ -e /lab/policy.bin ]; then enforce; fi
ip link set lo up
ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up || die "no network to the host"

start_docker() {
  # By ourselves, because dockerd gives a containerd of its own 15 s to start, and an emulated one may need
  # longer. Through pipes: a daemon that SELinux confines may not write a file of ours.
  {
    containerd 2>&1 | cat >/tmp/containerd.log
    die "containerd ended: $(tail -n 3 /tmp/containerd.log)"
  } &
  until [ -S /run/containerd/containerd.sock ]; do sleep 0.2; done
  {
    dockerd --containerd /run/containerd/containerd.sock --iptables=false \
      --ip6tables=false --bridge=none --userland-proxy=false \
      --exec-opt native.cgroupdriver=cgroupfs 2>&1 | cat >/tmp/engine.log
    die "dockerd ended"
  } &
  until [ -S /var/run/docker.sock ]; do sleep 0.2; done
}

start_podman() {
  mkdir -p /run/podman /var/tmp
  {
    podman system service --time 0 unix:///run/podman/podman.sock >/tmp/engine.log 2>&1
    die "podman ended"
  } &
  until [ -S /run/podman/podman.sock ]; do sleep 0.2; done
}

if [ -x /usr/bin/podman ]; then start_podman; else start_docker; fi
/lab/bin/node "/lab/authproxy/test/lab/$program" /lab/guest.json >"/dev/$results" ||
  die "the scenes failed"
sync
poweroff -f
