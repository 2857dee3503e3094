#!/bin/sh
# Check deploy/Vagrantfile and what it runs, without a network, a hypervisor or a box. Both ways of the libvirt provider.
# Needs Debian's vagrant and vagrant-libvirt: apt-get install --no-install-recommends vagrant vagrant-libvirt
set -eu
cd "$(dirname "$0")"

command -v vagrant >/dev/null || {
    echo "vagrant is missing: apt-get install --no-install-recommends vagrant vagrant-libvirt" >&2
    exit 1
}

# Its own places, so that nothing is left beside the Vagrantfile or in the home directory.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export VAGRANT_DOTFILE_PATH="$scratch/dot" VAGRANT_HOME="$scratch/home" VAGRANT_CHECKPOINT_DISABLE=1

bash -n vagrant/provision.sh
VAGRANT_DEFAULT_PROVIDER=libvirt vagrant validate
OVNET_DRIVER=qemu VAGRANT_DEFAULT_PROVIDER=libvirt vagrant validate
# VirtualBox itself is not in Debian; the file is read all the same, less what only the provider could check.
vagrant validate --ignore-provider
