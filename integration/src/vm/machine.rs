//! One virtual machine: its disk, its process, and the way in.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{BRIDGE, HERE, Image, ip};
use crate::{
    program::{self, Done, Program},
    wait::{Poll, wait_for},
};

/// From power on to an answer, with all machines booting on a busy computer.
const BOOT: Duration = Duration::from_secs(150);
/// A kernel that measures its timers while the computer is busy gets them wrong now and then under emulation, and hangs before it
/// has started anything: that machine is switched off and on, so often at most.
const HUNG_BOOTS: u32 = 2;
/// For one command on a machine: installing a package takes seconds, and minutes on a busy computer.
const PATIENCE: Duration = Duration::from_secs(600);
/// For the first answer of ssh.
const KNOCK: Duration = Duration::from_secs(20);

/// A machine, on or off.
#[derive(Debug)]
pub struct Machine {
    /// `host1`
    pub name: String,
    /// `192.0.2.11`
    pub address: String,
    number: u8,
    image: Image,
    dir: PathBuf,
    qemu: Mutex<Option<Child>>,
}

impl Machine {
    /// A machine that has never been on: an empty disk on the image's.
    pub(super) fn create(image: &Image, dir: &Path, number: u8) -> Result<Self> {
        let name = format!("host{number}");
        let dir = dir.join(&name);
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let address = format!("192.0.2.{}", 10 + number);
        let machine = Self { name, address, number, image: image.clone(), dir, qemu: Mutex::new(None) };
        Program::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .args([image.file("disk.qcow2"), machine.disk()])
            .ok()?;
        let tap = machine.tap();
        ip(&["tuntap", "add", &tap, "mode", "tap"])?;
        ip(&["link", "set", &tap, "master", BRIDGE, "up"])?;
        machine.write_ssh_config()?;
        Ok(machine)
    }

    /// The link on this side.
    pub(super) fn tap(&self) -> String {
        format!("ovm{}", self.number)
    }

    fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }

    fn socket(&self) -> PathBuf {
        // Below /run: a socket's path has at most 108 bytes.
        PathBuf::from(format!("/run/lab/{}.ssh", self.name))
    }

    /// The file for `ssh -F` and `scp -F`.
    pub fn ssh_config(&self) -> PathBuf {
        self.dir.join("ssh_config")
    }

    fn write_ssh_config(&self) -> Result<()> {
        let text = format!(
            "Host {}\n  HostName {}\n  IdentityFile {}\n  ControlPath {}\n  IdentitiesOnly yes\n  \
             StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  ConnectTimeout 10\n  \
             ServerAliveInterval 10\n",
            self.name,
            self.address,
            self.image.file("key").display(),
            self.socket().display()
        );
        fs::write(self.ssh_config(), text).context("write ssh's configuration")
    }

    /// Power on.
    ///
    /// # Errors
    /// It is on; QEMU is not to be had.
    pub fn power_on(&self) -> Result<()> {
        let mut qemu = self.qemu.lock().unwrap_or_else(PoisonError::into_inner);
        if qemu.is_some() {
            bail!("{} is on", self.name);
        }
        let console =
            File::options().create(true).append(true).open(self.console()).context("its console")?;
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(console.try_clone().context("its console")?)
            .stderr(console)
            .spawn()
            .context("start qemu-system-x86_64 (package qemu-system-x86)")?;
        *qemu = Some(child);
        Ok(())
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    /// q35, since microvm hangs in some boots under emulation; a processor that boots fast there.
    fn command(&self) -> Command {
        let Self { name, address, number, .. } = self;
        let mut command = Command::new("qemu-system-x86_64");
        command.args("-nodefaults -no-user-config -display none -M q35 -accel tcg,thread=multi".split(' '));
        command.args("-cpu Nehalem,-spec-ctrl -smp 1 -m 640 -device virtio-rng-pci -serial stdio".split(' '));
        command.arg("-kernel").arg(self.image.file("vmlinuz"));
        command.arg("-initrd").arg(self.image.file("initrd"));
        command.arg("-append").arg(format!(
            "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off no_timer_check cryptomgr.notests \
             random.trust_cpu=on systemd.hostname={name} ip={address}::{HERE}:255.255.255.0::eth0:none"
        ));
        command.arg("-drive");
        command.arg(format!("if=none,id=disk,file={},cache=unsafe", self.disk().display()));
        command.args(["-device", "virtio-blk-pci,drive=disk"]);
        command.arg("-netdev");
        command.arg(format!("tap,id=net,ifname={},script=no,downscript=no", self.tap()));
        command.args([
            "-device",
            &format!("virtio-net-pci,romfile=,netdev=net,mac=02:00:00:00:00:{number:02x}"),
        ]);
        command
    }

    /// Pull the plug.
    pub fn power_off(&self) {
        let mut qemu = self.qemu.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = qemu.take() {
            program::end(&mut child);
        }
        self.hang_up();
    }

    /// Wait until it answers and systemd has no job left.
    ///
    /// # Errors
    /// It does not in time; what it said on its console.
    pub fn wait_up(&self) -> Result<Duration> {
        let start = Instant::now();
        let look = || {
            self.hang_up();
            let done =
                self.ssh_program("ssh").args(["-MNf", "-E", "/dev/null", &self.name]).limit(KNOCK).run();
            Ok(match done {
                Ok(done) if done.status.success() => Poll::Ready(()),
                Ok(done) => Poll::Pending(done.to_string()),
                Err(error) => Poll::Pending(error.to_string()),
            })
        };
        let what = format!("{} to answer", self.name);
        let mut hung = 0;
        while let Err(error) = wait_for(&what, BOOT, look) {
            hung += 1;
            if hung > HUNG_BOOTS {
                return Err(error).with_context(|| self.console_tail());
            }
            eprintln!("  {} hangs in its boot, and is switched off and on", self.name);
            self.power_off();
            self.power_on()?;
        }
        // "degraded" is for the checks to judge.
        self.try_run("systemctl is-system-running --wait")?;
        Ok(start.elapsed())
    }

    /// End the standing connection, which every command goes by.
    fn hang_up(&self) {
        if self.socket().exists() {
            self.ssh_program("ssh").args(["-O", "exit", &self.name]).limit(KNOCK).run().ok();
            fs::remove_file(self.socket()).ok();
        }
    }

    fn ssh_program(&self, name: &str) -> Program {
        Program::new(name).args(["-F"]).args([self.ssh_config()]).limit(PATIENCE)
    }

    /// Run a script of bash as root, whatever comes of it.
    ///
    /// # Errors
    /// The machine does not answer.
    pub fn try_run(&self, script: &str) -> Result<Done> {
        self.script("root", script)
    }

    /// Run a script of bash as root; what it printed, without the white space around it.
    ///
    /// # Errors
    /// It failed.
    pub fn run(&self, script: &str) -> Result<String> {
        let done = self.try_run(script)?;
        if !done.status.success() {
            bail!("{}: {script}: {done}", self.name);
        }
        Ok(done.text().to_owned())
    }

    /// [`Machine::try_run`] as this user, in its home, stopped at the first command that fails.
    ///
    /// # Errors
    /// The machine does not answer.
    pub fn script(&self, user: &str, script: &str) -> Result<Done> {
        // The whole script is read before it begins: what it runs may read standard input too.
        let shell = r#"script=$(cat); exec bash --norc -eu -o pipefail -c "$script" </dev/null"#;
        let shell = if user == "root" {
            shell.to_owned()
        } else {
            format!("exec runuser -u {user} -- bash -c 'cd; {shell}'")
        };
        let done = self.ssh_program("ssh").args([&self.name, &shell]).input(script).run()?;
        if done.status.code() == Some(255) {
            bail!("{} does not answer: {done}", self.name);
        }
        Ok(done)
    }

    /// Wait until a script of bash, run as root, succeeds.
    ///
    /// # Errors
    /// It does not within `limit`; what it said last.
    pub fn wait(&self, what: &str, limit: Duration, script: &str) -> Result<()> {
        wait_for(&format!("{what} on {}", self.name), limit, || {
            let done = self.try_run(script)?;
            Ok(if done.status.success() { Poll::Ready(()) } else { Poll::Pending(done.to_string()) })
        })
    }

    /// Copy a file to it.
    ///
    /// # Errors
    /// It cannot be read here or written there.
    pub fn copy(&self, file: &Path, to: &str) -> Result<()> {
        self.ssh_program("scp")
            .args([file.to_path_buf(), format!("{}:{to}", self.name).into()])
            .ok()
            .map(drop)
    }

    /// Boot again by systemd, and wait until it answers.
    ///
    /// # Errors
    /// It does not come back.
    pub fn reboot(&self) -> Result<Duration> {
        let id = "cat /proc/sys/kernel/random/boot_id";
        let before = self.run(id)?;
        let start = Instant::now();
        // The connection may end before the command does.
        self.try_run("systemctl reboot").ok();
        wait_for(&format!("{} to boot again", self.name), BOOT, || {
            self.wait_up()?;
            let now = self.run(id)?;
            Ok(if now == before { Poll::Pending("the same boot".into()) } else { Poll::Ready(()) })
        })?;
        Ok(start.elapsed())
    }

    fn console_tail(&self) -> String {
        let text = fs::read(self.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        format!("{}'s console:\n{}", self.name, lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// For the message of a failure.
    pub(super) fn report(&self) -> String {
        let script = "set +e; systemctl --no-pager --failed; systemctl --no-pager -n0 status ovagent; \
                      journalctl --no-pager -b -n 40 -u ovagent; ovctl node ls; ovctl diff; ip -br address; ip netns; \
                      ip route; nft list ruleset";
        match self.try_run(script) {
            Ok(done) => format!("==== {}\n{}{}\n", self.name, done.stdout, done.stderr),
            Err(error) => format!("==== {}: {error:#}\n{}\n", self.name, self.console_tail()),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
    }
}
