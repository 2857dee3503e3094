//! What the kernel says when it refuses: an error number and, with luck, a sentence (the extended ack of netlink).

use std::{fmt, io};

use nix::errno::Errno;

use crate::kernel::KernelError;

/// A refusal of a system call or a netlink request, before it is known what it was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The error number.
    pub(super) errno: Errno,
    /// The kernel's sentence, or ours.
    pub(super) text: Option<String>,
}

impl Refusal {
    /// A refusal with a sentence of ours.
    pub(super) fn new(errno: Errno, text: impl Into<String>) -> Self {
        Self { errno, text: Some(text.into()) }
    }

    /// The error of the room: `operation` on `target` was refused.
    pub(super) fn into_error(self, operation: &'static str, target: impl Into<String>) -> KernelError {
        // With IPv6 switched off, adding an address is EACCES with a sentence: that is no lack of privilege.
        if self.errno == Errno::EPERM || self.errno == Errno::EACCES && self.text.is_none() {
            return KernelError::Privilege {
                operation,
                needs: "run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
            };
        }
        KernelError::Os { operation, target: target.into(), source: self.into() }
    }

    /// Whether it says, of a new link, that the kernel has no driver for it: since Linux 4.20 with a sentence, which tells
    /// it from an option that the driver lacks.
    pub(super) fn lacks_driver(&self) -> bool {
        let sentence = self.text.as_deref();
        self.errno == Errno::EOPNOTSUPP && sentence.is_none_or(|text| text.contains("Unknown device type"))
    }

    /// Whether it says that the object is not there.
    pub(super) fn is_absence(&self) -> bool {
        [Errno::ENOENT, Errno::ENODEV, Errno::ENXIO, Errno::ESRCH, Errno::EADDRNOTAVAIL].contains(&self.errno)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.errno.desc())?;
        self.text.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, text: None }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Errno::from_raw(number).into(),
            None => Self::new(Errno::EIO, error.to_string()),
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let plain = Self::from(refusal.errno);
        match refusal.text {
            None => plain,
            Some(_) => Self::new(plain.kind(), refusal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_the_kernels_sentence_and_the_kind() {
        let refusal = Refusal::new(Errno::EEXIST, "A VXLAN device with the specified VNI already exists");
        let error = io::Error::from(refusal);
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(error.to_string(), "File exists: A VXLAN device with the specified VNI already exists");
    }

    #[test]
    fn lack_of_privilege_is_told_apart_from_an_address_family_that_is_off() {
        let privilege = Refusal::from(Errno::EPERM).into_error("add bridge", "host/br0");
        assert!(matches!(privilege, KernelError::Privilege { .. }));
        let off =
            Refusal::new(Errno::EACCES, "IPv6 is disabled on this device").into_error("add address", "x");
        assert!(matches!(off, KernelError::Os { .. }));
    }
}
