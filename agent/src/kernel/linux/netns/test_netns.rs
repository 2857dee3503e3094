//! For unit tests: a child of the test's process in network and mount namespaces of its own.

use std::process::Command;

/// Tells the child from the process that was started.
const INSIDE: &str = "OVK_ALONE";

/// Run `work`, a closure that is a unit test's whole body, in a process that has a fresh network namespace to itself.
///
/// # Panics
/// It panics there, or no namespace can be made.
pub(in crate::kernel::linux) fn run<F: FnOnce()>(work: F) {
    if std::env::var_os(INSIDE).is_some() {
        return work();
    }
    // "ovagent::kernel::…::tests::the_test::{{closure}}"
    let closure = std::any::type_name::<F>();
    let (_, path) = closure.split_once("::").expect("a path in this crate");
    let test = path.strip_suffix("::{{closure}}").expect("a closure");
    let mut unshare = Command::new("unshare");
    if !nix::unistd::Uid::effective().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let output = unshare
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (package util-linux) starts");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}
