//! What bad input gets: an error that names the input, what is wrong and what would be right; and nothing left behind.

use std::{collections::BTreeSet, net::UdpSocket};

use anyhow::{Context, Result, ensure};
use ovagent::model::Driver;
use ovnet_integration::{
    frame::{self, Test},
    lab::{Host, Lab},
    probe::in_netns,
    program::Done,
};

fn main() -> Result<()> {
    let one = || Lab::builder().hosts(1);
    let bare = || one().agents(false);
    frame::run([
        Test::new("bad networks are refused and leave nothing", one(), bad_networks),
        Test::new("bad attachments are refused and leave nothing", one(), bad_attachments),
        Test::new("bad sandboxes are refused and leave nothing", one(), bad_sandboxes),
        Test::new("what is in use is not removed", one(), in_use),
        Test::new("a subnet that overlaps a route is refused unless forced", one(), overlap),
        Test::new("the exit status tells refusal, usage and an absent agent apart", one(), statuses),
        Test::new("data goes to stdout and everything else to stderr", one(), streams),
        Test::new("ovctl offers exactly the drivers that the agent has", bare(), drivers),
        Test::new("a second agent on the same state directory is refused", one(), second_agent),
        Test::new("a port in use is named with its holder", bare(), port_in_use),
        Test::new("an agent without privilege says what it needs", bare(), no_privilege),
        Test::new("a store that is away at start is named", bare(), store_away),
        Test::new("all mistakes of a configuration are told at once", bare(), mistakes),
    ])
}

fn drivers(lab: &Lab) -> Result<()> {
    let help = lab.host(1)?.ovctl(&["network", "create", "--help"])?;
    let offered: BTreeSet<&str> = help
        .stdout
        .lines()
        .skip_while(|line| !line.contains("--driver"))
        .skip_while(|line| !line.contains("Possible values"))
        .skip(1)
        .map_while(|line| line.trim().strip_prefix("- ")?.split(':').next())
        .collect();
    let known: BTreeSet<&str> = Driver::ALL.iter().map(|driver| driver.as_str()).collect();
    ensure!(offered == known, "offered: {offered:?}, known: {known:?}");
    Ok(())
}

/// Run `ovctl` and expect a refusal whose message has all of these.
fn refused(host: &Host, args: &[&str], words: &[&str]) -> Result<()> {
    let done = host.ovctl(args)?;
    ensure!(done.code() == 1, "not refused: {done}");
    ensure!(done.stdout.is_empty(), "a refusal on stdout: {done}");
    says(&done, words)
}

fn says(done: &Done, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(done.stderr.contains(word), "it does not say {word:?}: {done}");
    }
    Ok(())
}

/// What the store and the host's kernel have, line by line, to be the same after a refusal.
fn traces(host: &Host) -> Result<BTreeSet<String>> {
    // Without the revisions: an attach that is taken back has written, too.
    let store = host.ovctl_ok(&["store", "dump", "--format", "{{.Key}} {{json .Value}}"])?.stdout;
    let links = host.exec_ok(&["ip", "-o", "link"])?.stdout;
    let kernel = links.lines().map(String::from).chain(host.netns_names()?);
    Ok(store.lines().map(String::from).chain(kernel).collect())
}

fn unchanged(host: &Host, before: &BTreeSet<String>) -> Result<()> {
    let after = traces(host)?;
    let changes: Vec<&String> = before.symmetric_difference(&after).collect();
    ensure!(changes.is_empty(), "a refusal leaves a trace: {changes:#?}");
    Ok(())
}

