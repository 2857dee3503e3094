//! `diff`: what the loop would do now, by unit.

use std::{fmt, time::Duration};

use tokio::sync::oneshot;

use super::super::{Service, ServiceError};
use crate::{
    kernel::Kernel,
    model::{Name, NetworkId, SandboxId, chain},
    plan::{netns_of, op::Op, ownership::Unit},
    reconcile,
};

/// How long a look at everything may take.
const DIFF_DEADLINE: Duration = Duration::from_secs(30);

/// What is left to do for a unit.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The unit.
    pub unit: UnitName,
    /// The steps, in order; none: the kernel is as wanted.
    pub steps: Vec<Op>,
}

/// A unit as people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitName {
    /// What all networks share on this host.
    Host,
    /// A network.
    Network(Name),
    /// A network without a record.
    RemovedNetwork(NetworkId),
    /// A sandbox.
    Sandbox(Name),
    /// A sandbox without a record.
    RemovedSandbox(SandboxId),
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Network(name) => write!(f, "network {name}"),
            Self::RemovedNetwork(id) => write!(f, "network {} (removed)", netns_of(*id)),
            Self::Sandbox(name) => write!(f, "sandbox {name}"),
            Self::RemovedSandbox(id) => write!(f, "sandbox {} (removed)", id.short()),
        }
    }
}

impl<K: Kernel> Service<K> {
    /// What is left to do on this host, unit by unit; of one network only, unless `network` is empty.
    ///
    /// # Errors
    /// An unknown or ambiguous network; the store has not been read yet; a unit cannot be looked at; the loop does not
    /// answer in time.
    pub async fn diff(&self, network: &str) -> Result<Vec<Difference>, ServiceError> {
        self.ready().await?;
        let only = match network {
            "" => None,
            text => {
                let id =
                    self.world.read(|intent| intent.find_network(text).map(|(network, _)| network.id))?;
                Some(Unit::Network(id))
            }
        };
        let (tell, told) = oneshot::channel();
        let stopped = || ServiceError::Busy("the agent is stopping".into());
        let busy = || ServiceError::Busy("reading the kernel took too long: try again".into());
        let asked = self.loop_requests.send(reconcile::Request::Diff(tell)).await;
        asked.map_err(|_closed| stopped())?;
        let told = tokio::time::timeout(DIFF_DEADLINE, told).await;
        let units = told.map_err(|_elapsed| busy())?.map_err(|_closed| stopped())?;
        let mut differences = Vec::new();
        for (unit, steps) in units.into_iter().filter(|(unit, _)| only.is_none_or(|only| only == *unit)) {
            let unit = self.unit_name(unit);
            match steps {
                Ok(steps) => differences.push(Difference { unit, steps }),
                Err(error) => {
                    let text = format!("cannot read the state of {unit}: {}", chain(&error));
                    return Err(ServiceError::failed(&error, text));
                }
            }
        }
        Ok(differences)
    }

    fn unit_name(&self, unit: Unit) -> UnitName {
        self.world.read(|intent| match unit {
            Unit::Host => UnitName::Host,
            Unit::Network(id) => match intent.network(id).and_then(|view| view.network()) {
                Some(network) => UnitName::Network(network.name.clone()),
                None => UnitName::RemovedNetwork(id),
            },
            Unit::Sandbox(id) => match intent.sandboxes().values().find(|sandbox| sandbox.id == id) {
                Some(sandbox) => UnitName::Sandbox(sandbox.name.clone()),
                None => UnitName::RemovedSandbox(id),
            },
        })
    }
}
