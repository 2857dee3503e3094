//! The files of a sandbox over a host's /etc of any shape. The host's /etc is one that the test makes, in a mount namespace.

use std::{fs, os::unix::fs::symlink, path::Path, process::Stdio};

use nix::unistd::geteuid;

use crate::{
    fake::{Told, World, program},
    run::Lab,
};

/// Runs `script` in a sandbox on a host with this /etc.
fn on_host_with(lab: &Lab, etc: &Path, script: &str) -> Told {
    let host = format!("mount --bind {} /etc && exec \"$0\" run -- sh -c \"$1\"", etc.display());
    // With the rights that ovctl needs.
    let mut command = std::process::Command::new(if geteuid().is_root() { "unshare" } else { "nsenter" });
    if !geteuid().is_root() {
        let holder = lab.holder.child().to_string();
        command.args(["--user", "--preserve-credentials", "--target", &holder, "unshare"]);
    }
    command
        .args(["--mount", "sh", "-c", &host])
        .arg(program())
        .arg(script)
        .env("OVCTL_HOST", lab.fake.host());
    Told::of(command.stdin(Stdio::null()).output().unwrap())
}

const SHOW: &str = "cat /etc/hosts /etc/resolv.conf /etc/hostname";
const SHOWN: &str = "10.9.8.7 sandboxed\nnameserver 10.9.8.7\nh1\n";

#[test]
fn a_resolv_conf_that_is_a_link_is_covered_and_its_target_is_not() {
    let (lab, etc, run) =
        (Lab::new(World::default()), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stub = run.path().join("stub-resolv.conf");
    fs::write(&stub, "nameserver 127.0.0.53\n").unwrap();
    symlink(&stub, etc.path().join("resolv.conf")).unwrap();
    for file in ["hosts", "hostname"] {
        fs::write(etc.path().join(file), "the host's\n").unwrap();
    }
    // As systemd-resolved does: a new file takes the place of the old one.
    let (new, old) = (run.path().join("new"), stub.display());
    let script = format!("{SHOW}; cp {old} {new}; mv {new} {old}; {SHOW}; cat {old}", new = new.display());
    let told = on_host_with(&lab, etc.path(), &script);
    assert_eq!(told.out, format!("{SHOWN}{SHOWN}nameserver 127.0.0.53\n"), "{told:?}");
    assert_eq!(fs::read_to_string(etc.path().join("hosts")).unwrap(), "the host's\n");
}

#[test]
fn a_link_that_leads_nowhere_is_covered() {
    let (lab, etc) = (Lab::new(World::default()), tempfile::tempdir().unwrap());
    symlink("/nowhere/stub-resolv.conf", etc.path().join("resolv.conf")).unwrap();
    for file in ["hosts", "hostname"] {
        fs::write(etc.path().join(file), "the host's\n").unwrap();
    }
    let told = on_host_with(&lab, etc.path(), SHOW);
    assert_eq!(told.out, SHOWN, "{told:?}");
    assert!(!told.err.contains("/etc"), "{told:?}");
}

#[test]
fn files_that_the_host_lacks_are_there_and_the_hosts_etc_stays_as_it_is() {
    let (lab, etc) = (Lab::new(World::default()), tempfile::tempdir().unwrap());
    fs::write(etc.path().join("hostname"), "the host's\n").unwrap();
    fs::write(etc.path().join("other"), "o\n").unwrap();
    let told = on_host_with(&lab, etc.path(), &format!("{SHOW}; cat /etc/other; touch /etc/new"));
    assert_eq!(told.out, format!("{SHOWN}o\n"), "{told:?}");
    assert!(
        told.err.contains("warning: /etc of the host has no hosts, resolv.conf: it is read-only"),
        "{told:?}"
    );
    let mut left: Vec<_> =
        fs::read_dir(etc.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["hostname", "other"]);
}
