//! Membership over UDP: the foca pump, the wire, and the confirmations that an endpoint is programmed.