fn bad_networks(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "-o", "vni=4242", "there"])?;
    let before = traces(host)?;
    let cases: [(&[&str], &[&str]); 15] = [
        (&["--subnet", "10.1.0.0/33"], &["10.1.0.0/33"]),
        (&["--subnet", "300.1.0.0/24"], &["300.1.0.0/24"]),
        (&["--subnet", "10.1.0.7/24"], &["10.1.0.7/24", "10.1.0.0/24"]),
        (
            &["--subnet", "10.1.0.0/24", "--subnet", "10.1.0.128/25"],
            &["10.1.0.0/24", "10.1.0.128/25", "overlap"],
        ),
        (&["--subnet", "10.1.0.0/31"], &["10.1.0.0/31"]),
        (&["--subnet", "224.0.0.0/24"], &["224.0.0.0/24"]),
        (&["--subnet", "10.1.0.0/24", "--gateway", "10.2.0.1"], &["10.2.0.1"]),
        (&["--subnet", "10.1.0.0/24", "--gateway", "10.1.0.255"], &["10.1.0.255"]),
        (&["--subnet", "10.1.0.0/24", "--ip-range", "10.2.0.0/25"], &["10.2.0.0/25"]),
        (&["--subnet", "10.1.0.0/24", "--aux-address", "printer=10.2.0.9"], &["10.2.0.9"]),
        (&["-o", "mtu=banana"], &["banana"]),
        (&["-o", "mtu=100"], &["100"]),
        (&["-o", "vni=16777216"], &["16777216"]),
        (&["-o", "vni=4242"], &["4242"]),
        (&["-o", "multicats=true"], &["multicats", "multicast"]),
    ];
    for (args, words) in cases {
        let mut command = vec!["network", "create"];
        command.extend_from_slice(args);
        command.push("fresh");
        refused(host, &command, words)?;
    }
    for bad in ["my net", "a/b", ".hidden", &"x".repeat(64)] {
        refused(host, &["network", "create", bad], &[bad])?;
    }
    // ovctl knows the drivers by itself.
    let driver = host.ovctl(&["network", "create", "-d", "overlord", "fresh"])?;
    ensure!(driver.code() == 2, "{driver}");
    says(&driver, &["overlord", "overlay"])?;
    refused(host, &["network", "create", "there"], &["there"])?;
    let inspect = host.ovctl(&["network", "inspect", "nowhere"])?;
    ensure!(inspect.code() == 1 && inspect.text() == "[]", "not as Docker does: {inspect}");
    says(&inspect, &["nowhere"])?;
    refused(host, &["network", "rm", "nowhere"], &["nowhere"])?;
    unchanged(host, &before)
}

fn bad_attachments(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "--aux-address", "printer=10.9.0.9", "net"])?;
    host.create_sandbox("there", &["net:ip=10.9.0.50"])?;
    host.create_sandbox("box", &[])?;
    let before = traces(host)?;
    let cases: [(&[&str], &[&str]); 8] = [
        (&["nowhere", "box"], &["nowhere"]),
        (&["net", "nobody"], &["nobody"]),
        (&["--ip", "10.10.0.5", "net", "box"], &["10.10.0.5", "10.9.0.0/24"]),
        (&["--ip", "10.9.0.50", "net", "box"], &["10.9.0.50"]),
        (&["--ip", "10.9.0.1", "net", "box"], &["10.9.0.1", "gateway"]),
        (&["--ip", "10.9.0.9", "net", "box"], &["10.9.0.9", "printer"]),
        (&["--ip", "10.9.0.255", "net", "box"], &["10.9.0.255"]),
        (&["net", "there"], &["there", "net"]),
    ];
    for (args, words) in cases {
        let mut command = vec!["network", "connect"];
        command.extend_from_slice(args);
        refused(host, &command, words)?;
    }
    let mac = host.ovctl(&["network", "connect", "--mac-address", "02:42:zz:00:00:01", "net", "box"])?;
    ensure!(mac.code() == 2, "{mac}");
    says(&mac, &["02:42:zz:00:00:01"])?;
    refused(host, &["network", "disconnect", "net", "box"], &["box", "net"])?;
    // The interface name is taken by somebody else's link.
    host.ns_exec_ok("box", &["ip", "link", "add", "eth0", "type", "bridge"])?;
    let done = host.ovctl(&["network", "connect", "net", "box"])?;
    if done.status.success() {
        let endpoint = host.endpoint("net", "box")?;
        ensure!(endpoint.ifname != "eth0", "eth0 is a foreign link: {endpoint:?}");
        host.ovctl_ok(&["network", "disconnect", "net", "box"])?;
    } else {
        ensure!(done.code() == 1, "{done}");
        says(&done, &["eth0"])?;
    }
    ensure!(
        host.ns_exec_ok("box", &["ip", "-d", "link", "show", "eth0"])?.stdout.contains("bridge"),
        "it is gone"
    );
    unchanged(host, &before)
}

