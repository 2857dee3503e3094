//! What a process in a sandbox finds under /etc: hosts, resolv.conf, hostname.
//!
//! They lie in the run directory; `ovctl run` and `exec` mount them, so each is rewritten in place.

use std::{io, path::PathBuf};

use super::Service;
use crate::{kernel::Kernel, model::Name};

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                         fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

impl<K: Kernel> Service<K> {
    /// Where a sandbox's files are.
    pub fn files_dir(&self, sandbox: &Name) -> PathBuf {
        self.settings.run_dir.join("sandboxes").join(sandbox.as_str())
    }

    /// Write a sandbox's files anew. A failure is told in the log alone: the network works without them.
    pub(super) async fn write_files(&self, name: &Name) {
        let Some(sandbox) = self.world.read(|intent| intent.sandboxes().get(name).cloned()) else { return };
        let mut hosts = LOCALHOST.to_owned();
        for endpoint in self.endpoints_of(name) {
            for address in &endpoint.addresses {
                hosts.push_str(&format!("{}\t{}", address.addr(), sandbox.hostname));
                if sandbox.hostname != endpoint.name.as_str() {
                    hosts.push(' ');
                    hosts.push_str(endpoint.name.as_str());
                }
                hosts.push('\n');
            }
        }
        let resolv = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
        let files =
            [("hosts", hosts), ("resolv.conf", resolv), ("hostname", format!("{}\n", sandbox.hostname))];
        for (file, text) in files {
            if let Err(error) = self.replace_file(name, file, &text).await {
                tracing::warn!(sandbox = %name, file, %error, "cannot write a sandbox's file");
            }
        }
    }

    /// In place where it is there already, since a bind mount shows the old inode for ever.
    async fn replace_file(&self, name: &Name, file: &str, text: &str) -> io::Result<()> {
        let dir = self.files_dir(name);
        tokio::fs::create_dir_all(&dir).await?;
        let path = dir.join(file);
        if tokio::fs::read_to_string(&path).await.is_ok_and(|there| there == text) {
            return Ok(());
        }
        tokio::fs::write(path, text).await
    }

    pub(super) async fn remove_files(&self, name: &Name) {
        let dir = self.files_dir(name);
        match tokio::fs::remove_dir_all(&dir).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(dir = %dir.display(), %error, "cannot remove a sandbox's files");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Write the files of every sandbox: after a reboot the run directory is empty.
    pub async fn write_all_files(&self) {
        let names: Vec<Name> = self.world.read(|intent| {
            let own = intent.sandboxes().values().filter(|sandbox| sandbox.shares.is_none());
            own.map(|sandbox| sandbox.name.clone()).collect()
        });
        for name in names {
            self.write_files(&name).await;
        }
    }
}
