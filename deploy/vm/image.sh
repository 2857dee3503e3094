#!/bin/bash
# Build the Debian 12 image that the tests in virtual machines boot, and print the directory that has it: disk.qcow2,
# vmlinuz, initrd, and key, which root and the user `vagrant` there let in. One that is there already is used again until
# this script changes. Needs root, and QEMU in neither case: nothing is booted here.
# Usage: deploy/vm/image.sh
#   OVNET_VM_DIR=DIR      where images are kept; default /var/tmp/ovnet-vm
#   OVNET_VM_MIRROR=URL   where Debian is taken from; default http://deb.debian.org/debian
set -euo pipefail

readonly DIR=${OVNET_VM_DIR:-/var/tmp/ovnet-vm}
readonly MIRROR=${OVNET_VM_MIRROR:-http://deb.debian.org/debian}
readonly SUITE=bookworm

# In the image from the start: what a small Debian server has, and what the tests run. etcd is off.
readonly BASE=systemd,systemd-sysv,dbus,udev,kmod,iproute2,iputils-ping,openssh-server,sudo,libnss-myhostname,procps,curl,ca-certificates
readonly BASE2=linux-image-cloud-amd64,initramfs-tools,python3,etcd-server,etcd-client
# Beside it in a repository of its own (file:/srv/debian), so that what the package and its users install by apt is
# resolved by apt, from Debian's packages, without a way out of the machine.
readonly REPOSITORY='nftables iptables'

say() { printf 'image: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

check_tools() {
    local tool
    for tool in debootstrap:debootstrap mke2fs:e2fsprogs qemu-img:qemu-utils ssh-keygen:openssh-client \
        dpkg-scanpackages:dpkg-dev; do
        command -v "${tool%%:*}" >/dev/null || fail "${tool%%:*} is missing: apt-get install ${tool##*:}"
    done
    [ "$(id -u)" -eq 0 ] || fail "debootstrap needs root: sudo $0"
}

inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }

debian() {
    say "debootstrap $SUITE from $MIRROR"
    debootstrap --variant=minbase --include="$BASE,$BASE2" "$SUITE" "$root" "$MIRROR" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap failed: $(tail -n 5 "$work/debootstrap.log")"
}

# Programs with what they depend on, as far as the base has it not.
repository() {
    say "packages beside it: $REPOSITORY"
    inside apt-get -qq -o Dir::Cache::pkgcache= update
    inside install -d /srv/debian/partial
    # shellcheck disable=SC2086 # a list
    inside apt-get -qq -y --no-install-recommends --download-only -o Dir::Cache::archives=/srv/debian install $REPOSITORY
    rm -rf "$root/srv/debian/partial" "$root/srv/debian/lock"
    (cd "$root/srv/debian" && dpkg-scanpackages --multiversion . >Packages 2>"$work/scan.log")
    echo 'deb [trusted=yes] file:/srv/debian ./' >"$root/etc/apt/sources.list"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
    inside apt-get -qq update
}

users() {
    ssh-keygen -q -t ed25519 -N '' -C 'ovnet test machines' -f "$work/key"
    inside useradd --create-home --shell /bin/bash vagrant
    echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
    chmod 0440 "$root/etc/sudoers.d/vagrant"
    local home
    for home in root home/vagrant; do
        install -d -m 0700 "$root/$home/.ssh"
        cat "$work/key.pub" "$here/vagrant.pub" >"$root/$home/.ssh/authorized_keys"
        chmod 0600 "$root/$home/.ssh/authorized_keys"
    done
    # The key of Vagrant that everyone has opens the box's user, and not root.
    cp "$work/key.pub" "$root/root/.ssh/authorized_keys"
    inside chown -R vagrant:vagrant /home/vagrant/.ssh
}

settings() {
    # systemd.hostname= and ip= on the kernel's command line name a machine; systemd-network-generator reads the latter.
    echo debian >"$root/etc/hostname"
    # Not the resolver of who built the image.
    : >"$root/etc/resolv.conf"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    cat >"$root/etc/systemd/network/99-dhcp.network" <<'END'
[Match]
Name=eth0

[Network]
DHCP=ipv4
END
    echo '/dev/vda / ext4 defaults,noatime 0 1' >"$root/etc/fstab"
    # Root logs in with a key, without waiting for the name of who comes.
    printf 'PermitRootLogin prohibit-password\nUseDNS no\n' >"$root/etc/ssh/sshd_config.d/test.conf"
    # Emulated processors: nothing that is not asked for.
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
    inside systemctl -q enable systemd-networkd.service systemd-network-generator.service
    inside systemctl -q disable etcd.service
    inside systemctl -q mask apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer \
        fstrim.timer dpkg-db-backup.timer e2scrub_reap.service getty@tty1.service serial-getty@ttyS0.service \
        sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount
    install -d "$root/var/log/journal"
    # Each machine makes its own. With a shared one, clones have the same MACs on their devices.
    : >"$root/etc/machine-id"
    rm -f "$root/var/lib/dbus/machine-id"
}

kernel() {
    say "initrd"
    sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=zstd/' "$root/etc/initramfs-tools/initramfs.conf"
    printf '%s\n' virtio_pci virtio_mmio virtio_blk virtio_net ext4 crc32c_generic >>"$root/etc/initramfs-tools/modules"
    inside update-initramfs -u >"$work/initramfs.log" 2>&1
    cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
    cp "$root"/boot/initrd.img-* "$work/initrd"
}

# Unpartitioned and without a boot loader: QEMU is given kernel and initrd.
disk() {
    say "disk"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/log/*.log "$root"/usr/share/{doc,info,locale}/*
    truncate -s 3G "$work/disk.raw"
    mke2fs -q -t ext4 -m 0 -d "$root" "$work/disk.raw"
    qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
    rm "$work/disk.raw"
}

here=$(cd "$(dirname "$0")" && pwd)
image=$DIR/$SUITE-$(cat "$0" "$here/vagrant.pub" | sha256sum | cut -c 1-12)
if [ ! -d "$image" ]; then
    check_tools
    mkdir -p "$DIR"
    work=$(mktemp -d "$DIR/.build-XXXXXX")
    root=$work/root
    mkdir "$root"
    unmount() { ! mountpoint -q "$root/proc" || umount "$root/proc"; }
    trap 'unmount; rm -rf "$work"' EXIT
    debian
    mount -t proc proc "$root/proc"
    repository
    users
    settings
    kernel
    unmount
    disk
    rm -rf "$root"
    # Whole or not at all; who was faster has made the same.
    chmod 0755 "$work"
    [ -z "${SUDO_UID-}" ] || chown "$SUDO_UID" "$work/key"
    mv -T "$work" "$image" 2>/dev/null || [ -d "$image" ]
    say "made in $SECONDS s: $image, $(du -h "$image/disk.qcow2" | cut -f 1)"
fi
printf '%s\n' "$image"
