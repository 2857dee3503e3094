#!/bin/bash
# Bring deploy/Vagrantfile up as it is, with the box of box.sh and software emulation; see that its three hosts have agent,
# etcd and the overlay; take it down. libvirtd is started here by hand, in network, mount and process namespaces of its own,
# with directories of its own: neither systemd nor KVM is needed, a libvirtd of this machine is not met, and nothing is left.
# Needs root, a package in target/debian (`make deb`), and Debian's vagrant, vagrant-libvirt, libvirt-daemon-system,
# qemu-system-x86 and dnsmasq-base.
# Usage: deploy/vm/vagrant-up.sh
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
say() { printf 'vagrant: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# took WHAT COMMAND…
took() {
    local what=$1 start=$SECONDS
    shift
    "$@"
    say "$what took $((SECONDS - start)) s"
}

libvirt() {
    mkdir -p "$work"/{etc,lib,cache,log,home}
    cp -a /etc/libvirt/. "$work/etc/"
    # No network of the machine's: Vagrant makes those that it needs.
    rm -rf "$work/etc/qemu/networks"
    cat >"$work/etc/qemu.conf" <<'END'
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
END
    echo 'auth_unix_rw = "none"' >"$work/etc/libvirtd.conf"
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/libvirt /run/lock
    mount --bind "$work/etc" /etc/libvirt
    mount --bind "$work/lib" /var/lib/libvirt
    mount --bind "$work/cache" /var/cache/libvirt
    mount --bind "$work/log" /var/log/libvirt
    ip link set lo up
    virtlogd --daemon
    libvirtd --daemon
    local tries=0
    until virsh -q -c qemu:///system list >/dev/null 2>&1; do
        ((++tries < 100)) || fail "libvirtd does not answer; see what it says: libvirtd --verbose"
        sleep 0.2
    done
}

inside() {
    libvirt
    export VAGRANT_HOME=$work/home VAGRANT_DOTFILE_PATH=$work/dot VAGRANT_CHECKPOINT_DISABLE=1
    export VAGRANT_DEFAULT_PROVIDER=libvirt OVNET_DRIVER=qemu OVNET_BOX=ovnet/bookworm
    cd "$here/.."
    took "adding the box" vagrant box add --force --name "$OVNET_BOX" "$box"
    took "vagrant up" vagrant up
    local host seen
    for host in 1 2 3; do
        seen=$(vagrant ssh "host$host" -c 'sudo ovctl node ls' -- -q)
        printf '%s\n' "$seen"
        [ "$(grep -cw alive <<<"$seen")" -eq 3 ] || fail "host$host has not three nodes alive"
        vagrant ssh "host$host" -c "sudo ovctl run --network demo -- ping -c 3 10.200.0.$((10 + host % 3 + 1))" -- -q
        vagrant ssh "host$host" -c 'ETCDCTL_API=3 etcdctl endpoint health; systemctl is-active ovagent etcd' -- -q
    done
    took "vagrant destroy" vagrant destroy --force
}

if [ "${1-}" = inside ]; then
    work=$2 box=$3
    inside
    exit
fi
[ $# -eq 0 ] || fail "unknown argument $1; usage: $0"
[ "$(id -u)" -eq 0 ] || fail "namespaces and libvirtd need root: sudo $0"
for tool in vagrant:vagrant libvirtd:libvirt-daemon-system virsh:libvirt-clients dnsmasq:dnsmasq-base \
    qemu-system-x86_64:qemu-system-x86; do
    command -v "${tool%%:*}" >/dev/null || fail "${tool%%:*} is missing: apt-get install ${tool##*:}"
done
box=$("$here/box.sh")
# Disks of the machines: not in memory.
work=$(mktemp -d /var/tmp/ovnet-vagrant-XXXXXX)
trap 'rm -rf "$work"' EXIT
# All that was started goes with the first process in there.
unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" inside "$work" "$box"
