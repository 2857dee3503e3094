//! The package under test, and the same one under another version.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::root;
use crate::program::Program;

/// A .deb.
#[derive(Clone, Debug)]
pub struct Package {
    /// Where it is.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
}

impl Package {
    /// `OVNET_DEB`, or the newest in `target/debian`.
    ///
    /// # Errors
    /// There is none; what to run.
    pub fn find() -> Result<Self> {
        let path = match env::var_os("OVNET_DEB") {
            Some(path) => PathBuf::from(path),
            None => newest(&root().join("target/debian"))
                .context("no package in target/debian: run `make deb`")?,
        };
        let version =
            Program::new("dpkg-deb").args(["--field"]).args([path.clone(), "Version".into()]).ok()?;
        Ok(Self { version: version.text().to_owned(), path })
    }

    /// The same under a version that is `suffix` longer ("+1": newer, "~1": older), below `dir`.
    ///
    /// # Errors
    /// It cannot be taken apart and put together.
    pub fn again(&self, dir: &Path, suffix: &str) -> Result<Self> {
        let version = format!("{}{suffix}", self.version);
        let (tree, path) = (dir.join("tree"), dir.join(format!("ovnet_{version}_amd64.deb")));
        Program::new("dpkg-deb").args(["--raw-extract".into(), self.path.clone(), tree.clone()]).ok()?;
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control).context("read its control file")?;
        let old = format!("Version: {}\n", self.version);
        fs::write(&control, text.replace(&old, &format!("Version: {version}\n")))
            .context("write its control file")?;
        let options = ["--build", "--root-owner-group", "-Zgzip", "-z1"];
        Program::new("dpkg-deb").args(options).args([tree.clone(), path.clone()]).ok()?;
        fs::remove_dir_all(&tree).context("remove what it was made of")?;
        Ok(Self { path, version })
    }
}

fn newest(dir: &Path) -> Option<PathBuf> {
    let packages = fs::read_dir(dir).ok()?.filter_map(Result::ok).filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("ovnet_") && name.ends_with(".deb")
    });
    packages
        .max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok())
        .map(|entry| entry.path())
}
