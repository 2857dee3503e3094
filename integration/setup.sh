#!/usr/bin/env bash
# See to what the build and the tests need: Debian packages by apt-get, if any is missing, and a Rust that is new enough.
# Prints what it does; does nothing, silently, when all is there. With `vm`: also what virtual machines need, with `deploy`
# what the Vagrantfile is checked by, with `vagrant` what it needs to be brought up.
set -euo pipefail

readonly NEEDED_RUST=1.88
# Programs such as nft and sysctl are there, and not in every user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# package | a program or file of it | what for
readonly PACKAGES='
gcc                | cc                                          | links the programs
libc6-dev          | /usr/include/stdio.h                        | links the programs
ca-certificates    | /etc/ssl/certs/ca-certificates.crt          | lets cargo download crates
protobuf-compiler  | protoc                                      | builds the etcd-client crate
libprotobuf-dev    | /usr/include/google/protobuf/descriptor.proto | builds the etcd-client crate
nftables           | nft                                         | rules of the agent, faults of the lab
iptables           | iptables                                    | a firewall of the host beside ours
bind9-dnsutils     | dig                                         | asks name servers
dnsmasq-base       | dnsmasq                                     | name servers of the lab
curl               | curl                                        | asks published ports
iproute2           | ip                                          | hosts of the lab
util-linux         | nsenter                                     | hosts of the lab
bsdextrautils      | column                                      | make help
hostname           | hostname                                    | hosts of the lab
procps             | sysctl                                      | hosts of the lab
iputils-ping       | ping                                        | traffic of the lab
etcd-server        | etcd                                        | the store of the lab
etcd-client        | etcdctl                                     | looks into the store
openssl            | openssl                                     | certificates of the TLS tests
'

# For `make test-vm`.
readonly VM_PACKAGES='
qemu-system-x86    | qemu-system-x86_64                          | runs the virtual machines
qemu-utils         | qemu-img                                    | their disks
debootstrap        | debootstrap                                 | makes their Debian
e2fsprogs          | mke2fs                                      | makes their file system
dpkg-dev           | dpkg-scanpackages                           | makes their package repository
openssh-client     | ssh                                         | the way in
'

# For `make check-deploy`.
readonly DEPLOY_PACKAGES='
vagrant            | vagrant                                     | reads the Vagrantfile
vagrant-libvirt    | /usr/share/doc/vagrant-libvirt              | knows the options of its provider
'

# For `make vagrant-up`, besides those for virtual machines and for `make check-deploy`.
readonly LIBVIRT_PACKAGES='
libvirt-daemon-system | libvirtd                                 | runs the machines of Vagrant
libvirt-clients    | virsh                                       | tells when it is there
'

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

present() { # present PROGRAM-OR-FILE
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

trim() { read -r REPLY <<<"$1"; printf '%s' "$REPLY"; }

install_missing() {
    local package what why missing=() root=()
    while IFS='|' read -r package what why; do
        package=$(trim "$package") what=$(trim "$what") why=$(trim "$why")
        [ -n "$package" ] || continue
        present "$what" || { missing+=("$package"); say "missing: $package ($why)"; }
    done <<<"$1"
    [ ${#missing[@]} -gt 0 ] || return 0

    command -v apt-get >/dev/null || fail "install the missing packages with this system's package manager, then run it again"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "as root: apt-get install ${missing[*]}"
        root=(sudo)
    fi
    say "installing by apt-get: ${missing[*]}"
    "${root[@]}" apt-get update -q
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    # Debian starts an etcd of its own with the package; the lab runs its own, and nobody asked for that one.
    if [[ " ${missing[*]} " == *' etcd-server '* ]] && [ -d /run/systemd/system ]; then
        say "stopping and disabling the etcd service that came with the package"
        "${root[@]}" systemctl disable --now etcd.service
    fi
}

check_rust() {
    local rustup="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    command -v cargo >/dev/null || fail "cargo is missing; install Rust $NEEDED_RUST or newer: $rustup"
    local have
    have=$(cargo --version | cut -d ' ' -f 2)
    if [ "$(printf '%s\n' "$NEEDED_RUST" "$have" | sort -V | head -n 1)" != "$NEEDED_RUST" ]; then
        fail "cargo $have is too old, $NEEDED_RUST is needed: rustup update stable, or install it: $rustup"
    fi
    local tool
    for tool in fmt clippy; do
        cargo "$tool" --version >/dev/null 2>&1 || fail "cargo $tool is missing: rustup component add ${tool/fmt/rustfmt}"
    done
}

case ${1-} in
'') install_missing "$PACKAGES" ;;
vm) install_missing "$PACKAGES$VM_PACKAGES" ;;
deploy) install_missing "$PACKAGES$DEPLOY_PACKAGES" ;;
vagrant) install_missing "$PACKAGES$VM_PACKAGES$DEPLOY_PACKAGES$LIBVIRT_PACKAGES" ;;
*) fail "unknown argument $1; usage: $0 [vm|deploy|vagrant]" ;;
esac
check_rust