fn bad_sandboxes(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    host.create_sandbox("there", &["net"])?;
    host.exec_ok(&["ip", "netns", "add", "foreign"])?;
    let before = traces(host)?;
    let cases: [(&[&str], &[&str]); 7] = [
        (&["there"], &["there"]),
        (&["foreign"], &["foreign"]),
        (&["bad name"], &["bad name"]),
        (&["--network", "nowhere", "box"], &["nowhere"]),
        (&["--network", "net", "--network", "nowhere", "box"], &["nowhere"]),
        (&["--netns", "/run/netns/nothing", "box"], &["/run/netns/nothing"]),
        (&["--pid", "4194304", "box"], &["4194304"]),
    ];
    for (args, words) in cases {
        let mut command = vec!["sandbox", "create"];
        command.extend_from_slice(args);
        refused(host, &command, words)?;
    }
    let plain = host.exec_ok(&["sh", "-c", "echo text > /run/ovnet/plain; echo /run/ovnet/plain"])?;
    refused(host, &["sandbox", "create", "--netns", plain.text(), "box"], &[plain.text()])?;
    refused(host, &["sandbox", "rm", "nobody"], &["nobody"])?;
    unchanged(host, &before)
}

fn in_use(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    host.create_sandbox("box", &["net"])?;
    refused(host, &["network", "rm", "net"], &["net", "endpoint"])?;
    let listed = || host.ovctl_ok(&["network", "ls", "-q", "--filter", "name=net"]);
    ensure!(listed()?.stdout.lines().count() == 1, "it is gone");
    host.ovctl_ok(&["sandbox", "rm", "-f", "box"])?;
    host.ovctl_ok(&["network", "rm", "net"])?;
    ensure!(listed()?.stdout.is_empty(), "it stays");
    Ok(())
}

fn overlap(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.exec_ok(&["ip", "route", "add", "10.44.0.0/16", "via", "10.77.0.254"])?;
    refused(
        host,
        &["network", "create", "--subnet", "10.44.5.0/24", "net"],
        &["10.44.5.0/24", "10.44.0.0/16"],
    )?;
    refused(host, &["network", "create", "--subnet", "10.77.0.0/24", "net"], &["10.77.0.0/24", "eth0"])?;
    host.ovctl_ok(&["network", "create", "--force", "--subnet", "10.44.5.0/24", "net"])?;
    // Automatic ones pass over it: all of 10/8 up to the last /24 is in use.
    host.exec_ok(&["ip", "route", "add", "10.0.0.0/9", "via", "10.77.0.254"])?;
    host.ovctl_ok(&["network", "create", "auto"])?;
    let subnet = host.api()?.network("auto")?.network.and_then(|network| network.subnets.into_iter().next());
    let prefix = subnet.context("no subnet")?.prefix;
    let second: u8 = prefix.split('.').nth(1).context("an IPv4 prefix")?.parse()?;
    ensure!(!prefix.starts_with("10.") || second >= 128, "{prefix} overlaps 10.0.0.0/9");
    Ok(())
}

fn statuses(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    ensure!(host.ovctl(&["network", "inspect", "nowhere"])?.code() == 1, "a refusal is 1");
    for usage in [&["network", "crate"][..], &["network", "create"], &["--nonsense"]] {
        let done = host.ovctl(usage)?;
        ensure!(done.code() == 2 && done.stdout.is_empty(), "bad usage is 2: {done}");
    }
    let socket = "unix:///run/ovnet/other.sock";
    let away = host.ovctl(&["--host", socket, "network", "ls"])?;
    ensure!(away.code() == 3, "an absent agent is 3: {away}");
    says(&away, &["/run/ovnet/other.sock", "ovagent"])
}

