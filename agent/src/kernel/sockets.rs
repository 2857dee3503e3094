//! Sockets that are opened in a namespace, and used from anywhere.
//!
//! A socket keeps its namespace (and its VNI) alive: the caller closes it before the namespace is removed.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use super::KernelError;
use crate::plan::state::Netns;

/// Where sockets are opened: in the namespaces of the real kernel, or of an in-memory one. Its functions block.
pub trait Sockets: fmt::Debug + Send + Sync + 'static {
    /// The two sockets of a sandbox's resolver: bound to 127.0.0.11 in this namespace, both on the same port, non-blocking: on
    /// `desired` if that is free, else on another one. They can be had before the namespace's `lo` is up.
    ///
    /// # Errors
    /// There is no such namespace; no port is free for both.
    fn resolver_in(&self, netns: &Netns, desired: u16) -> Result<(UdpSocket, TcpListener), KernelError>;

    /// A UDP socket in this namespace, bound to the address `local`, which may be the unspecified one (0.0.0.0 or ::), and a free
    /// port, non-blocking.
    ///
    /// # Errors
    /// There is no such namespace; the address cannot be bound to.
    fn udp_in(&self, netns: &Netns, local: IpAddr) -> Result<UdpSocket, KernelError>;

    /// A connection from this namespace, non-blocking once it is made. Blocks the caller for `timeout` (not zero) at most.
    ///
    /// # Errors
    /// There is no such namespace; the other side refuses, is not reached, or does not answer in time.
    fn tcp_in(&self, netns: &Netns, remote: SocketAddr, timeout: Duration) -> Result<TcpStream, KernelError>;
}
