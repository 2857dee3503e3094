//! Calling nft, in the namespace concerned, with a limit on its time.

use std::{
    io::{self, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    elements,
    listings::{Listings, Look},
    wire,
};
use crate::{
    kernel::{
        KernelError,
        linux::netns::namespace::Namespace,
        nft::{decode, encode},
    },
    plan::{
        ownership::TABLE,
        ruleset::{PortChange, Table},
        state::Netns,
    },
};

/// It takes some 2 ms; on a busy host with a large foreign ruleset some 100.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most of its output that we read, in bytes.
const OUTPUT: u64 = 16 * 1024 * 1024;
/// Most characters of its error output in a message.
const COMPLAINT: usize = 800;
/// What nft says of a table that is not there (in the C locale).
const ABSENT: &str = "No such file or directory";

/// Our table in this namespace, if there is one.
pub(in crate::kernel::linux) fn read(
    namespace: &Namespace,
    netns: &Netns,
    listings: &Listings,
) -> Result<Option<Table>, KernelError> {
    let observed = match listings.look(namespace, netns) {
        Look::Absent => return Ok(None),
        Look::Known(table) => return Ok(Some(Table::clone(&table))),
        Look::Unknown(observed) => observed,
    };
    listings.count();
    let table = listed(namespace, netns)?;
    if let (Some(observed), Some(table)) = (&observed, &table) {
        listings.was_read(namespace, netns, observed, table);
    }
    Ok(table)
}

/// Our table as nft reads it.
fn listed(namespace: &Namespace, netns: &Netns) -> Result<Option<Table>, KernelError> {
    let outcome = call(namespace, netns, &["-j", "list", "table", "inet", TABLE], "")?;
    if outcome.status.success() {
        return decode::table(&outcome.stdout).map(Some).map_err(failure);
    }
    if outcome.is_absence() { Ok(None) } else { Err(refused(&outcome)) }
}

/// Replace our table, or remove it, in one transaction.
pub(in crate::kernel::linux) fn write(
    namespace: &Namespace,
    netns: &Netns,
    table: Option<&Table>,
    listings: &Listings,
) -> Result<(), KernelError> {
    let text = encode::transaction(table).map_err(failure)?;
    let before = listings.before(namespace, netns);
    let outcome = call(namespace, netns, &["-f", "-"], &text)?;
    if !outcome.status.success() {
        return Err(refused(&outcome));
    }
    if let Some(table) = table {
        listings.after(namespace, netns, before, table.clone());
    }
    Ok(())
}

/// Change ports in our table, all or none.
pub(in crate::kernel::linux) fn change(
    namespace: &Namespace,
    netns: &Netns,
    changes: &[PortChange],
    listings: &Listings,
) -> Result<(), KernelError> {
    let before = listings.before(namespace, netns);
    let table = before.with(namespace, netns, changes);
    elements::change(namespace, changes).map_err(|refusal| {
        let none = wire::is_missing(&refusal);
        if none { missing() } else { refusal.into_error("change ports in nftables table", netns.to_string()) }
    })?;
    if let Some(table) = table {
        listings.after(namespace, netns, before, table);
    }
    Ok(())
}

/// Carry out commands in one transaction; false: something that they speak of is not there (any more).
pub(in crate::kernel::linux) fn transact(
    namespace: &Namespace,
    netns: &Netns,
    commands: &str,
) -> Result<bool, KernelError> {
    let outcome = call(namespace, netns, &["-f", "-"], commands)?;
    match outcome.status.success() {
        true => Ok(true),
        false if outcome.is_absence() => Ok(false),
        false => Err(refused(&outcome)),
    }
}

struct Finished {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Finished {
    fn is_absence(&self) -> bool {
        self.stderr.contains(ABSENT)
    }

    /// What it says, in one line of limited length: its errors, each with what it quotes.
    fn complaint(&self) -> String {
        let says = |line: &&str| !line.trim_matches([' ', '\t', '^', '~']).is_empty();
        let text = self.stderr.lines().map(str::trim).filter(says).collect::<Vec<_>>().join("; ");
        if text.is_empty() {
            return format!("failed with {}", self.status);
        }
        text.chars().take(COMPLAINT).collect()
    }
}

/// The error of a kernel without nf_tables, or without its family inet.
pub(in crate::kernel::linux) const fn missing() -> KernelError {
    KernelError::Missing {
        feature: "nftables",
        option: "CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe nf_tables)",
    }
}

/// The error of a call that was refused.
fn refused(outcome: &Finished) -> KernelError {
    // "cache initialization failed: Protocol not supported" without netfilter's sockets, "… Invalid argument" without
    // nf_tables, "… Address family not supported by protocol" without the family.
    let says = |part: &str| outcome.stderr.contains(part);
    let none = says("Protocol not supported") || says("initialization failed: Invalid argument");
    if none || says("Could not process rule: Address family not supported") {
        return missing();
    }
    failure(outcome.complaint())
}

/// The error of a call.
pub(in crate::kernel::linux) fn failure(message: String) -> KernelError {
    KernelError::Program { program: "nft", message }
}

fn call(
    namespace: &Namespace,
    netns: &Netns,
    arguments: &[&str],
    input: &str,
) -> Result<Finished, KernelError> {
    let outcome = namespace
        .run(|| run(arguments, input))
        .map_err(|refusal| refusal.into_error("enter network namespace", netns.to_string()))?;
    outcome.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            failure("not found: install the package nftables (Debian: apt install nftables)".into())
        } else {
            failure(error.to_string())
        }
    })
}

fn run(arguments: &[&str], input: &str) -> io::Result<Finished> {
    let mut child = Command::new("nft")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let (done, over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            // The sender goes when the child has been read to its end; it is reaped only after this thread is told.
            if over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _gone = kill(pid, Signal::SIGKILL);
            }
        });
        let exchanged = exchange(&mut child, input);
        drop(done);
        let (stdout, stderr) = exchanged
            .inspect_err(|_failed| {
                let _gone = kill(pid, Signal::SIGKILL);
            })
            .unwrap_or_default();
        Ok(Finished { status: child.wait()?, stdout, stderr })
    })
}

/// Feed it its input and read both of its outputs to their end.
fn exchange(child: &mut Child, input: &str) -> io::Result<(String, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let complaints = scope.spawn(move || read_all(stderr));
        let feeder = scope.spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes())));
        let output = read_all(stdout);
        let died = |_panic| Err(io::Error::other("a thread died"));
        let fed = feeder.join().unwrap_or_else(|_panic| Err(io::Error::other("a thread died")));
        // It may stop reading at the first mistake; its complaint tells more than the broken pipe.
        fed.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
        Ok((output?, complaints.join().unwrap_or_else(died)?))
    })
}

fn read_all(pipe: Option<impl Read>) -> io::Result<String> {
    let mut text = String::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT).read_to_string(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
