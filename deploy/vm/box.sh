#!/bin/bash
# Make the image of deploy/vm/image.sh a box for Vagrant with libvirt, and print its path. It has no boot loader: kernel and
# initrd stay where the image is, and libvirt is told of them. Debian's packages that the hosts install lie in it.
# Usage: deploy/vm/box.sh        then: vagrant box add --name ovnet/bookworm "$(deploy/vm/box.sh)"
#                                      OVNET_BOX=ovnet/bookworm OVNET_DRIVER=qemu vagrant up --provider libvirt
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
image=$("$here/image.sh")
box=$image/ovnet-bookworm.box
if [ ! -e "$box" ]; then
    work=$(mktemp -d "$image/.box-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cat >"$work/Vagrantfile" <<END
# Written by deploy/vm/box.sh.
Vagrant.configure("2") do |config|
  config.ssh.insert_key = false
  config.vm.provider :libvirt do |libvirt|
    libvirt.kernel = "$image/vmlinuz"
    libvirt.initrd = "$image/initrd"
    libvirt.cmd_line = "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off no_timer_check " \\
                       "cryptomgr.notests random.trust_cpu=on"
  end
end
END
    echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 3}' >"$work/metadata.json"
    ln "$image/disk.qcow2" "$work/box.img"
    tar -C "$work" -czf "$work/box" metadata.json Vagrantfile box.img
    mv "$work/box" "$box"
fi
printf '%s\n' "$box"
