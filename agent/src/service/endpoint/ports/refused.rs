//! Why a port cannot be allocated. The holder is looked up last, and not while other attaches wait: finding
//! the name of a process means reading the open files of all processes.

use std::{ops::RangeInclusive, sync::Arc};

use crate::{
    kernel::{self, Machine},
    model::{Invalid, Name, PublishedPort},
    service::ServiceError,
};

/// The holder of a port.
#[derive(Clone, Debug)]
pub(super) enum Holder {
    /// A holder known by this description.
    Known(Arc<str>),
    /// The process that has these sockets.
    Sockets(kernel::Holder),
}

/// What cannot be allocated.
#[derive(Debug)]
pub(super) enum What {
    /// The requested port.
    One,
    /// Every port of this range; the taken port is its first.
    Range(RangeInclusive<u16>),
    /// The port that an endpoint of this name has published on every host of this network.
    Mesh(Name, Name),
}

/// A port that is taken.
#[derive(Debug)]
pub(in crate::service) struct Taken {
    pub(super) port: PublishedPort,
    pub(super) by: Holder,
    pub(super) what: What,
}

/// Why an endpoint cannot be made as requested.
#[derive(Debug)]
pub(in crate::service) enum Refused {
    /// Because of a port.
    Port(Taken),
    /// For any other reason.
    Otherwise(ServiceError),
}

impl<E: Into<ServiceError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Otherwise(error.into())
    }
}

impl Refused {
    /// It may work later, when other endpoints release what is exhausted.
    pub(in crate::service) const fn is_exhaustion(&self) -> bool {
        matches!(
            self,
            Self::Port(Taken { what: What::Range(_), .. }) | Self::Otherwise(ServiceError::Exhausted(_))
        )
    }

    /// It will never work.
    pub(in crate::service) const fn is_invalid(&self) -> bool {
        matches!(self, Self::Otherwise(ServiceError::Invalid(_)))
    }

    /// In words, with the name of the port's holder.
    pub(in crate::service) async fn into_error(self, machine: &Arc<dyn Machine>) -> ServiceError {
        match self {
            Self::Otherwise(error) => error,
            Self::Port(taken) => {
                let machine = Arc::clone(machine);
                let told = tokio::task::spawn_blocking(move || taken.tell(&*machine)).await;
                told.unwrap_or_else(|error| ServiceError::Internal(format!("the agent is stopping: {error}")))
            }
        }
    }
}

impl Taken {
    fn tell(&self, machine: &dyn Machine) -> ServiceError {
        let holder = match &self.by {
            Holder::Known(name) => name.to_string(),
            Holder::Sockets(sockets) => machine.name(sockets),
        };
        let PublishedPort { protocol, host, host_port, .. } = self.port;
        let address = host.map(|host| format!(" of {host}")).unwrap_or_default();
        match &self.what {
            What::One => ServiceError::Exists(format!(
                "port {host_port}/{protocol}{address} of this host is taken by {holder}: choose a different \
                 port, or leave the host's port out to get a free one"
            )),
            What::Range(range) => ServiceError::Exhausted(format!(
                "every {protocol} port{address} of this host from {} to {} is taken, the first by {holder}: \
                 choose a different range",
                range.start(),
                range.end()
            )),
            What::Mesh(network, endpoint) => ServiceError::Exists(format!(
                "network {network} publishes port {host_port}/{protocol} of endpoint {endpoint} on all its \
                 hosts, but on this host {holder} uses the port: free it first"
            )),
        }
    }
}

/// A range whose first port is higher than its last.
pub(super) fn inverted(range: &RangeInclusive<u16>) -> Invalid {
    let text = format!("{}-{}", range.start(), range.end());
    Invalid::new("host port", text, "expected the lower one first, as in 8000-8010")
}
