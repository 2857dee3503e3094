//! Hosts of their own: Debian 12 in virtual machines, with systemd and Debian's kernel, on one virtual network.
//!
//! QEMU emulates them in software where there is no KVM, and here always, so that it is the same everywhere: all is several
//! times slower than on a real host, and every deadline is generous. `deploy/vm/image.sh` makes what they boot; what runs
//! on them is driven over ssh. Disks, sockets and machines are in the world of [`crate::enter`], and go with it.

mod machine;
mod package;
mod traffic;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

pub use machine::Machine;
pub use package::Package;
pub use traffic::Traffic;

use crate::{enter, program::Program};

/// The address of this side of the virtual network. The machines are 192.0.2.11, 192.0.2.12 …, as in README.
pub const HERE: &str = "192.0.2.1";
/// An address beyond the virtual network, as the machines see it: on this side too.
pub const OUTSIDE: &str = "203.0.113.1";
/// The link that the machines are joined by.
const BRIDGE: &str = "ovm";
/// Where the image and the package are handed over from outside to inside.
const IMAGE: &str = "OVNET_VM_IMAGE";

/// What the machines boot.
#[derive(Clone, Debug)]
pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// Build it, or find it built. To be called outside of the world, which has no way to Debian's mirrors.
    ///
    /// # Errors
    /// It cannot be built; the script says why.
    pub fn prepare() -> Result<()> {
        let script = root().join("deploy/vm/image.sh");
        let output = Command::new(&script)
            .stderr(std::process::Stdio::inherit())
            .output()
            .with_context(|| format!("run {}", script.display()))?;
        ensure!(output.status.success(), "{} ended with {}", script.display(), output.status);
        let dir = String::from_utf8(output.stdout).context("the image's path")?;
        // A child gets it in its environment, and this process has no thread yet.
        fs::write(handover(), dir.trim()).with_context(|| format!("write {}", handover().display()))
    }

    /// The one that was prepared.
    ///
    /// # Errors
    /// None was.
    pub fn find() -> Result<Self> {
        let dir = match std::env::var_os(IMAGE) {
            Some(dir) => PathBuf::from(dir),
            None => fs::read_to_string(handover()).context("no image was prepared")?.into(),
        };
        if !dir.join("disk.qcow2").is_file() {
            bail!("no image in {}: run deploy/vm/image.sh", dir.display());
        }
        Ok(Self { dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The file that names the image, below the target directory.
fn handover() -> PathBuf {
    root().join("target/vm-image")
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Machines on one network.
#[derive(Debug)]
pub struct Cluster {
    /// `host1`, `host2` …
    pub machines: Vec<Machine>,
}

impl Cluster {
    /// Start `count` machines from the image, with empty disks on it, and wait until all answer.
    ///
    /// # Errors
    /// No network, no QEMU, or one does not come up.
    pub fn boot(count: u8) -> Result<Self> {
        let image = Image::find()?;
        let disk = enter::disk().context("the world has no directory on a disk")?;
        network()?;
        let machines =
            (1..=count).map(|number| Machine::create(&image, &disk, number)).collect::<Result<Vec<_>>>()?;
        for machine in &machines {
            machine.power_on()?;
        }
        for machine in &machines {
            machine.wait_up()?;
        }
        Ok(Self { machines })
    }

    /// Machine by number, from 1.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn host(&self, number: usize) -> Result<&Machine> {
        let index = number.checked_sub(1).context("hosts count from 1")?;
        self.machines.get(index).with_context(|| format!("there is no host{number}"))
    }

    /// What every machine has to say about a failure.
    pub fn report(&self) -> String {
        self.machines.iter().map(Machine::report).collect()
    }

    /// Set the MTU of the virtual network, on both sides.
    ///
    /// # Errors
    /// A link refuses it.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        let mtu = mtu.to_string();
        for machine in &self.machines {
            ip(&["link", "set", &machine.tap(), "mtu", &mtu])?;
            machine.run(&format!("ip link set eth0 mtu {mtu}"))?;
        }
        ip(&["link", "set", BRIDGE, "mtu", &mtu])
    }
}

fn network() -> Result<()> {
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["address", "add", &format!("{HERE}/24"), "dev", BRIDGE])?;
    ip(&["address", "add", &format!("{OUTSIDE}/32"), "dev", "lo"])?;
    ip(&["link", "set", BRIDGE, "up"])
}

fn ip(args: &[&str]) -> Result<()> {
    Program::new("ip").args(args).ok().map(drop)
}
