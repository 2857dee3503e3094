//! Properties of the host's part, and its rules followed by packets.

mod firewall;
mod packet;
mod whole;
