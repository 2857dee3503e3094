//! `ovctl run` and `exec` in a real network namespace: as root in one of root's, else in one of a user namespace.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use ovnet_proto::v1 as pb;
use serde_json::json;
use tonic::Code;

use crate::fake::{Fake, Told, World, program};

/// Waits until `holds`; fails after ten seconds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that keeps a network namespace, until dropped.
pub(crate) struct Holder {
    child: Child,
}

impl Holder {
    fn new() -> Self {
        let flags: &[&str] =
            if geteuid().is_root() { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
        let child = Command::new("unshare").args(flags).args(["sleep", "600"]).spawn();
        let mut child = child.expect("this test needs unshare of util-linux");
        let comm = format!("/proc/{}/comm", child.id());
        until("unshare makes a namespace", || {
            assert_eq!(
                child.try_wait().unwrap(),
                None,
                "unshare {flags:?} failed: this test needs root or user namespaces"
            );
            fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n")
        });
        Self { child }
    }

    /// The process.
    pub(crate) fn child(&self) -> u32 {
        self.child.id()
    }

    fn netns(&self) -> String {
        format!("/proc/{}/ns/net", self.child.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An agent whose sandboxes are the holder's namespace.
pub(crate) struct Lab {
    pub(crate) fake: Fake,
    pub(crate) holder: Holder,
    pub(crate) files: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new(world: World) -> Self {
        let (holder, files) = (Holder::new(), tempfile::tempdir().unwrap());
        for (file, text) in [
            ("hosts", "10.9.8.7 sandboxed\n"),
            ("resolv.conf", "nameserver 10.9.8.7\n"),
            ("hostname", "h1\n"),
        ] {
            fs::write(files.path().join(file), text).unwrap();
        }
        let netns = holder.netns();
        let fake = Fake::start(World { netns, files_dir: files.path().to_str().unwrap().into(), ..world });
        Self { fake, holder, files }
    }

    /// ovctl with the rights that it needs.
    pub(crate) fn ovctl(&self) -> Command {
        if geteuid().is_root() {
            return self.fake.command();
        }
        let mut command = Command::new("nsenter");
        command.args(["--user", "--preserve-credentials", "--target", &self.holder.child().to_string()]);
        command.arg(program()).env("OVCTL_HOST", self.fake.host());
        command
    }

    pub(crate) fn ask(&self, words: &[&str]) -> Told {
        Told::of(self.ovctl().args(words).stdin(Stdio::null()).output().unwrap())
    }
}

/// The namespace that a process is in.
pub(crate) fn namespace(pid: u32, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn a_command_runs_with_the_sandboxs_interfaces_names_and_hostname() {
    let lab = Lab::new(World::default());
    let script = "readlink /proc/self/ns/net; hostname; cat /etc/hosts; cat /etc/resolv.conf; ls /sys/class/net; LC_ALL=C ls -A /sys/fs/cgroup";
    let told = lab.ask(&[
        "run",
        "--name",
        "box",
        "--hostname",
        "h1",
        "--network",
        "n:ip=10.0.0.5",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let mut expected = vec![namespace(lab.holder.child(), "net"), "h1".into(), "10.9.8.7 sandboxed".into()];
    if Path::new("/etc/resolv.conf").exists() {
        expected.push("nameserver 10.9.8.7".into());
    }
    let out = told.out.clone();
    let mut lines = out.lines();
    assert_eq!(lines.by_ref().take(expected.len()).collect::<Vec<_>>(), expected, "{told:?}");
    // Some containers let nobody mount sysfs; that is told then.
    if !told.err.contains("/sys shows the host's interfaces") {
        assert_eq!(lines.by_ref().take(1).collect::<Vec<_>>(), ["lo"], "{told:?}");
        let mut groups: Vec<String> = fs::read_dir("/sys/fs/cgroup")
            .map(|dir| dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        groups.sort();
        assert_eq!(lines.collect::<Vec<_>>(), groups);
        assert_eq!(told.err, "");
    }
    assert_eq!(lab.fake.calls(), ["CreateSandbox"]);
    assert_eq!(lab.fake.asked("CreateSandbox")[0]["attachments"][0]["ip"], "10.0.0.5");
}

#[test]
fn nothing_that_a_command_mounts_shows_on_the_host() {
    let lab = Lab::new(World::default());
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let script = "mount -t tmpfs none /mnt && readlink /proc/self/ns/mnt /proc/self/ns/uts";
    let told = lab.ask(&["run", "--", "sh", "-c", script]);
    let own = [namespace(std::process::id(), "mnt"), namespace(std::process::id(), "uts")];
    assert!(
        told.out.lines().count() == 2 && told.out.lines().zip(own).all(|(one, other)| one != other),
        "{told:?}"
    );
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[test]
fn the_status_is_the_commands_own() {
    let lab = Lab::new(World::default());
    assert_eq!(lab.ask(&["run", "--rm", "--", "sh", "-c", "exit 7"]).status, Some(7));
    assert_eq!(lab.ask(&["run", "--rm", "--", "sh", "-c", "kill -TERM $$"]).status, Some(143));
    assert_eq!(lab.ask(&["run", "--rm", "true"]).status, Some(0));
    let remove = json!({"sandbox": "quiet_heron", "force": true});
    assert_eq!(lab.fake.asked("RemoveSandbox"), [remove.clone(), remove.clone(), remove]);
}

#[test]
fn a_command_that_cannot_start_leaves_no_sandbox() {
    let lab = Lab::new(World::default());
    let told = lab.ask(&["run", "--name", "a", "--", "no-such-command"]);
    assert_eq!(told.failed(127), "ovctl: cannot run no-such-command: command not found\n");
    let told = lab.ask(&["run", "--name", "b", "--", "/etc/passwd"]);
    assert!(told.failed(126).starts_with("ovctl: cannot run /etc/passwd: Permission denied"));
    let told = lab.ask(&["run", "--name", "c", "-d", "-w", "/no/such/dir", "--", "true"]);
    assert_eq!(told.out, "");
    assert!(told.failed(125).contains("cannot change into the directory /no/such/dir"));
    assert_eq!(lab.fake.asked("RemoveSandbox").len(), 3);
    assert_eq!(lab.fake.ask("sandbox ls -q", &[]).done(), "");
}

#[test]
fn a_sandbox_that_cannot_be_entered_is_told_and_removed() {
    let lab = Lab::new(World::default());
    let fake = Fake::start(World { netns: "/nowhere/netns".into(), ..World::default() });
    let told = Told::of(lab.ovctl().args(["-H", &fake.host(), "run", "--", "true"]).output().unwrap());
    assert!(told.failed(125).contains("cannot open the network namespace /nowhere/netns: No such file"));
    assert_eq!(fake.calls(), ["CreateSandbox", "RemoveSandbox"]);
}

#[test]
fn a_sandbox_that_cannot_be_removed_is_told_with_what_to_do() {
    let mut world = World::default();
    world.refusals.insert("RemoveSandbox", (Code::Unavailable, "the store is away"));
    let lab = Lab::new(world);
    let told = lab.ask(&["run", "--rm", "--name", "box", "--", "sh", "-c", "exit 3"]);
    let error = told.failed(3);
    assert!(
        error.contains(
            "the sandbox box was not removed: the store is away; remove it with ovctl sandbox rm -f box"
        ),
        "{error}"
    );
}

#[test]
fn environment_directory_and_standard_streams_reach_the_command() {
    let lab = Lab::new(World::default());
    let mut ovctl = lab.ovctl();
    ovctl.args([
        "run",
        "-e",
        "A=1=2",
        "-e",
        "B",
        "-w",
        "/tmp",
        "--",
        "sh",
        "-c",
        "cat; echo $A$B$C; pwd; echo e >&2",
    ]);
    let input = fs::File::open(lab.files.path().join("hostname")).unwrap();
    let told = Told::of(ovctl.env("B", "b").env("C", "c").stdin(input).output().unwrap());
    assert_eq!((told.out.as_str(), told.status), ("h1\n1=2bc\n/tmp\n", Some(0)));
    assert!(told.err.ends_with("e\n"), "{}", told.err);
}

#[test]
fn a_command_runs_as_another_user() {
    let lab = Lab::new(World::default());
    // A user namespace made without rights has no other user.
    let (user, expected) = if geteuid().is_root() { ("4242:4343", "4242 4343 4343\n") } else { ("root", "") };
    let told = lab.ask(&["run", "-u", user, "--", "sh", "-c", "echo $(id -u) $(id -g) $(id -G)"]);
    if geteuid().is_root() {
        assert_eq!((told.out.as_str(), told.status), (expected, Some(0)), "{told:?}");
    } else {
        assert!(told.status == Some(0) || told.failed(125).contains("cannot become the user"));
    }
    let told = lab.ask(&["run", "--name", "other", "-u", "no-such-user", "--", "true"]);
    assert!(told.failed(125).contains("no user \"no-such-user\""));
}

#[test]
fn signals_are_handed_on_to_the_command() {
    let lab = Lab::new(World::default());
    let script = "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.01; done";
    let mut ovctl = lab.ovctl();
    ovctl.args(["run", "--rm", "--", "sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = ovctl.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got");
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(lab.fake.asked("RemoveSandbox").len(), 1);
}

#[test]
fn a_detached_command_stays_away_from_the_terminal() {
    let lab = Lab::new(World::default());
    let log = lab.files.path().join("out.log");
    let script = "cat; echo $$; echo e >&2; exec sleep 600";
    let words = ["run", "-d", "--name", "box", "--log", log.to_str().unwrap(), "--", "sh", "-c", script];
    let told = lab.ask(&words);
    assert_eq!(told.out, "box\n", "{told:?}");
    let text = || fs::read_to_string(&log).unwrap();
    until("the command writes", || text().ends_with("e\n"));
    let pid: i32 = text().lines().rev().nth(1).unwrap().parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // pid (comm) state ppid pgrp session
    assert_eq!(stat.split(' ').nth(5).unwrap(), pid.to_string(), "{stat}");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_eq!(lab.fake.calls(), ["CreateSandbox"]);
}

#[test]
fn a_detached_command_with_rm_takes_its_sandbox_along() {
    let lab = Lab::new(World::default());
    let log = lab.files.path().join("out.log");
    let words = ["run", "-d", "--rm", "--name", "box", "--log", log.to_str().unwrap(), "--", "sh", "-c"];
    let told = lab.ask(&[&words[..], &["echo $$; exec sleep 600"]].concat());
    assert_eq!((told.out.as_str(), told.status), ("box\n", Some(0)), "{told:?}");
    let text = || fs::read_to_string(&log).unwrap();
    until("the command writes", || text().ends_with('\n'));
    assert_eq!(lab.fake.calls(), ["CreateSandbox"]);
    kill(Pid::from_raw(text().trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    until("the sandbox is removed", || lab.fake.calls() == ["CreateSandbox", "RemoveSandbox"]);
    // One that does not start is told at once, and leaves nothing either.
    let told = lab.ask(&["run", "-d", "--rm", "--name", "other", "--", "no-such-command"]);
    assert_eq!(told.out, "");
    assert_eq!(told.failed(127), "ovctl: cannot run no-such-command: command not found\n");
    assert_eq!(lab.fake.ask("sandbox ls -q", &[]).done(), "");
}

#[test]
fn exec_enters_a_sandbox_that_exists() {
    let lab = Lab::new(World::default());
    lab.fake.ask("sandbox create --hostname h2 box", &[]).done();
    let told = lab.ask(&[
        "exec",
        "box",
        "-e",
        "A=1",
        "--",
        "sh",
        "-c",
        "readlink /proc/self/ns/net; hostname; echo $A; exit 4",
    ]);
    assert_eq!(told.out, format!("{}\nh2\n1\n", namespace(lab.holder.child(), "net")));
    assert_eq!(told.status, Some(4));
    assert_eq!(lab.ask(&["exec", "box", "no-such-command"]).status, Some(127));
    assert!(lab.ask(&["exec", "nope", "true"]).failed(1).contains("no sandbox \"nope\""));
    assert!(lab.fake.asked("RemoveSandbox").is_empty());
}

#[test]
fn exec_in_a_sandbox_whose_process_has_gone_says_so() {
    let sandbox =
        pb::Sandbox { name: "box".into(), netns: "/proc/42/ns/net".into(), pid: 42, ..Default::default() };
    let detail = pb::SandboxDetail { sandbox: Some(sandbox), state: "gone".into(), ..Default::default() };
    let lab = Lab::new(World { sandboxes: vec![detail], ..World::default() });
    let error = lab.ask(&["exec", "box", "true"]).failed(1);
    assert!(error.contains("/proc/42/ns/net (process 42) of the sandbox box is gone"), "{error}");
}

#[test]
fn no_descriptor_of_ovctl_reaches_the_command() {
    let lab = Lab::new(World::default());
    let words = ["sh", "-c", "ls /proc/$$/fd"];
    // The tests may have been started with more than three.
    let without = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
    let told = lab.ask(&[&["run", "--"], &words[..]].concat());
    assert_eq!(told.out, Told::of(without).out);
}
