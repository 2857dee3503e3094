//! What ovctl does when the agent is away, refuses, or ends, and with bad usage.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::{
        fd::AsRawFd as _,
        unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    },
    process::{Command, Stdio},
};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use ovnet_proto::v1 as pb;

use crate::{
    agent::AWAY,
    fake::{Fake, Told, World, ovctl, program},
};

#[test]
fn an_agent_that_is_not_there_is_told_with_its_path_and_status_3() {
    let told =
        Told::of(ovctl().args(["--host", "unix:///nowhere/api.sock", "network", "ls"]).output().unwrap());
    assert_eq!(told.out, "");
    let error = told.failed(3);
    assert!(
        error
            .starts_with("ovctl: cannot reach the agent at /nowhere/api.sock: No such file or directory: is"),
        "{error}"
    );
    assert!(error.ends_with("is ovagent running? systemctl status ovagent\n"), "{error}");
}

#[test]
fn an_agent_that_has_ended_is_told_with_status_3() {
    let mut fake = Fake::start(World::default());
    fake.kill();
    let error = fake.ask("network ls", &[]).failed(3);
    assert!(error.contains("Connection refused") && error.contains("ovagent has stopped"), "{error}");
}

#[test]
fn a_store_that_is_away_is_a_refusal_of_the_agent() {
    let mut world = World::default();
    world.refusals.insert("ListNetworks", AWAY);
    let fake = Fake::start(world);
    assert_eq!(fake.ask("network ls", &[]).failed(1), format!("ovctl: {}\n", AWAY.1));
}

#[test]
fn an_agent_that_ends_during_a_call_is_told_with_status_3() {
    let mut fake = Fake::start(World { events: vec![pb::Event::default()], ..World::default() });
    let mut child =
        fake.command().arg("events").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    fake.kill();
    let error = Told::of(child.wait_with_output().unwrap()).failed(3);
    assert!(error.starts_with("ovctl: the connection to the agent broke"), "{error}");
}

/// The kernel takes connections for an agent that is stopped.
#[test]
fn what_only_reads_does_not_wait_for_ever_for_an_agent_that_does_not_answer() {
    let (thaw, thawed) = std::sync::mpsc::channel();
    let fake = Fake::start_when(World::default(), thawed);
    let lines = ["network ls", "sandbox inspect a", "node ls", "version", "events", "port a"];
    let children = lines.map(|line| {
        let mut command = fake.command();
        command.args(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
        (line, command.spawn().unwrap())
    });
    for (line, child) in children {
        let error = Told::of(child.wait_with_output().unwrap()).failed(3);
        let pid = std::process::id();
        let waiting = format!("ovctl: waiting for the agent (pid {pid}), which has not answered yet\n");
        assert!(error.starts_with(&waiting), "{line}: {error}");
        assert!(
            error.contains(&format!("ovctl: the agent (pid {pid}) did not answer in 10 s")),
            "{line}: {error}"
        );
    }
    thaw.send(()).unwrap();
}

#[test]
fn what_changes_something_says_that_it_waits_and_goes_on_waiting() {
    let (thaw, thawed) = std::sync::mpsc::channel();
    let fake = Fake::start_when(World::default(), thawed);
    let mut command = fake.command();
    command.args(["network", "create", "n"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.starts_with("ovctl: waiting for the agent (pid ") && line.contains("Ctrl-C stops"),
        "{line}"
    );
    thaw.send(()).unwrap();
    assert_eq!(Told::of(child.wait_with_output().unwrap()).done(), format!("{}\n", "4f".repeat(32)));
    assert!(lines.next().is_none());
}

#[test]
fn a_queue_of_those_who_wait_to_be_accepted_that_is_full_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&socket, Backlog::new(0).unwrap()).unwrap();
    let first = UnixStream::connect(&path).unwrap();
    let mut command = ovctl();
    command.arg("--host").arg(&path).args(["network", "ls"]).stderr(Stdio::piped());
    let error = Told::of(command.output().unwrap()).failed(3);
    assert!(error.starts_with("ovctl: waiting for the agent, which has not answered yet\n"), "{error}");
    assert!(error.contains("ovagent does not accept connections"), "{error}");
    drop(first);
}

