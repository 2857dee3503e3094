//! README's first network on two real hosts: its own commands, on the hosts that it names, by a user with sudo.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    program::Program,
    vm::{Cluster, Package, root},
};

use crate::{fixture::Fixture, package};

const HEADING: &str = "## A first network on two real hosts";

/// A block of commands, and where it is to be run: None: where the package is built.
struct Block {
    host: Option<usize>,
    script: String,
}

pub(crate) fn word_for_word(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.bare()?;
    let before = package::traces(cluster)?;
    let text = fs::read_to_string(root().join("README.md")).context("read README.md")?;
    let blocks = blocks(&text)?;
    ensure!(blocks.len() >= 8, "README has {} blocks of commands under {HEADING:?}", blocks.len());
    let mut pinged = false;
    for block in &blocks {
        let said = run(cluster, block).with_context(|| format!("README's block:\n{}", block.script))?;
        if block.script.contains("node ls") {
            // Listed as alive, as the text says, at once.
            ensure!(said.matches("alive").count() == 2, "two hosts are not alive: {said}");
        }
        if block.script.contains("curl") {
            ensure!(said.matches(" 0% packet loss").count() == 2, "pings were lost: {said}");
            ensure!(said.contains("Directory listing"), "no answer from the server: {said}");
            pinged = true;
        }
    }
    ensure!(pinged, "README shows no traffic");
    let after = package::traces(cluster)?;
    ensure!(before == after, "README's last commands leave something:\n{before:#?}\n{after:#?}");
    Ok(())
}

/// The commands below the heading. "**On host2" says where those after it are to be run; what is under no such word is
/// run where the package is built, and what is in running text is not meant to be run.
fn blocks(text: &str) -> Result<Vec<Block>> {
    let (_, section) = text.split_once(HEADING).with_context(|| format!("README has no {HEADING:?}"))?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let (mut host, mut script, mut blocks) = (None, None::<String>, Vec::new());
    for line in section.lines() {
        match (&mut script, line) {
            (None, "```sh") => script = Some(String::new()),
            (Some(_), "```") => blocks.extend(script.take().map(|script| Block { host, script })),
            (Some(script), line) => {
                script.push_str(line);
                script.push('\n');
            }
            (None, line) => {
                let line = line.to_lowercase();
                if let Some((_, rest)) = line.split_once("**on host") {
                    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    host = Some(digits.parse().with_context(|| format!("no host in {line:?}"))?);
                }
            }
        }
    }
    Ok(blocks)
}

fn run(cluster: &Cluster, block: &Block) -> Result<String> {
    let done = match block.host {
        Some(number) => cluster.host(number)?.script("vagrant", &block.script)?,
        None => here(cluster, &block.script)?,
    };
    ensure!(done.status.success(), "{done}");
    Ok(done.stdout)
}

/// Where the package is built: a directory with the one under test in target/debian, a `make` that has made it, and an
/// `scp` that knows the machines by name.
fn here(cluster: &Cluster, script: &str) -> Result<ovnet_integration::program::Done> {
    let dir = tempfile::tempdir().context("make a directory")?;
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("target/debian"))?;
    let package = Package::find()?.path;
    symlink(&package, path("target/debian").join(package.file_name().context("a file's name")?))?;
    let mut config = String::new();
    for machine in &cluster.machines {
        config.push_str(&fs::read_to_string(machine.ssh_config())?);
    }
    fs::write(path("ssh_config"), config)?;
    fs::create_dir(path("bin"))?;
    let scp = format!(
        "exec /usr/bin/scp -F {} -o User=vagrant -o ControlPath=none \"$@\"",
        path("ssh_config").display()
    );
    for (name, body) in [("make", "test \"$*\" = deb"), ("scp", &scp)] {
        let program = path("bin").join(name);
        fs::write(&program, format!("#!/bin/sh\n{body}\n"))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    let script = format!("cd {}\nPATH={}:$PATH\n{script}", dir.path().display(), path("bin").display());
    Program::new("bash").args(["-eu", "-o", "pipefail", "-c", &script]).run()
}
