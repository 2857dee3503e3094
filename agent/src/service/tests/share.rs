//! Sandboxes that share another one's namespace.

use super::*;
use crate::{
    convert::Record,
    model::{ExtraHost, HostAddress, Sandbox, SandboxId},
};

fn sharing(name: &str, owner: &str) -> SandboxSpec {
    SandboxSpec { name: name.parse().ok(), share: owner.into(), ..SandboxSpec::default() }
}

fn netns(name: &str) -> Netns {
    Netns::Named(name.parse().unwrap())
}

fn known(host: &Host, name: &str) -> Option<Sandbox> {
    host.service.world.read(|intent| intent.sandboxes().get(name).cloned())
}

#[tokio::test]
async fn the_namespace_stays_until_the_last_one_that_shares_it_is_gone() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    let owner = host.sandbox("web", "lan").await.sandbox;
    let first = host.service.create_sandbox(sharing("log", "web")).await.unwrap().sandbox;
    assert_eq!((first.netns, first.hostname), (owner.netns.clone(), owner.hostname.clone()));
    // Whoever shares with one that shares, shares with the first.
    let second = host.service.create_sandbox(sharing("debug", "log")).await.unwrap().sandbox;
    assert_eq!(second.shares, Some(owner.name.clone()));
    assert_eq!(host.service.files_of(&second), host.service.files_dir(&owner.name));

    host.service.remove_sandbox("web", false).await.unwrap();
    assert!(known(&host, "web").is_some_and(|sandbox| sandbox.left));
    assert!(host.kernel.state().netns.contains_key(&netns("web")), "the namespace stays");
    assert_eq!(host.service.endpoints_of(&owner.name).len(), 1, "the addresses too");
    assert!(host.service.files_dir(&owner.name).exists());

    for (error, part) in [
        (refusal(host.connect(("web", "lan"), |_| ()).await), "exists only for the sandboxes that share"),
        (refusal(host.service.create_sandbox(sharing("more", "web")).await), "sandbox web was removed"),
        (
            refusal(host.service.create_sandbox(sharing("web", "")).await),
            "a sandbox named web was removed, but exists until",
        ),
        (
            refusal(host.service.remove_sandbox("web", true).await),
            "sandbox web was removed already, and exists for the sandboxes that share its network namespace: \
             remove debug, log too",
        ),
    ] {
        assert!(error.contains(part), "{error}");
    }

    host.service.remove_sandbox("log", false).await.unwrap();
    assert!(host.kernel.state().netns.contains_key(&netns("web")));
    host.service.remove_sandbox("debug", false).await.unwrap();
    assert_eq!(host.left().await, [""; 0]);
    assert!(!host.kernel.state().netns.contains_key(&netns("web")));
    assert!(!host.service.files_dir(&owner.name).exists());
    host.end().await;
}

#[tokio::test]
async fn the_owner_stays_when_those_that_share_go_first() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    host.sandbox("web", "lan").await;
    host.service.create_sandbox(sharing("log", "web")).await.unwrap();
    host.service.remove_sandbox("log", false).await.unwrap();
    assert!(known(&host, "web").is_some_and(|sandbox| !sandbox.left));
    assert!(host.kernel.state().netns.contains_key(&netns("web")));
    host.service.remove_sandbox("web", false).await.unwrap();
    assert_eq!(host.left().await, [""; 0]);
    host.end().await;
}

#[tokio::test]
async fn who_shares_has_no_network_and_no_files_of_its_own() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    host.sandbox("web", "lan").await;
    let lan = AttachSpec { network: "lan".into(), ..AttachSpec::default() };
    let line = ExtraHost { name: "x".into(), address: HostAddress::Gateway };
    let spec = sharing("x", "web");
    for (spec, part) in [
        (SandboxSpec { attachments: vec![lan], ..spec.clone() }, "connect web to lan instead"),
        (
            SandboxSpec { hostname: "h".parse().ok(), ..spec.clone() },
            "cannot have its own hostname: it has web",
        ),
        (SandboxSpec { domain: "d".into(), ..spec.clone() }, "cannot have its own hostname"),
        (SandboxSpec { hosts: vec![line], ..spec.clone() }, "cannot have its own hosts file"),
        (SandboxSpec { adopt: Some(Adopt::Pid(1)), ..spec.clone() }, "leave --pid and --netns out"),
        (sharing("x", "wev"), "no such sandbox: wev (did you mean web?)"),
    ] {
        let error = refusal(host.service.create_sandbox(spec).await);
        assert!(error.contains(part), "{error}");
    }
    host.service.create_sandbox(spec).await.unwrap();
    let error = refusal(host.connect(("x", "lan"), |_| ()).await);
    assert_eq!(error, "sandbox x shares the network namespace of web: connect web instead");
    host.end().await;
}

