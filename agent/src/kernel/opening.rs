//! Files at paths that other programs may have made. Opening a FIFO waits for who else opens it, and opening
//! a device may do anything: so what is there is looked at first (`O_PATH` opens nothing), and then that very
//! thing is opened.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use nix::{
    fcntl::OFlag,
    sys::statfs::{FsType, fstatfs},
};

/// Largest file of others that is read, in bytes; what is beyond is left out.
const LARGEST: u64 = 1 << 20;
/// How often a file is written anew while others make and remove it.
const TRIES: u32 = 5;

/// What is at a path, not opened.
fn look_at(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_PATH | OFlag::O_CLOEXEC).bits()).open(path)
}

/// What was looked at, opened.
fn reopened(observed: &File, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY).bits();
    options.custom_flags(flags).open(format!("/proc/self/fd/{}", observed.as_raw_fd()))
}

/// The file at a path, or `None` if it is on a different filesystem.
pub(super) fn on(filesystem: FsType, path: &Path) -> io::Result<Option<File>> {
    let observed = look_at(path)?;
    let there = fstatfs(&observed)?.filesystem_type() == filesystem;
    there.then(|| reopened(&observed, OpenOptions::new().read(true))).transpose()
}

/// What is at a path, if it is a file and nothing else.
fn plain(path: &Path) -> io::Result<File> {
    let observed = look_at(path)?;
    match observed.metadata()?.is_file() {
        true => Ok(observed),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// What a file says, up to a megabyte.
///
/// # Errors
/// There is none, it cannot be read, or something else is there (`InvalidInput`).
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = reopened(&plain(path)?, OpenOptions::new().read(true))?;
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(text)
}

/// Write a file, in place where there is one. Something else that is there makes place for it.
///
/// # Errors
/// It cannot be written, or a directory is there.
pub(crate) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut outcome = write_once(path, text);
    for _again in 1..TRIES {
        // Somebody else made or removed it meanwhile.
        match &outcome {
            Err(error) if is_overtaken(error.kind()) => outcome = write_once(path, text),
            _ => break,
        }
    }
    outcome
}

fn is_overtaken(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
}

fn write_once(path: &Path, text: &[u8]) -> io::Result<()> {
    let there = plain(path);
    if there.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
        fs::remove_file(path)?;
    }
    let mut options = OpenOptions::new();
    options.write(true);
    let mut file = match there {
        Ok(observed) => reopened(&observed, options.truncate(true))?,
        Err(_absent) => options.create_new(true).open(path)?,
    };
    file.write_all(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::{
        sys::{stat::Mode, statfs::NSFS_MAGIC},
        unistd::mkfifo,
    };

    use super::*;

    #[test]
    fn what_is_no_file_is_neither_opened_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        drop(UnixListener::bind(path("socket")).unwrap());
        std::os::unix::fs::symlink("fifo", path("link")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        for odd in [&path("fifo"), &path("socket"), &path("link"), &path("directory"), Path::new("/dev/zero")]
        {
            assert_eq!(read(odd).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", odd.display());
            assert!(on(NSFS_MAGIC, odd).unwrap().is_none(), "{}", odd.display());
        }
        for odd in ["fifo", "socket", "link"] {
            write(&path(odd), b"text").unwrap();
            assert_eq!(read(&path(odd)).unwrap(), b"text", "{odd}");
        }
        assert!(write(&path("directory"), b"text").is_err());
    }

    #[test]
    fn a_file_that_others_make_and_remove_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::thread::scope(|scope| {
            for text in ["one", "two"] {
                scope.spawn(|| (0..300).for_each(|_| write(&path, text.as_bytes()).unwrap()));
            }
            // One at a time goes, so that five tries are enough.
            scope.spawn(|| (0..30).for_each(|_| drop(fs::remove_file(&path))));
        });
        write(&path, b"last").unwrap();
        assert_eq!(read(&path).unwrap(), b"last");
    }

    #[test]
    fn a_file_is_read_and_written_in_place_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        write(&path, b"longer").unwrap();
        let before = File::open(&path).unwrap();
        write(&path, b"short").unwrap();
        assert_eq!(read(&path).unwrap(), b"short");
        assert_eq!(before.metadata().unwrap().len(), 5, "it is another file");
    }
}
