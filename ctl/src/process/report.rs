//! How the copy that enters a sandbox tells the first one whether the command has started. The first makes a pipe and
//! says where it is; the copy opens its end through /proc, so that nothing is inherited, writes one byte ("I am
//! here"), and then either becomes the command, which closes the pipe, or writes what is wrong.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    str::FromStr,
};

use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe::{self, Receiver, Sender},
};

/// What the copy writes first.
const HERE: u8 = b'+';
/// Longest message, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Where the copy finds the pipe: a process and its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pid: u32,
    fd: u32,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.fd)
    }
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: expected PID:DESCRIPTOR");
        let (pid, fd) = text.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_reason| wrong());
        Ok(Self { pid: number(pid)?, fd: number(fd)? })
    }
}

impl Address {
    /// Opens the pipe and says that this process is here.
    pub(super) fn open(self) -> io::Result<File> {
        let path = format!("/proc/{}/fd/{}", self.pid, self.fd);
        let mut pipe = OpenOptions::new().write(true).open(path)?;
        pipe.write_all(&[HERE])?;
        Ok(pipe)
    }
}

/// Why the command did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotStarted {
    /// 125, 126 or 127.
    pub(super) status: u8,
    pub(super) message: String,
}

impl NotStarted {
    /// Sends it to the first copy.
    pub(super) fn send(&self, pipe: &mut File) -> io::Result<()> {
        pipe.write_all(&[self.status])?;
        pipe.write_all(self.message.as_bytes())
    }
}

/// What came through the pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The copy has become the command.
    Started,
    /// It could not.
    NotStarted(NotStarted),
    /// It ended without a word.
    Silent,
}

/// The first copy's end.
#[derive(Debug)]
pub(super) struct Report {
    /// Kept until the copy holds an end of its own: without any, the pipe would seem to end.
    sender: Option<Sender>,
    receiver: Receiver,
    address: Address,
    text: Vec<u8>,
}

impl Report {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = pipe::pipe()?;
        let address = Address { pid: std::process::id(), fd: sender.as_raw_fd().unsigned_abs() };
        Ok(Self { sender: Some(sender), receiver, address, text: Vec::new() })
    }

    /// Where the copy finds the pipe.
    pub(super) fn address(&self) -> Address {
        self.address
    }

    /// The copy has ended: nobody else will write.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }

    /// Waits until the copy has started the command, failed to, or ended. Cancel-safe: what was read is kept.
    ///
    /// # Errors
    /// The pipe fails.
    pub(super) async fn outcome(&mut self) -> io::Result<Outcome> {
        while self.text.len() < MAX_MESSAGE && self.receiver.read_buf(&mut self.text).await? > 0 {
            self.sender = None;
        }
        Ok(match self.text.as_slice() {
            [] => Outcome::Silent,
            [_here] => Outcome::Started,
            [_here, status, message @ ..] => {
                let message = String::from_utf8_lossy(message).into_owned();
                Outcome::NotStarted(NotStarted { status: *status, message })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_that_closes_the_pipe_without_a_word_has_started() {
        let mut report = Report::new().unwrap();
        drop(report.address().open().unwrap());
        assert_eq!(report.outcome().await.unwrap(), Outcome::Started);
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_status() {
        let mut report = Report::new().unwrap();
        let mut pipe = report.address().to_string().parse::<Address>().unwrap().open().unwrap();
        let sent = NotStarted { status: 127, message: "no such command".into() };
        sent.send(&mut pipe).unwrap();
        drop(pipe);
        assert_eq!(report.outcome().await.unwrap(), Outcome::NotStarted(sent));
    }

    #[tokio::test]
    async fn a_copy_that_ends_before_it_is_here_is_silent() {
        let mut report = Report::new().unwrap();
        report.close();
        assert_eq!(report.outcome().await.unwrap(), Outcome::Silent);
    }
}
