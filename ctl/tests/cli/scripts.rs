//! `ovctl completion` and `ovctl man`.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::fake::{Told, ovctl};

#[test]
fn the_completion_of_bash_is_a_script_that_bash_can_read() {
    let script = Told::of(ovctl().args(["completion", "bash"]).output().unwrap()).done();
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs bash");
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert_eq!(Told::of(bash.wait_with_output().unwrap()).done(), "");
    assert!(script.contains("network") && script.contains("--aux-address"));
}

#[test]
fn there_is_a_completion_for_zsh_and_fish_and_no_other() {
    for (shell, part) in [("zsh", "#compdef ovctl"), ("fish", "complete -c ovctl")] {
        assert!(Told::of(ovctl().args(["completion", shell]).output().unwrap()).done().contains(part));
    }
    let error = Told::of(ovctl().args(["completion", "tcsh"]).output().unwrap()).failed(2);
    assert!(error.contains("bash, fish, zsh"), "{error}");
}

#[test]
fn there_is_a_man_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    Told::of(ovctl().arg("man").arg(dir.path().join("man1")).output().unwrap()).done();
    let page = |name: &str| fs::read_to_string(dir.path().join("man1").join(name)).unwrap();
    assert!(page("ovctl.1").contains("network"));
    assert!(page("ovctl-network-create.1").contains("\\-\\-aux\\-address"));
    for name in ["ovctl-run.1", "ovctl-sandbox-ls.1", "ovctl-store-dump.1"] {
        assert!(page(name).starts_with(".ie"), "{name}");
    }
    let hidden = fs::read_dir(dir.path().join("man1")).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name == "ovctl-enter-sandbox.1" || name == "ovctl-man.1"
    });
    assert_eq!(hidden.count(), 0);
}
