#!/bin/bash
# Make a fresh Debian 12 a host of the cluster: etcd, the agent, and a sandbox on the overlay `demo`. Run by Vagrant as
# root, on one host after the other; running it again changes nothing.
# Usage: provision.sh NUMBER HOSTS NET      this host's number from 1, how many there are, the underlay's first three octets
set -euo pipefail

number=$1 hosts=$2 net=$3
name=host$number
address=$net.$((10 + number))
export DEBIAN_FRONTEND=noninteractive ETCDCTL_API=3

say() { printf '%s: %s\n' "$name" "$*"; }

# wait_for WHAT SECONDS COMMAND…: until the command succeeds.
wait_for() {
    local what=$1 limit=$2
    shift 2
    local until=$((SECONDS + limit))
    while ! "$@" >/dev/null 2>&1; do
        if ((SECONDS >= until)); then
            say "$what: not so after $limit s; the last answer was:" >&2
            "$@" >&2 || true
            return 1
        fi
        sleep 1
    done
}

store() {
    local list= n
    for ((n = 1; n <= hosts; n++)); do list+=${list:+,}$net.$((10 + n)):2379; done
    printf '%s' "$list"
}

# The members so far, as etcd wants them: host1=http://…:2380,host2=http://…:2380
members() {
    local list= n
    for ((n = 1; n <= number; n++)); do list+=${list:+,}host$n=http://$net.$((10 + n)):2380; done
    printf '%s' "$list"
}

install_etcd() {
    say "etcd"
    # Kept from starting with Debian's defaults, which would make a cluster of its own.
    systemctl mask --runtime --quiet etcd.service
    apt-get -qq update
    apt-get -qq --no-install-recommends install etcd-server etcd-client >/dev/null
    systemctl unmask --runtime --quiet etcd.service
}

# Refused for some seconds after the host before has joined, until the cluster is sure of itself.
add_member() {
    local first="http://$net.11:2379" peer="http://$address:2380"
    etcdctl --endpoints "$first" member list | grep -qwF "$peer" ||
        etcdctl --endpoints "$first" member add "$name" --peer-urls "$peer"
}

join_etcd() {
    local state=new
    if ((number > 1)); then
        state=existing
        wait_for "the cluster takes $name in" 60 add_member
    fi
    cat >/etc/default/etcd <<SETTINGS
ETCD_NAME=$name
ETCD_LISTEN_PEER_URLS=http://$address:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://$address:2380
ETCD_LISTEN_CLIENT_URLS=http://$address:2379,http://127.0.0.1:2379
ETCD_ADVERTISE_CLIENT_URLS=http://$address:2379
ETCD_INITIAL_CLUSTER=$(members)
ETCD_INITIAL_CLUSTER_STATE=$state
SETTINGS
    systemctl enable --quiet etcd.service
}

install_agent() {
    say "agent"
    # Its settings first, so that it starts once and rightly; dpkg keeps a settings file that is there.
    install -d /etc/ovnet
    cat >/etc/ovnet/agent.toml <<SETTINGS
# Written by deploy/vagrant/provision.sh; /usr/share/doc/ovnet/OPERATIONS.md and ovagent(8) tell all keys.
advertise = "$address"
store = "etcd://$(store)"
SETTINGS
    apt-get -qq --no-install-recommends -o Dpkg::Options::=--force-confold install /tmp/ovnet.deb iproute2 >/dev/null
    wait_for "the agent answers" 60 ovctl version
}

join_overlay() {
    say "overlay demo"
    if ! ovctl network inspect demo >/dev/null 2>&1; then
        ovctl network create -d overlay --subnet 10.200.0.0/24 demo >/dev/null
    fi
    if ! ovctl sandbox inspect "web$number" >/dev/null 2>&1; then
        ovctl sandbox create --network "demo:ip=10.200.0.$((10 + number))" "web$number" >/dev/null
    fi
    local n
    for ((n = 1; n <= number; n++)); do
        wait_for "web$number reaches web$n" 30 ip netns exec "web$number" ping -c 1 -W 1 "10.200.0.$((10 + n))"
    done
    say "web$number reaches all $number sandboxes of demo"
}

if ! command -v etcd >/dev/null; then
    install_etcd
fi
if ! grep -qs ETCD_INITIAL_CLUSTER_STATE /etc/default/etcd; then
    join_etcd
fi
systemctl start etcd.service
wait_for "etcd answers" 60 etcdctl endpoint health
install_agent
join_overlay
