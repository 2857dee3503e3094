//! Servers of the lab: programs that run until they are dropped, once they have said that they are ready.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{From, Host, MARK, OUTSIDE_V4, OUTSIDE_V6, Outside};
use crate::{
    binaries,
    program::{self, Program},
    wait::{Poll, wait_for},
};

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(10);

/// A program in the background; it ends when it is dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Service {
    /// Start it, and wait until a line of what it says, on either stream, has `ready` in it.
    ///
    /// # Errors
    /// It does not start, or ends, or is not ready in time; with what it said.
    pub fn start(program: Program, ready: &str) -> Result<Self> {
        let mut command = program.into_command();
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start a server")?;
        let said = Arc::new(Mutex::new(String::new()));
        listen(child.stdout.take(), &said);
        listen(child.stderr.take(), &said);
        let mut service = Self { child, said };
        wait_for(&format!("a server to say {ready:?}"), READY, || {
            if service.said().contains(ready) {
                return Ok(Poll::Ready(()));
            }
            let ended = service.child.try_wait()?.map(|status| format!("it ended with {status}; "));
            Ok(Poll::Pending(format!("{}{}", ended.unwrap_or_default(), service.said())))
        })?;
        Ok(service)
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process, as the lab numbers it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        program::end(&mut self.child);
    }
}

fn listen(pipe: Option<impl Read + Send + 'static>, said: &Arc<Mutex<String>>) {
    let said = Arc::clone(said);
    thread::spawn(move || {
        for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()).map_while(Result::ok) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push_str(&line);
            said.push('\n');
        }
    });
}

/// The echo's arguments: who it is, and its ports.
fn echo(name: &str, ports: &[&str]) -> Result<(PathBuf, Vec<String>)> {
    let args = [name].iter().chain(ports).map(ToString::to_string).collect();
    Ok((binaries::own("echo")?, args))
}

impl Host {
    /// An echo that tells who it is and who asks, on `ports`: "tcp/80", "udp/5000-5009".
    ///
    /// # Errors
    /// It does not start: a port is in use.
    pub fn echo(&self, at: From<'_>, name: &str, ports: &[&str]) -> Result<Service> {
        let (program, args) = echo(name, ports)?;
        let program = match at {
            From::Host => self.program(program),
            From::Sandbox(sandbox) => self.sandbox_program(sandbox, &program.to_string_lossy()),
        };
        Service::start(program.args(args), "ready")
    }

    /// A name server on this host at these addresses, port 53, with `records` as dnsmasq(8) takes them
    /// ("--host-record=www.example.test,192.0.2.80"), and an answer for nothing else.
    ///
    /// # Errors
    /// It does not start.
    pub fn name_server(&self, addresses: &[&str], records: &[&str]) -> Result<Service> {
        Service::start(dnsmasq(self.program("dnsmasq"), addresses, records), "started")
    }
}

impl Outside {
    /// [`Host::echo`] on the host outside.
    ///
    /// # Errors
    /// It does not start.
    pub fn echo(&self, name: &str, ports: &[&str]) -> Result<Service> {
        let (program, args) = echo(name, ports)?;
        Service::start(self.program(&program.to_string_lossy()).env(MARK, self.mark()).args(args), "ready")
    }

    /// [`Host::name_server`] on the host outside, at its two addresses.
    ///
    /// # Errors
    /// It does not start.
    pub fn name_server(&self, records: &[&str]) -> Result<Service> {
        let program = self.program("dnsmasq").env(MARK, self.mark());
        Service::start(dnsmasq(program, &[OUTSIDE_V4, OUTSIDE_V6], records), "started")
    }
}

fn dnsmasq(program: Program, addresses: &[&str], records: &[&str]) -> Program {
    program.args(dnsmasq_args(addresses, records))
}

/// The arguments of a dnsmasq(8) that answers at these addresses from these records alone, in the foreground.
pub fn dnsmasq_args(addresses: &[&str], records: &[&str]) -> Vec<String> {
    // In the foreground it stays the user that it is: in a user namespace there is no other.
    let fixed = [
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--log-queries",
        "--pid-file=",
        "--local=/./",
        "--local-ttl=60",
    ];
    let listen = addresses.iter().map(|address| format!("--listen-address={address}"));
    fixed.map(String::from).into_iter().chain(listen).chain(records.iter().map(ToString::to_string)).collect()
}
