//! Which room of `agent/src` may know which other one, and which rooms alone may know a foreign crate.
//!
//! The tables below are the ones of `docs/ARCHITECTURE.md`. The sources are read as text: comments, literals and what is
//! compiled for tests alone are left out, and every path that starts at the crate is looked at, in `use` and elsewhere.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails where it is")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

#[path = "rooms/circles.rs"]
mod circles;
#[path = "rooms/machine.rs"]
mod machine;
#[path = "rooms/source.rs"]
mod source;
#[path = "rooms/words.rs"]
mod words;

use source::{Mention, Source};

/// Each room with the rooms that it may import. A room imports only what stands above it, so there are no circles.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("telemetry", &[]),
    ("plan", &["model"]),
    ("convert", &["model"]),
    ("ipam", &["model"]),
    ("store", &["model"]),
    ("gossip", &["model"]),
    ("intent", &["model"]),
    ("kernel", &["model", "plan"]),
    ("drivers", &["model", "plan", "intent"]),
    ("host", &["model", "plan", "intent", "drivers"]),
    // `convert` for the "did you mean" of an unknown key; `ipam` for the pools.
    ("config", &["model", "convert", "ipam"]),
    ("reconcile", &["model", "plan", "convert", "store", "intent", "kernel", "drivers", "host"]),
    ("dns", &["model", "plan", "convert", "intent", "kernel", "reconcile"]),
    (
        "service",
        &[
            "model",
            "plan",
            "convert",
            "ipam",
            "store",
            "gossip",
            "intent",
            "kernel",
            "drivers",
            "reconcile",
            "dns",
        ],
    ),
    ("core", &["model", "store", "gossip", "intent", "kernel", "reconcile", "dns", "service"]),
    (
        // A front: what it needs to read requests and write answers, and `kernel` for the trait that the service is over.
        "api",
        &["model", "convert", "ipam", "kernel", "service"],
    ),
    (
        "app",
        &[
            "model",
            "plan",
            "convert",
            "ipam",
            "store",
            "gossip",
            "intent",
            "kernel",
            "config",
            "reconcile",
            "dns",
            "service",
            "core",
            "api",
        ],
    ),
];

/// Foreign crates that are known to these rooms alone.
const WALLED: &[(&str, &[&str])] = &[
    ("etcd_client", &["store"]),
    ("redb", &["store"]),
    ("rtnetlink", &["kernel"]),
    ("netlink_packet_core", &["kernel"]),
    ("netlink_packet_route", &["kernel"]),
    ("netlink_sys", &["kernel"]),
    ("foca", &["gossip"]),
    ("hickory_proto", &["dns"]),
    ("foca_rand", &["gossip"]),
    ("postcard", &["gossip"]),
    ("ovnet_proto", &["convert", "api"]),
    ("prost", &["convert", "store", "api"]),
    // The embedded store serves gRPC by itself, and `app` runs the API's server.
    ("tonic", &["store", "api", "app"]),
    // app: the lock on the state directory, the host's name, the API's group, its own mounts.
    ("nix", &["kernel", "app"]),
    ("toml", &["config"]),
    ("clap", &["config"]),
    ("sd_notify", &["app"]),
    // config: a log level is checked by who understands it.
    ("tracing_subscriber", &["config", "telemetry"]),
    ("tracing_journald", &["telemetry"]),
    // Not in the pure rooms: model, plan, convert, ipam, intent, drivers, host, config.
    ("tokio", &["store", "gossip", "kernel", "reconcile", "dns", "service", "core", "api", "app"]),
    ("tokio_util", &["store", "gossip", "kernel", "reconcile", "dns", "service", "core", "api", "app"]),
];

/// The rooms that may ask which driver a network has. All others ask its profile.
const DRIVERS: &[&str] = &["model", "convert", "drivers", "host"];

/// The files outside of `kernel` that read something of the machine by themselves, each with what, and why.
const READERS: &[(&str, &str, &str)] = &[
    ("app/cleanup.rs", "\"/proc/self/ns/mnt\"", "names of namespaces are given in its own mount namespace"),
    ("app/fence.rs", "\"/proc/sys/net\"", "the mounts of this process"),
    ("app/fence.rs", "\"/proc/thread-self/mountinfo\"", "the mounts of this process"),
    ("app/fence.rs", "nix::sched::CloneFlags", "a mount namespace of its own for this process"),
    ("app/fence.rs", "nix::sched::unshare", "a mount namespace of its own for this process"),
    ("app/identity.rs", "std::net::UdpSocket::bind", "the address of the default route"),
    ("app/lock.rs", "std::process::id", "who holds the lock on the state directory"),
    ("app/start.rs", "\"/etc/resolv.conf\"", "what the resolvers of this host are over"),
    ("app/mod.rs", "\"/proc/self/status\"", "the privileges of this process"),
    ("app/mod.rs", "\"cannot read /proc/self/status: is /proc mounted?\"", "the same"),
];