#[tokio::test]
async fn a_namespace_that_the_agent_made_is_not_adopted() {
    let host = Host::start().await;
    host.network("net").await;
    host.sandbox("web", "net").await;
    let names = host.kernel.netns_names().await.unwrap();
    let made = names.keys().find(|name| name.as_str().starts_with("ov-")).unwrap().to_string();
    for (name, error) in [
        ("web".to_owned(), "is already sandbox web"),
        (made, "is already a namespace that the agent made for a network"),
    ] {
        let path = format!("/run/netns/{name}");
        let adopt = Some(Adopt::Path(path.clone().into()));
        let spec = SandboxSpec { name: "second".parse().ok(), adopt, ..SandboxSpec::default() };
        let refused = refusal(host.service.create_sandbox(spec).await);
        assert_eq!(refused, format!("network namespace {path} {error}"));
    }
    host.end().await;
}

#[tokio::test]
async fn a_sandbox_that_is_gone_cannot_be_shared_and_does_not_stay_for_anyone() {
    let host = Host::start().await;
    let path = std::path::PathBuf::from("/run/netns/theirs");
    host.kernel.edit(|state| drop(state.netns.insert(netns("theirs"), Default::default())));
    let adopted =
        SandboxSpec { name: "web".parse().ok(), adopt: Some(Adopt::Path(path)), ..SandboxSpec::default() };
    host.service.create_sandbox(adopted).await.unwrap();
    host.service.create_sandbox(sharing("log", "web")).await.unwrap();
    host.kernel.edit(|state| drop(state.netns.remove(&netns("theirs"))));
    let error = refusal(host.service.create_sandbox(sharing("more", "web")).await);
    assert!(
        error.starts_with(
            "sandbox web is gone: the network namespace /run/netns/theirs does not exist any more"
        ),
        "{error}"
    );
    host.service.remove_sandbox("web", false).await.unwrap();
    assert!(known(&host, "web").is_none());
    host.service.remove_sandbox("log", false).await.unwrap();
    assert_eq!(host.left().await, [""; 0]);
    host.end().await;
}

#[tokio::test]
async fn what_a_crash_left_between_two_that_share_is_put_right() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    let owner = host.sandbox("web", "lan").await.sandbox;
    // As when the agent died after the last one that shared it was removed, and before the owner was.
    let left = Sandbox { left: true, ..owner.clone() };
    // And as when it died while it made one that shares another.
    host.empty("other").await;
    let unfinished = Sandbox {
        id: SandboxId::from_bytes([7; 32]),
        name: "half".parse().unwrap(),
        adopted: true,
        unfinished: true,
        shares: Some("other".parse().unwrap()),
        ..owner
    };
    let commit = Commit::new()
        .put(Key::Sandbox(left.name.clone()), left.to_bytes())
        .put(Key::Sandbox(unfinished.name.clone()), unfinished.to_bytes());
    let revision = host.service.local.commit(commit).await.unwrap();
    host.service.follow_change(Scope::Local, revision).await;
    let host = host.end().await.start(None).await;
    let janitor = host.janitor();
    host.service.ready().await.unwrap();
    let mut changes = host.service.world.changes();
    let gone = async {
        while known(&host, "web").is_some() || known(&host, "half").is_some() {
            changes.recv().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(host.left().await, ["/ovnet/local/v1/sandboxes/other"]);
    host.end().await;
    janitor.await.unwrap();
}

#[tokio::test]
async fn a_name_whose_namespace_is_there_is_refused_as_what_it_is() {
    let host = Host::start().await;
    let mark = crate::plan::ownership::Mark::new(Unit::Sandbox(SandboxId::from_bytes([9; 32])), "netns");
    for (mark, right) in [(None, "is not ours"), (Some(mark), "still being removed: try again")] {
        host.kernel.edit(|state| state.netns.entry(netns("x")).or_default().mark = mark);
        let spec = SandboxSpec { name: "x".parse().ok(), ..SandboxSpec::default() };
        let error = refusal(host.service.create_sandbox(spec).await);
        assert!(error.contains(right), "{error}");
    }
    host.end().await;
}
