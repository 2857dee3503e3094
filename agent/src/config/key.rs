//! Every setting: its name (the flag without its dashes, and the key of the file), what it takes, its default and its
//! help.

/// A setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// `gossip-port`: `--gossip-port`, `OVNET_GOSSIP_PORT`, `gossip-port = …`.
    pub(super) name: &'static str,
    /// What it takes, in help.
    pub(super) value: &'static str,
    /// Its default as it would be written; several are separated by blanks.
    pub(super) default: Option<&'static str>,
    /// It can be given more than once.
    pub(super) many: bool,
    /// Its one-letter flag.
    pub(super) short: Option<char>,
    /// It is true or false, which the file has words for.
    pub(super) truth: bool,
    /// Its section in the help text.
    pub(super) heading: &'static str,
    /// What it does.
    pub(super) help: &'static str,
}

impl Key {
    /// The environment variable.
    pub(super) fn variable(&self) -> String {
        format!("OVNET_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

const NODE: &str = "This node";
const CLUSTER: &str = "The cluster";
const DATA: &str = "Networks";
const BRIDGES: &str = "This host's network \"bridge\"";
const SANDBOXES: &str = "Settings of sandboxes";
const PLACES: &str = "Places on this host";

const fn one(
    name: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    text: (&'static str, &'static str),
) -> Key {
    Key { name, value, default, many: false, short: None, truth: false, heading: text.0, help: text.1 }
}

const fn many(
    name: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    text: (&'static str, &'static str),
) -> Key {
    Key { many: true, ..one(name, value, default, text) }
}

const fn truth(name: &'static str, default: &'static str, text: (&'static str, &'static str)) -> Key {
    Key { truth: true, ..one(name, "true|false", Some(default), text) }
}

pub(super) const NODE_NAME: Key = one(
    "node-name",
    "NAME",
    None,
    (NODE, "Name of this node, unique in the cluster; the host's name if not given"),
);
pub(super) const ADVERTISE: Key = one(
    "advertise",
    "ADDR|IFACE",
    None,
    (
        NODE,
        "Underlay address at which the other nodes reach this node, for gossip and VXLAN, or the interface \
         that has it. If not given, the source address of the default route",
    ),
);
pub(super) const LOG_LEVEL: Key = one(
    "log-level",
    "LEVEL",
    Some("info"),
    (
        NODE,
        "What to log: error, warn, info, debug or trace, or directives such as info,ovagent::gossip=debug",
    ),
);
pub(super) const API_GROUP: Key =
    one("api-group", "GROUP", None, (NODE, "Group that may use the API socket; only root if not given"));
pub(super) const STORE: Key = one(
    "store",
    "STORE",
    Some("local"),
    (
        CLUSTER,
        "Where the networks of the cluster are kept. local: in this agent, for a single host. serve[:PORT]: in this \
         agent, and served to others (PORT 2379). etcd://HOST:PORT[,HOST:PORT]…: in etcd, or in an agent that serves",
    ),
);
pub(super) const STORE_CA: Key = one(
    "store-ca",
    "FILE",
    None,
    (CLUSTER, "CA certificates (PEM) that must have signed the store's certificate; turns TLS on"),
);
pub(super) const STORE_CERT: Key = one(
    "store-cert",
    "FILE",
    None,
    (CLUSTER, "Certificate (PEM) that this agent shows to the store; needs --store-key"),
);
pub(super) const STORE_KEY: Key =
    one("store-key", "FILE", None, (CLUSTER, "Private key (PEM) of the certificate of --store-cert"));
pub(super) const STORE_USER: Key =
    one("store-user", "NAME", None, (CLUSTER, "User name for the store; needs --store-password-file"));
pub(super) const STORE_PASSWORD_FILE: Key = one(
    "store-password-file",
    "FILE",
    None,
    (CLUSTER, "File whose first line is the password of --store-user; should be readable only by root"),
);
pub(super) const JOIN: Key = many(
    "join",
    "ADDR[:PORT]",
    None,
    (
        CLUSTER,
        "Address or name of a node to gossip with first; may be given more than once. Not needed with etcd: \
         the nodes find each other there. PORT is the gossip port unless given",
    ),
);
pub(super) const LEASE_TTL: Key = one(
    "lease-ttl",
    "SECONDS",
    Some("15"),
    (CLUSTER, "How long the store keeps this node alive without a renewal, 5 to 3600"),
);
pub(super) const GOSSIP_PORT: Key =
    one("gossip-port", "PORT", Some("7946"), (CLUSTER, "UDP port of the gossip between the nodes"));
pub(super) const VXLAN_PORT: Key =
    one("vxlan-port", "PORT", Some("4789"), (DATA, "UDP port of the VXLAN devices, the same on every node"));
pub(super) const POOL: Key = many(
    "default-address-pool",
    "CIDR,size=N",
    Some("10.0.0.0/8,size=24 172.16.0.0/12,size=20 fd6f:766e:6574::/48,size=64"),
    (
        DATA,
        "Address space from which subnets of length N are taken automatically; may be given more than once",
    ),
);
pub(super) const ATTACH_DEADLINE: Key = one(
    "attach-deadline",
    "MILLISECONDS",
    Some("1000"),
    (DATA, "How long an attach waits until every node of the network can reach the new endpoint, 0 to 60000"),
);
pub(super) const IP_FORWARD: Key = truth(
    "ip-forward",
    "true",
    (
        DATA,
        "Let this host forward packets where a network needs it (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding); \
         false: do not change these settings",
    ),
);
pub(super) const BRIDGE: Key = Key {
    short: Some('b'),
    ..one(
        "bridge",
        "NAME",
        None,
        (
            BRIDGES,
            "Use this bridge of the host, with the addresses that it has; none: no such network. If not given, the agent \
             makes ovnet0",
        ),
    )
};
pub(super) const BIP: Key = many(
    "bip",
    "CIDR",
    None,
    (
        BRIDGES,
        "Address of the bridge, with the length of its subnet; one of each family may be given. If not given, \
         172.17.0.1/16, or the first free subnet of the pools",
    ),
);
pub(super) const FIXED_CIDR: Key = many(
    "fixed-cidr",
    "CIDR",
    None,
    (BRIDGES, "Part of the subnet that sandboxes' addresses come from; one of each family may be given"),
);
pub(super) const MTU: Key =
    one("mtu", "BYTES", None, (BRIDGES, "MTU of its endpoints, 576 to 65535; the host's own if not given"));
pub(super) const DEFAULT_GATEWAY: Key = many(
    "default-gateway",
    "ADDR",
    None,
    (BRIDGES, "Gateway of sandboxes instead of the bridge's address; one of each family may be given"),
);
pub(super) const ICC: Key = truth(
    "icc",
    "true",
    (BRIDGES, "Let its sandboxes reach each other; false: only over links and published ports"),
);
pub(super) const IP_MASQ: Key = truth(
    "ip-masq",
    "true",
    (BRIDGES, "Masquerade traffic to the outside: its source becomes an address of this host"),
);
pub(super) const DNS: Key = many(
    "dns",
    "ADDR",
    None,
    (SANDBOXES, "Name server that sandboxes ask; may be given more than once. The host's if not given"),
);
pub(super) const DNS_SEARCH: Key = many(
    "dns-search",
    "DOMAIN",
    None,
    (SANDBOXES, "Domain that sandboxes search; may be given more than once. The host's if not given"),
);
pub(super) const DNS_OPT: Key = many(
    "dns-opt",
    "OPTION",
    None,
    (
        SANDBOXES,
        "Option of sandboxes' resolvers, such as ndots:2; may be given more than once. The host's if not given",
    ),
);
pub(super) const HOST_GATEWAY_IP: Key = many(
    "host-gateway-ip",
    "ADDR",
    None,
    (
        SANDBOXES,
        "Address of host-gateway in sandboxes' hosts files; one of each family may be given. If not given, the \
         gateway of the sandbox",
    ),
);
pub(super) const STATE_DIR: Key = one(
    "state-dir",
    "DIR",
    Some("/var/lib/ovnet"),
    (PLACES, "Directory of what must survive a reboot: this node's identity and its embedded store"),
);
pub(super) const RUN_DIR: Key = one(
    "run-dir",
    "DIR",
    Some("/run/ovnet"),
    (
        PLACES,
        "Directory of what need not survive a reboot: the API socket (api.sock) and the files of sandboxes",
    ),
);
pub(super) const NETNS_DIR: Key = one(
    "netns-dir",
    "DIR",
    Some("/run/netns"),
    (PLACES, "Directory of named network namespaces, as `ip netns` uses it"),
);
pub(super) const NETNS_ETC_DIR: Key = one(
    "netns-etc-dir",
    "DIR",
    Some("/etc/netns"),
    (PLACES, "Directory of the files of named network namespaces, as `ip netns exec` uses it"),
);

pub(super) const MOUNT_NAMESPACE: Key = one(
    "mount-namespace",
    "FILE",
    None,
    (
        PLACES,
        "Mount namespace in which network namespaces get their names, for an agent that runs in one of its own. The \
         systemd unit sets it to the host's, /proc/1/ns/mnt; if not given, the agent's own",
    ),
);

/// All of them, in the order of the help.
pub(super) const ALL: [Key; 33] = [
    NODE_NAME,
    ADVERTISE,
    LOG_LEVEL,
    API_GROUP,
    STORE,
    STORE_CA,
    STORE_CERT,
    STORE_KEY,
    STORE_USER,
    STORE_PASSWORD_FILE,
    JOIN,
    LEASE_TTL,
    GOSSIP_PORT,
    VXLAN_PORT,
    POOL,
    ATTACH_DEADLINE,
    IP_FORWARD,
    BRIDGE,
    BIP,
    FIXED_CIDR,
    MTU,
    DEFAULT_GATEWAY,
    ICC,
    IP_MASQ,
    DNS,
    DNS_SEARCH,
    DNS_OPT,
    HOST_GATEWAY_IP,
    STATE_DIR,
    RUN_DIR,
    NETNS_DIR,
    NETNS_ETC_DIR,
    MOUNT_NAMESPACE,
];