#[test]
fn what_is_of_the_machine_is_read_in_the_kernels_room_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut known: BTreeSet<(&str, &str)> = READERS.iter().map(|(file, what, _)| (*file, *what)).collect();
    let mut wrong = Vec::new();
    // `config` has the names of files in its help only.
    for source in sources().iter().filter(|source| !["kernel", "config"].contains(&source.room.as_str())) {
        let path = source.path.to_str().expect("names of files are UTF-8");
        let text = fs::read_to_string(root.join(path)).expect("a source file can be read");
        for (line, what) in machine::reads(source, &text) {
            let allowed = READERS.iter().find(|(file, read, _)| (*file, *read) == (path, what.as_str()));
            match allowed {
                Some((file, read, _)) => drop(known.remove(&(*file, *read))),
                None => wrong.push(format!("agent/src/{path}:{line}: {what}")),
            }
        }
        let names_linux = |path: &[String]| path.starts_with(&["kernel".into(), "LinuxKernel".into()]);
        if source.room != "app" && source.routes.iter().any(|route| names_linux(&route.to)) {
            wrong.push(format!("agent/src/{path}: names LinuxKernel, which app alone chooses"));
        }
    }
    assert!(wrong.is_empty(), "read past the traits of the kernel's room:\n{}", wrong.join("\n"));
    assert!(known.is_empty(), "not read any more, to be taken off the list: {known:?}");
}

#[test]
fn which_driver_it_is_is_asked_only_where_drivers_are_at_home() {
    let asks = |source: &Source| {
        let room = source.room.clone();
        let path = source.path.clone();
        let lines = source.kinds.clone().into_iter().filter(move |_| !DRIVERS.contains(&room.as_str()));
        lines.map(move |(line, kind)| format!("agent/src/{}:{line}: asks for {kind}", path.display()))
    };
    let wrong: Vec<String> = sources().iter().flat_map(asks).collect();
    assert!(wrong.is_empty(), "drivers are named outside of {}:\n{}", DRIVERS.join(", "), wrong.join("\n"));
}

#[test]
fn each_room_imports_only_the_rooms_that_it_may() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let wrong = violations(|room, mention| {
        let Mention::Own(other) = mention else { return None };
        let fits = room == other || allowed.get(room).is_some_and(|may| may.contains(&other.as_str()));
        // What is no room is an item of the crate's root, of which there is none.
        (!fits).then(|| format!("{room} may not import {other}"))
    });
    assert!(wrong.is_empty(), "imports that the table does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn a_foreign_crate_is_known_only_to_the_rooms_behind_its_wall() {
    let walled: BTreeMap<&str, &[&str]> = WALLED.iter().copied().collect();
    let wrong = violations(|room, mention| {
        let Mention::Foreign(name) = mention else { return None };
        let rooms = walled.get(name.as_str())?;
        (!rooms.contains(&room)).then(|| format!("{name} is for {} alone, not for {room}", rooms.join(", ")))
    });
    assert!(wrong.is_empty(), "foreign crates outside of their rooms:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_has_every_room_and_no_circle() {
    let there: BTreeSet<String> = sources().into_iter().map(|source| source.room).collect();
    let named: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(there, named, "rooms in agent/src, and rooms in the table");
    for (place, (room, may)) in ROOMS.iter().enumerate() {
        for other in *may {
            let above = ROOMS[..place].iter().any(|(name, _)| name == other);
            assert!(above, "{room} imports {other}, which must stand above it in the table");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles::circles(&sources());
    let lines: Vec<String> = circles.iter().map(|circle| circle.join(", ")).collect();
    assert!(circles.is_empty(), "files that import each other:\n{}", lines.join("\n"));
}

#[test]
fn messages_are_free_of_phrases_that_made_people_stop() {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for root in [agent.join("src"), agent.join("../ctl/src")] {
        walk(&root, &mut files);
    }
    let is_test =
        |file: &Path| file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs");
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| !is_test(file)) {
        let text = fs::read_to_string(file).expect("a source file can be read");
        wrong.extend(
            words::stumbles(&text)
                .into_iter()
                .map(|(line, what)| format!("{}:{line}: {what}", file.display())),
        );
    }
    assert!(wrong.is_empty(), "messages to be said otherwise:\n{}", wrong.join("\n"));
}

#[test]
fn the_page_on_the_architecture_has_the_same_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ARCHITECTURE.md");
    let page = fs::read_to_string(&path).expect("docs/ARCHITECTURE.md can be read");
    let words = |names: &[&str]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let missing: Vec<String> = ROOMS
        .iter()
        .map(|(room, may)| format!("| `{room}` | {} |", words(may)))
        .filter(|row| !page.contains(row.as_str()))
        .collect();
    assert!(missing.is_empty(), "rows that docs/ARCHITECTURE.md lacks:\n{}", missing.join("\n"));
}

/// What `judge` finds wrong in any file, with its place.
fn violations(judge: impl Fn(&str, &Mention) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources() {
        for (line, mention) in &source.mentions {
            if let Some(reason) = judge(&source.room, mention) {
                wrong.push(format!("agent/src/{}:{line}: {reason}", source.path.display()));
            }
        }
    }
    wrong
}

/// Every file of every room that is not for tests alone. `lib.rs` and `main.rs` belong to no room.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let all: Vec<Source> = files
        .iter()
        .filter_map(|file| {
            let text = fs::read_to_string(file).expect("a source file can be read");
            Source::read(file.strip_prefix(&root).expect("files lie below the root"), &text)
        })
        .collect();
    assert!(all.len() > 50, "only {} files were found in {}", all.len(), root.display());
    let for_tests: BTreeSet<PathBuf> = all.iter().flat_map(|source| source.test_modules.clone()).collect();
    let kept =
        |source: &Source| !source.path.ancestors().any(|path| for_tests.contains(&path.with_extension("")));
    all.into_iter().filter(kept).collect()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).expect("agent/src can be listed");
    for entry in entries {
        let path = entry.expect("agent/src can be listed").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}
