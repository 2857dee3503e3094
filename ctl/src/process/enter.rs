//! `ovctl enter-sandbox`: joins a sandbox's network namespace, sees to hostname, hosts, resolv.conf and /sys in mount and UTS
//! namespaces of its own, and becomes the command. Without a network namespace to join, all that is the host's but a hostname
//! that was asked for.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use nix::{
    fcntl::OFlag,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        statfs::{NSFS_MAGIC, fstatfs},
        statvfs::{FsFlags, statvfs},
    },
    unistd::{sethostname, setsid},
};
use rustix::system::setdomainname;
use std::os::unix::fs::OpenOptionsExt as _;

use super::{
    files,
    report::{Address, NotStarted},
    user::Identity,
};
use crate::{
    failure::{Exit, Failure},
    output::say,
};

/// The sandbox cannot be entered.
const CANNOT_ENTER: u8 = 125;
/// The command is there and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// `enter-sandbox`
#[derive(Args, Debug)]
pub(crate) struct Enter {
    /// The network namespace, if not the one that this process is in
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Directory with hosts, resolv.conf and hostname
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// The hostname
    #[arg(long)]
    hostname: Option<String>,
    /// The domain of the hostname
    #[arg(long)]
    domain: Option<String>,
    /// The working directory
    #[arg(long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Whom to run the command as
    #[arg(long)]
    user: Option<String>,
    /// Leave the terminal
    #[arg(long)]
    detach: bool,
    /// Where to tell what is wrong, if not on standard error
    #[arg(long, value_name = "PID:DESCRIPTOR")]
    report: Option<Address>,
    /// The command
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Enter {
    /// Becomes the command: comes back only if that fails.
    ///
    /// # Errors
    /// Whatever could not be done, if there is no pipe to tell it through.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut pipe = match self.report.map(Address::open).transpose() {
            Ok(pipe) => pipe,
            Err(cause) => {
                return Err(Failure::local("open the pipe to the ovctl that started this one")(cause));
            }
        };
        let failed = self.enter();
        if pipe.as_mut().is_some_and(|pipe| failed.send(pipe).is_ok()) {
            return Ok(Exit(failed.status));
        }
        Err(Failure::NotStarted { status: failed.status, message: failed.message })
    }

    fn enter(&self) -> NotStarted {
        match self.prepare() {
            Ok(mut command) => {
                let cause = command.exec();
                let name = Path::new(command.get_program());
                if !exists(name) {
                    let message = format!("cannot run {}: command not found", name.display());
                    return NotStarted { status: NOT_FOUND, message };
                }
                NotStarted {
                    status: NOT_EXECUTABLE,
                    message: format!("cannot run {}: {cause}", name.display()),
                }
            }
            Err(message) => NotStarted { status: CANNOT_ENTER, message },
        }
    }

    /// All but the last step.
    fn prepare(&self) -> Result<Command, String> {
        // While the host's /etc is still in sight.
        let identity = self.user.as_deref().map(Identity::resolve).transpose()?;
        if self.detach {
            setsid().map_err(because("leave the terminal"))?;
        }
        if let Some(netns) = &self.netns {
            join(netns, self.files.as_deref())?;
        }
        self.take_names()?;
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().ok_or("no command was given")?);
        command.args(words);
        if let Some(identity) = identity {
            identity.assume().map_err(because("become the user"))?;
            command.env("HOME", &identity.home);
        }
        if let Some(dir) = &self.workdir {
            std::env::set_current_dir(dir)
                .map_err(because(format!("change into the directory {}", dir.display())))?;
        }
        Ok(command)
    }

    /// Sets hostname and domain in a UTS namespace of its own; without any, a sandbox still has one, and the host's own stays.
    fn take_names(&self) -> Result<(), String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (hostname, domain) = (given(&self.hostname), given(&self.domain));
        if self.netns.is_none() && hostname.is_none() && domain.is_none() {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWUTS).map_err(because("make a UTS namespace"))?;
        if let Some(hostname) = hostname {
            sethostname(&hostname).map_err(because(format!("set the hostname {hostname:?}")))?;
        }
        if let Some(domain) = domain {
            setdomainname(domain.as_bytes()).map_err(because(format!("set the domain {domain:?}")))?;
        }
        Ok(())
    }
}

/// Joins a network namespace, with mounts of one's own for what goes with it.
fn join(netns: &Path, files: Option<&Path>) -> Result<(), String> {
    let opened =
        namespace(netns).map_err(because(format!("open the network namespace {}", netns.display())))?;
    setns(&opened, CloneFlags::CLONE_NEWNET)
        .map_err(because(format!("enter the network namespace {}", netns.display())))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(because("make a mount namespace"))?;
    // What the host mounts from now on shows up here, and nothing that we mount shows up there.
    attach(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_SLAVE)
        .map_err(because("make the mounts below / one-way"))?;
    if let Some(dir) = files {
        files::mount_over(Path::new("/etc"), dir)?;
    }
    if let Err(cause) = remount_sys() {
        say(&format!("warning: /sys shows the host's interfaces, not the sandbox's: {cause}"));
    }
    Ok(())
}

/// The file of a namespace. What else is at its path is not opened: a FIFO would wait for who writes it.
fn namespace(path: &Path) -> io::Result<File> {
    let open =
        |path: &Path, flags: OFlag| OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let seen = open(path, OFlag::O_PATH)?;
    if fstatfs(&seen)?.filesystem_type() != NSFS_MAGIC {
        return Err(io::Error::other("it is not a namespace"));
    }
    open(Path::new(&format!("/proc/self/fd/{}", seen.as_raw_fd())), OFlag::O_NONBLOCK)
}

/// Whether there is such a command: a path, or a name in one of PATH's directories. The kernel's own answer blurs
/// that: a directory of PATH that one may not search makes it "permission denied".
fn exists(command: &Path) -> bool {
    if command.components().count() > 1 || command.is_absolute() {
        return command.exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(command).exists())
}

/// The text of an error for what was tried.
pub(super) fn because<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> String {
    let what = what.into();
    move |cause| format!("cannot {what}: {}", cause.into())
}

pub(super) fn attach(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
) -> nix::Result<()> {
    mount(source, target, kind, flags, None::<&str>)
}

/// Mounts sysfs anew, which shows the interfaces of the namespace that mounts it, with the host's cgroups in their
/// place again.
fn remount_sys() -> Result<(), String> {
    let (sys, cgroup) = (Path::new("/sys"), Path::new("/sys/fs/cgroup"));
    if !sys.join("class/net").exists() {
        return Ok(());
    }
    // A read-only /sys stays so.
    let read_only = statvfs(sys).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY));
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    flags.set(MsFlags::MS_RDONLY, read_only);
    let path_only = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
    let cgroups = OpenOptions::new().read(true).custom_flags(path_only).open(cgroup).ok();
    attach(Some(Path::new("sysfs")), sys, Some("sysfs"), flags).map_err(because("mount sysfs"))?;
    if let Some(cgroups) = cgroups {
        let hidden = PathBuf::from(format!("/proc/self/fd/{}", cgroups.as_raw_fd()));
        attach(Some(&hidden), cgroup, None, MsFlags::MS_BIND | MsFlags::MS_REC)
            .map_err(because("keep /sys/fs/cgroup"))?;
    }
    Ok(())
}
