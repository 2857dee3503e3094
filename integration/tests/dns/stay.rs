//! The resolver stays: under hostile packets, without etcd, over restarts; and the names of dead hosts go.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use ovnet_integration::{
    dns::{self, Kind, RESOLVER, SERVFAIL},
    lab::{From, Host, Lab},
    wait::{Poll, wait_for, wait_until},
};

use super::{AT_ONCE, ask, remove, says, wide};

pub(crate) fn hostile(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("client", &["wide"])?;
    let (own, netns) = (host.address("wide", "client")?, host.netns_of(From::Sandbox("client")));
    let pid = host.agent_pid();
    let good = dns::query(("client", Kind::A))?;
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let mut packets: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    // An answer, a name that points to itself, two questions, very many records, another class, a label that is too long.
    packets.extend([
        changed(2, 0x81),
        [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat(),
        changed(5, 2),
        changed(6, 0xff),
    ]);
    packets.extend([
        changed(10, 0xff),
        changed(good.len() - 1, 77),
        changed(12, 0xbf),
        vec![0xff; 40_000],
        Vec::new(),
    ]);
    packets.extend((0..300).map(|length| (0..length).map(|_byte| rand::random()).collect()));
    for packet in &packets {
        // An error may be told; an address may not.
        if let Some(answer) = dns::exchange(&netns, RESOLVER, packet, Duration::from_millis(2))? {
            ensure!(
                answer.len() < 12 || answer[7] == 0 || packet == &good,
                "{packet:02x?} is answered {answer:02x?}"
            );
        }
    }
    let reply = says(host, "client", ("client", Kind::A), &[&own])?;
    ensure!(reply.took < AT_ONCE && host.agent_pid() == pid, "{reply:?}");
    host.wait_ready()?;
    remove(lab, &[(1, "client")], &["wide"])
}

/// Sockets keep a namespace alive: none may outlive the process that the namespace was adopted from.
pub(crate) fn ended(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("other", &["wide"])?;
    let agent = host.agent_pid().ok_or_else(|| anyhow!("no agent"))?;
    // Sockets at 127.0.0.11 of any namespace are told from others by nothing but their number.
    let sockets = || -> Result<usize> {
        let open =
            fs::read_dir(format!("/proc/{agent}/fd"))?.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        Ok(open.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    };
    let script = "unshare --net sh -c 'ip link set lo up; exec sleep infinity' >/dev/null 2>&1 & echo $!";
    let pid = host.exec_ok(&["sh", "-c", script])?.text().to_string();
    let (netns, own) = (format!("/proc/{pid}/ns/net"), fs::read_link(host.netns())?);
    wait_for("the process to be in its namespace", Duration::from_secs(5), || {
        Ok(if fs::read_link(&netns)? == own { Poll::Pending("not yet".into()) } else { Poll::Ready(()) })
    })?;
    let before = sockets()?;
    host.ovctl_ok(&["sandbox", "create", "--pid", &pid, "--network", "wide", "job"])?;
    let during = sockets()?;
    ensure!(during >= before + 2, "UDP and TCP: {before} sockets, then {during}");
    host.exec_ok(&["kill", "-9", &pid])?;
    wait_for("the sockets to close", Duration::from_secs(3), || {
        let now = sockets()?;
        Ok(if now + 2 <= during { Poll::Ready(()) } else { Poll::Pending(format!("{now} of {during}")) })
    })?;
    wait_for("the sandbox to go", Duration::from_secs(15), || {
        let listed = host.ovctl_ok(&["sandbox", "ls", "-q"])?;
        Ok(if listed.text().lines().any(|name| name == "job") {
            Poll::Pending(listed.to_string())
        } else {
            Poll::Ready(())
        })
    })?;
    remove(lab, &[(1, "other")], &["wide"])
}

pub(crate) fn etcd_away(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    wide(lab, 81, "wide")?;
    h1.create_sandbox("web", &["wide"])?;
    h2.create_sandbox("client", &["wide"])?;
    let address = h1.address("wide", "web")?;
    says(h2, "client", ("web", Kind::A), &[&address])?;
    // On a busy disk the copy is some time behind.
    let copy = h2.path(&h2.state_dir().join("names").display().to_string());
    wait_until("the names to be in the copy", Duration::from_secs(30), || {
        let bytes = fs::read(&copy).unwrap_or_default();
        Ok(["web", "client"].iter().all(|name| bytes.windows(name.len()).any(|part| part == name.as_bytes())))
    })?;
    lab.etcd()?.kill()?;
    let result = (|| -> Result<()> {
        for _question in 0..3 {
            let reply = says(h2, "client", ("web", Kind::A), &[&address])?;
            ensure!(reply.took < AT_ONCE, "{reply:?}");
        }
        // An agent that starts without etcd has a copy of the names, and until it has read it, it says that it does not know.
        h2.kill9_agent();
        h2.start_agent()?;
        wait_for("the name from the copy", Duration::from_secs(15), || {
            let netns = h2.netns_of(From::Sandbox("client"));
            let reply = dns::ask(&netns, RESOLVER, ("web", Kind::A), AT_ONCE)?;
            let Some(reply) = reply else { return Ok(Poll::Pending("silence".into())) };
            let there = reply.said() == [address.as_str()];
            ensure!(there || reply.code == SERVFAIL, "unknown is not empty: {reply:?}");
            Ok(if there { Poll::Ready(()) } else { Poll::Pending(format!("{reply:?}")) })
        })
    })();
    lab.etcd()?.start_again()?;
    lab.hosts.iter().try_for_each(|host| host.wait_nodes_alive(lab.hosts.len()))?;
    result?;
    says(h2, "client", ("web", Kind::A), &[&address])?;
    remove(lab, &[(1, "web"), (2, "client")], &["wide"])
}

/// Answers that are waited for before and after what may silence the resolver.
const ANSWERS: u32 = 50;

/// Ask without a pause while `during` runs, and a while before and after; the longest time without an answer.
fn longest_silence(host: &Host, during: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let netns = host.netns_of(From::Sandbox("client"));
    let (done, count) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let asking = scope.spawn(|| -> Result<Duration> {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                let reply = dns::ask(&netns, RESOLVER, ("web", Kind::A), Duration::from_millis(20))?;
                if reply.is_some_and(|reply| reply.answers.len() == 1) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(longest.max(last.elapsed()))
        });
        let answers = |more: u32| {
            let wanted = count.load(Ordering::Relaxed) + more;
            wait_until("answers", Duration::from_secs(10), || Ok(count.load(Ordering::Relaxed) >= wanted))
        };
        let result = answers(ANSWERS).and_then(|()| during()).and_then(|()| answers(ANSWERS));
        done.store(true, Ordering::Relaxed);
        let measured = asking.join().map_err(|_panic| anyhow!("the asking thread panicked"))?;
        result.and(measured)
    })
}