fn streams(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let id = host.ovctl_ok(&["network", "create", "--subnet", "10.9.0.0/24", "net"])?;
    ensure!(id.text().len() == 64 && id.stderr.is_empty(), "{id}");
    let table = host.ovctl_ok(&["network", "ls"])?;
    let header: Vec<&str> = table
        .stdout
        .lines()
        .next()
        .context("no header")?
        .split("  ")
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    ensure!(header == ["NETWORK ID", "NAME", "DRIVER", "SCOPE"], "{header:?}");
    ensure!(
        table.stdout.contains("net") && table.stdout.contains("overlay") && table.stdout.contains("global"),
        "{table}"
    );
    // Beside the network `bridge`, which is always there.
    let ls = |format| host.ovctl_ok(&["network", "ls", "--filter", "driver=overlay", "--format", format]);
    let template = ls("{{.Name}} {{.Driver}}")?;
    ensure!(template.text() == "net overlay", "{template}");
    let line = ls("json")?.json()?;
    ensure!(line.get("Name").is_some_and(|name| name == "net"), "{line}");
    let inspect = host.ovctl_ok(&["network", "inspect", "net"])?.json()?;
    let first = inspect.get(0).context("not an array")?;
    ensure!(first.get("Id").is_some_and(|found| found == id.text()), "{first}");
    ensure!(first.pointer("/IPAM/Config/0/Subnet").is_some_and(|subnet| subnet == "10.9.0.0/24"), "{first}");
    Ok(())
}

fn second_agent(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let done = host
        .agent_program()?
        .args(host.agent_args())
        .args(["--run-dir", "/run/other", "--gossip-port", "7947"])
        .run()?;
    ensure!(done.code() == 1, "{done}");
    let said = format!("{}{}", done.stdout, done.stderr);
    let state_dir = host.state_dir().display().to_string();
    ensure!(said.contains(&state_dir), "it does not name {state_dir}: {said}");
    host.wait_ready()
}

fn port_in_use(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let socket = in_netns(&host.netns(), || UdpSocket::bind("0.0.0.0:7946").context("bind"))?;
    let done = host.agent_program()?.args(host.agent_args()).run()?;
    drop(socket);
    let said = format!("{}{}", done.stdout, done.stderr);
    ensure!(done.code() == 1 && said.contains("7946"), "{done}");
    let holder = std::process::id().to_string();
    ensure!(said.contains(&holder), "it does not name the holder, process {holder}: {said}");
    Ok(())
}

fn no_privilege(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    let agent = ovnet_integration::binaries::Binaries::find()?.ovagent;
    let done = host
        .program("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
        .args([agent])
        .args(host.agent_args())
        .run()?;
    let said = format!("{}{}", done.stdout, done.stderr);
    ensure!(done.code() == 1 && (said.contains("CAP_NET_ADMIN") || said.contains("root")), "{done}");
    let changes = before.changes(&host.kernel_state()?);
    ensure!(changes.is_empty(), "it leaves:\n{changes}");
    Ok(())
}

fn store_away(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    lab.etcd()?.kill()?;
    host.start_agent()?;
    // A first start without the store: either it says so and ends, or it waits for the store and says so.
    ovnet_integration::wait::wait_until("the store to be named", std::time::Duration::from_secs(15), || {
        let status = host.ovctl(&["network", "create", "net"])?;
        let said = format!("{}{}", status.stderr, host.log_tail());
        Ok(!status.status.success() && said.contains("10.77.0.254:2379"))
    })?;
    lab.etcd()?.start_again()?;
    host.start_agent()?;
    host.wait_ready()?;
    ovnet_integration::wait::wait_until("the store to be back", std::time::Duration::from_secs(20), || {
        Ok(host.ovctl(&["network", "create", "net"])?.status.success())
    })
}

fn mistakes(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let config =
        "store = \"zookeeper://x\"\ngossip-port = 99999\nadvertise = \"not an address\"\nnode-nam = \"x\"\n";
    host.exec_ok(&["sh", "-c", &format!("printf '%s' '{config}' > /run/agent.toml")])?;
    let done = host.agent_program()?.args(["--config", "/run/agent.toml"]).run()?;
    let said = format!("{}{}", done.stdout, done.stderr);
    ensure!(done.code() == 1 || done.code() == 2, "{done}");
    for word in ["zookeeper://x", "99999", "not an address", "node-nam"] {
        ensure!(said.contains(word), "{word:?} is not told: {said}");
    }
    Ok(())
}
