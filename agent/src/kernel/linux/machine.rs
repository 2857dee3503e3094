//! The machine that this process runs on, by procfs and sysfs.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{LinuxKernel, netns::namespace};
use crate::{
    kernel::{
        Machine,
        port::{self, Holder, Listeners},
        processes,
    },
    model::Protocol,
};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Machine for LinuxKernel {
    fn start_time(&self, pid: u32) -> io::Result<Option<u64>> {
        processes::start_time(pid)
    }

    fn in_netns(&self, path: &Path) -> Vec<u32> {
        processes::in_netns(path)
    }

    fn netns_of(&self, pid: u32) -> PathBuf {
        format!("/proc/{pid}/ns/net").into()
    }

    fn own_netns(&self) -> PathBuf {
        "/proc/self/ns/net".into()
    }

    fn inode_at(&self, path: &Path) -> Option<u64> {
        namespace::inode_at(path)
    }

    fn listeners(&self, protocols: &BTreeSet<Protocol>) -> io::Result<Listeners> {
        port::listeners(protocols)
    }

    fn name(&self, holder: &Holder) -> String {
        holder.name()
    }

    fn holder(&self, protocol: Protocol, port: u16) -> Option<String> {
        port::holder(protocol, port)
    }

    fn link_index(&self, name: &str) -> Option<u32> {
        if name.contains('/') {
            return None;
        }
        fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
    }

    fn boot_id(&self) -> io::Result<String> {
        let text = fs::read_to_string(BOOT_ID)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot read {BOOT_ID}: {error}")))?;
        Ok(text.trim().to_owned())
    }

    fn release(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
    }
}