#[test]
fn bad_usage_has_status_2_and_a_hint() {
    let error = Told::of(ovctl().args(["network", "lst"]).output().unwrap()).failed(2);
    assert!(error.contains("similar") && error.contains("'ls'"), "{error}");
    let error =
        Told::of(ovctl().args(["--host", "tcp://10.0.0.1:1", "network", "ls"]).output().unwrap()).failed(2);
    assert!(error.contains("unix:///run/ovnet/api.sock"), "{error}");
    let error = Told::of(ovctl().args(["network", "ls", "--format", "{{.Name"]).output().unwrap()).failed(2);
    assert!(error.contains("expected }}"), "{error}");
}

#[test]
fn a_process_number_and_a_reserved_address_that_cannot_be_are_told_in_plain_words() {
    for (line, words) in [
        ("sandbox create --pid abc", "expected the number of a process, such as 4711"),
        ("sandbox create --pid 0", "expected the number of a process, such as 4711"),
        ("network create --aux-address foo n", "expected NAME=ADDRESS such as router=10.1.0.5"),
        ("network create --aux-address =10.1.0.5 n", "expected NAME=ADDRESS such as router=10.1.0.5"),
    ] {
        let error = Told::of(ovctl().args(line.split(' ')).output().unwrap()).failed(2);
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn the_host_may_be_a_bare_path() {
    let fake = Fake::start(World::default());
    let socket = fake.dir().join("api.sock");
    Told::of(ovctl().arg("-H").arg(socket).args(["network", "ls", "-q"]).output().unwrap()).done();
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let entry =
        pb::StoreEntry { key: "k".into(), json: format!("\"{}\"", "x".repeat(4096)), ..Default::default() };
    let fake = Fake::start(World { store: vec![entry; 200], ..World::default() });
    let mut child =
        fake.command().args(["store", "dump"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut [0; 8]).unwrap();
    drop(reader);
    let told = Told::of(child.wait_with_output().unwrap());
    assert_eq!((told.status, told.err.as_str()), (Some(0), ""));
}

/// ovctl for somebody without rights: as nobody if we are root, else as ourselves.
fn powerless(dir: &std::path::Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return ovctl();
    }
    // The build may lie where nobody may look. Another process copies it: a file that is open for writing in this one
    // is so for a moment in each process that another test starts, and cannot be executed then.
    let copy = dir.join("ovctl");
    assert!(Command::new("cp").arg(program()).arg(&copy).status().unwrap().success());
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.uid(65534).gid(65534).env_remove("OVCTL_HOST");
    command
}

#[test]
fn a_socket_that_one_may_not_open_is_told_with_status_3() {
    let fake = Fake::start(World::default());
    let place = tempfile::tempdir().unwrap();
    let closed = if nix::unistd::geteuid().is_root() { 0o700 } else { 0 };
    fs::set_permissions(fake.dir(), fs::Permissions::from_mode(closed)).unwrap();
    let output = powerless(place.path()).args(["-H", &fake.host(), "network", "ls"]).output();
    fs::set_permissions(fake.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let error = Told::of(output.unwrap()).failed(3);
    assert!(
        error.contains("Permission denied") && error.contains("run as root, or join the group"),
        "{error}"
    );
}

#[test]
fn run_and_exec_without_privilege_create_nothing() {
    let fake = Fake::start(World::default());
    let place = tempfile::tempdir().unwrap();
    for words in [["run", "--", "true"], ["exec", "box", "true"]] {
        let output = powerless(place.path()).args(["-H", &fake.host()]).args(words).output();
        let error = Told::of(output.unwrap()).failed(1);
        assert!(error.contains("CAP_SYS_ADMIN") && error.contains("run it as root"), "{error}");
    }
    assert!(fake.calls().is_empty());
}
