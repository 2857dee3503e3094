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
    /// Where it stands in help.
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
const PLACES: &str = "Places on this host";

const fn one(
    name: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    text: (&'static str, &'static str),
) -> Key {
    Key { name, value, default, many: false, heading: text.0, help: text.1 }
}

const fn many(
    name: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    text: (&'static str, &'static str),
) -> Key {
    Key { many: true, ..one(name, value, default, text) }
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
        "Underlay address that the other nodes reach this one at, for gossip and VXLAN, or the interface that has it. \
         If not given, the address that the default route leaves from",
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
pub(super) const API_GROUP: Key = one(
    "api-group",
    "GROUP",
    None,
    (NODE, "Group whose members may use the API socket; root alone if not given"),
);
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
    (
        CLUSTER,
        "Certificates (PEM) of the authorities that the store's certificate must come from; turns TLS on",
    ),
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
    one("store-user", "NAME", None, (CLUSTER, "User at the store; needs --store-password-file"));
pub(super) const STORE_PASSWORD_FILE: Key = one(
    "store-password-file",
    "FILE",
    None,
    (CLUSTER, "File whose first line is the password of --store-user; should be readable by root alone"),
);
pub(super) const JOIN: Key = many(
    "join",
    "ADDR[:PORT]",
    None,
    (
        CLUSTER,
        "Address or name of a node to gossip with first; may be given more than once. Not needed with etcd, where the \
         nodes find each other. PORT is the gossip port unless given",
    ),
);
pub(super) const LEASE_TTL: Key = one(
    "lease-ttl",
    "SECONDS",
    Some("15"),
    (CLUSTER, "How long the store counts this node as alive without a sign of life, 5 to 3600"),
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
pub(super) const STATE_DIR: Key = one(
    "state-dir",
    "DIR",
    Some("/var/lib/ovnet"),
    (PLACES, "What must survive a reboot: this node's identity and its embedded store"),
);
pub(super) const RUN_DIR: Key = one(
    "run-dir",
    "DIR",
    Some("/run/ovnet"),
    (PLACES, "What need not survive a reboot: the API socket (api.sock) and the files of sandboxes"),
);
pub(super) const NETNS_DIR: Key = one(
    "netns-dir",
    "DIR",
    Some("/run/netns"),
    (PLACES, "Where named network namespaces are, as `ip netns` sees them"),
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
pub(super) const ALL: [Key; 20] = [
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
    STATE_DIR,
    RUN_DIR,
    NETNS_DIR,
    MOUNT_NAMESPACE,
];
