//! Where `ovagent` and `ovctl` are: `OVNET_BIN_DIR`, or the target directory that this program was built in.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The agent.
    pub ovagent: PathBuf,
    /// The command line.
    pub ovctl: PathBuf,
}

impl Binaries {
    /// Find both.
    ///
    /// # Errors
    /// One is not there; the message says what to run.
    pub fn find() -> Result<Self> {
        let dir = match env::var_os("OVNET_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => profile_dir()?,
        };
        let find = |name: &str| {
            let path = dir.join(name);
            if !path.is_file() {
                bail!(
                    "no {name} in {}: run `cargo build` first, or set OVNET_BIN_DIR to where it is",
                    dir.display()
                );
            }
            path.canonicalize().with_context(|| format!("resolve {}", path.display()))
        };
        Ok(Self { ovagent: find("ovagent")?, ovctl: find("ovctl")? })
    }
}

/// A program of the lab's own, which is built with the tests and never packaged.
///
/// # Errors
/// It is not there.
pub(crate) fn own(name: &str) -> Result<PathBuf> {
    let path = profile_dir()?.join(name);
    if !path.is_file() {
        bail!("no {}: run `cargo build --workspace --bins` first", path.display());
    }
    Ok(path)
}

/// Under `cargo test`: bring the programs up to date. Cargo does not build another package's programs for a test.
///
/// Does nothing when not started by cargo, or when `OVNET_BIN_DIR` names the programs.
///
/// # Errors
/// The build failed.
pub fn build() -> Result<()> {
    let (Some(cargo), None) = (env::var_os("CARGO"), env::var_os("OVNET_BIN_DIR")) else { return Ok(()) };
    let profile = profile_dir()?;
    let target = profile.parent().context("the target directory")?;
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bins", "--target-dir"]).arg(target);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = command.status().context("run cargo build")?;
    if !status.success() {
        bail!("cargo build --workspace --bins ended with {status}");
    }
    Ok(())
}

/// `target/debug` or `target/release`: this program's directory, or the one above its `deps`.
fn profile_dir() -> Result<PathBuf> {
    let exe = env::current_exe().context("find this program")?;
    let dir = exe.parent().context("its directory")?;
    Ok(if dir.ends_with("deps") { dir.parent().map_or(dir, |up: &Path| up) } else { dir }.to_path_buf())
}
