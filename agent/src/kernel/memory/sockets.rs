//! Sockets in the namespaces of a kernel in memory. Nothing leads from them to anywhere.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use super::{MemoryKernel, named};
use crate::{
    kernel::{KernelError, Sockets},
    plan::state::Netns,
};

/// How often a port is tried that is free for UDP, and taken for TCP.
const ATTEMPTS: u32 = 8;

impl MemoryKernel {
    fn check_there(&self, operation: &'static str, netns: &Netns) -> Result<(), KernelError> {
        let inner = self.lock();
        let netns = match netns {
            Netns::Path(path) => inner.netns_at(path),
            Netns::Host | Netns::Named(_) => named(netns),
        };
        if inner.world.state.netns.contains_key(&netns) {
            return Ok(());
        }
        Err(failed(
            operation,
            &netns,
            io::Error::new(ErrorKind::NotFound, "there is no such network namespace"),
        ))
    }
}

impl Sockets for MemoryKernel {
    /// A namespace in memory has no addresses of its own: the sockets are on a free port of this process's loopback.
    fn resolver_in(&self, netns: &Netns, _wanted: u16) -> Result<(UdpSocket, TcpListener), KernelError> {
        const OPERATION: &str = "open the resolver's sockets in";
        self.check_there(OPERATION, netns)?;
        let open = || {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            let tcp = TcpListener::bind(udp.local_addr()?)?;
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok((udp, tcp))
        };
        let mut opened = open();
        for _again in 1..ATTEMPTS {
            if opened.as_ref().is_err_and(|error: &io::Error| error.kind() == ErrorKind::AddrInUse) {
                opened = open();
            }
        }
        opened.map_err(|error| failed(OPERATION, netns, error))
    }

    fn udp_in(&self, netns: &Netns, _local: IpAddr) -> Result<UdpSocket, KernelError> {
        const OPERATION: &str = "open a UDP socket in";
        self.check_there(OPERATION, netns)?;
        Err(failed(OPERATION, netns, ErrorKind::AddrNotAvailable.into()))
    }

    fn tcp_in(
        &self,
        netns: &Netns,
        _remote: SocketAddr,
        _timeout: Duration,
    ) -> Result<TcpStream, KernelError> {
        const OPERATION: &str = "connect by TCP from";
        self.check_there(OPERATION, netns)?;
        Err(failed(OPERATION, netns, ErrorKind::NetworkUnreachable.into()))
    }
}

fn failed(operation: &'static str, netns: &Netns, source: io::Error) -> KernelError {
    KernelError::Os { operation, target: netns.to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_has_sockets_where_there_is_a_namespace_and_nothing_leads_out() {
        let kernel = MemoryKernel::default();
        let netns = Netns::Named("box".parse().unwrap());
        assert!(kernel.resolver_in(&netns, 50_000).is_err());
        kernel.edit(|state| drop(state.netns.insert(netns.clone(), Default::default())));
        let (udp, tcp) = kernel.resolver_in(&netns, 50_000).unwrap();
        assert_eq!(udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        kernel.resolver_in(&Netns::Path("/run/netns/box".into()), 50_000).unwrap();
        assert!(kernel.udp_in(&netns, Ipv4Addr::UNSPECIFIED.into()).is_err());
        assert!(kernel.tcp_in(&netns, tcp.local_addr().unwrap(), Duration::from_secs(1)).is_err());
    }
}
