#!/bin/sh
# Question: how does a bare host with systemd and Docker, or containerd alone, come to be, beside all
# that runs here?
# Run as the first process of new mount, pid, network, host name, IPC and cgroup namespaces. Its
# root is the tree's, under a layer of its own that takes all writes and is still there at the next
# boot. What packages do when they are installed (users, groups, a shell by the name of sh, services
# that start at boot) is done here.
# Usage: host.sh DIRECTORY TREE [HIERARCHIES]     (DIRECTORY/share is /mnt there: how files get in)
set -eu
directory=$1
tree=$2
hierarchies=${3-}
cd "$directory"
mkdir -p layer work root docker containerd share
mount -t overlay none -o "lowerdir=$tree,upperdir=$directory/layer,workdir=$directory/work" root
cd root
mkdir -p etc/docker proc sys dev run tmp var/tmp var/lib/docker var/lib/containerd opt root mnt host
mount -t proc none proc
mount --rbind proc/sys proc/sys
mount -o remount,bind,ro proc/sys # this machine's, but for the network
mount --rbind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup # this namespace's: all that systemd can arrange
mount -t tmpfs -o mode=0755 none run
# Hierarchies of version 1 that host.ts has made cgroups in. systemd does not know of them.
for hierarchy in $hierarchies; do
  mkdir -p "run/cgroups/$hierarchy"
  case $hierarchy in
  systemd) mount -t cgroup -o none,name=systemd none "run/cgroups/$hierarchy" ;;
  *) mount -t cgroup -o "$hierarchy" none "run/cgroups/$hierarchy" ;;
  esac
done
mount -t tmpfs -o mode=1777 none tmp
mount -t tmpfs -o mode=0755 none dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 none dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mount --bind "$directory/share" mnt
mount --bind "$directory/docker" var/lib/docker # the upper layer of an overlay can be no overlay
mount --bind "$directory/containerd" var/lib/containerd

install_packages() {
  [ -e usr/bin/sh ] || ln -s bash usr/bin/sh
  rm -rf var/run etc/init.d # systemctl would call Perl for the latter
  ln -s /run var/run
  cat >etc/passwd <<END
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
END
  cat >etc/group <<END
root:x:0:
nogroup:x:65534:
END
  tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
  echo bare >etc/hostname
  echo '127.0.0.1 localhost bare' >etc/hosts
  systemctl --quiet --root=. enable containerd.service
  if [ -e usr/lib/systemd/system/docker.service ] || [ -e lib/systemd/system/docker.service ]; then
    echo docker:x:999: >>etc/group
    # The kernel has no iptables. Without them a container's packets keep its address: host.ts knows it.
    echo '{ "iptables": false, "ip6tables": false, "bip": "198.18.253.1/24" }' >etc/docker/daemon.json
    systemctl --quiet --root=. enable docker.socket docker.service
  fi
  systemctl --quiet --root=. mask console-getty.service getty.target systemd-networkd.service \
    systemd-sysctl.service ldconfig.service systemd-modules-load.service
}
[ -e etc/passwd ] || install_packages
ip link set lo up
pivot_root . host
umount -l host
mount --make-rshared /
export container=lab
exec /lib/systemd/systemd