pub(crate) fn restart(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("web", &["wide"])?;
    host.create_sandbox("client", &["wide"])?;
    let calm = longest_silence(host, || host.wait_in_sync())?;
    for kill in [true, false] {
        let mut down = Duration::ZERO;
        let silence = longest_silence(host, || {
            let start = Instant::now();
            if kill {
                host.kill9_agent()
            } else {
                host.stop_agent()?
            }
            host.start_agent()?;
            host.wait_ready()?;
            down = start.elapsed();
            Ok(())
        })?;
        let how = if kill { "kill -9" } else { "SIGTERM" };
        eprintln!(
            "   {how}: the resolver is silent for {} ms, the agent is away for {} ms; {} ms without a restart",
            silence.as_millis(),
            down.as_millis(),
            calm.as_millis()
        );
        ensure!(
            silence < down + Duration::from_secs(1),
            "{how}: silent for {silence:?}, with the agent away for {down:?}"
        );
    }
    remove(lab, &[(1, "web"), (1, "client")], &["wide"])
}

pub(crate) fn dead_host(lab: &Lab) -> Result<()> {
    let (h1, h3) = (lab.host(1)?, lab.host(3)?);
    wide(lab, 81, "wide")?;
    h1.create_sandbox("client", &["wide"])?;
    h1.ovctl_ok(&["sandbox", "create", "--network", "wide", "--alias", "pool", "here"])?;
    h3.ovctl_ok(&["sandbox", "create", "--network", "wide", "--alias", "pool", "there"])?;
    let (here, there) = (h1.address("wide", "here")?, h3.address("wide", "there")?);
    says(h1, "client", ("pool", Kind::A), &[&here, &there])?;
    h3.kill9_agent();
    h3.isolate()?;
    let start = Instant::now();
    wait_for("the dead host's name to go", Duration::from_secs(60), || {
        let reply = ask(h1, "client", "there", Kind::A)?;
        Ok(if reply.answers.is_empty() { Poll::Ready(()) } else { Poll::Pending(format!("{reply:?}")) })
    })?;
    eprintln!("   the name of a dead host goes after {:.1} s", start.elapsed().as_secs_f64());
    says(h1, "client", ("pool", Kind::A), &[&here])?;
    lab.heal()?;
    h3.start_agent()?;
    wait_for("the name to come back", Duration::from_secs(30), || {
        let reply = ask(h1, "client", "there", Kind::A)?;
        Ok(if reply.said() == [there.as_str()] {
            Poll::Ready(())
        } else {
            Poll::Pending(format!("{reply:?}"))
        })
    })
}
