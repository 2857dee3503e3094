//! The sandboxes that this agent is making: an unfinished one that is not among them is left over, from an agent that died
//! over it or from a refusal that could not be taken back at once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::model::SandboxId;

/// What is being made. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct Making(Arc<Mutex<BTreeSet<SandboxId>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(in crate::service) struct Made {
    of: Making,
    id: SandboxId,
}

impl Making {
    /// From now on this one is being made.
    pub(in crate::service) fn begin(&self, id: SandboxId) -> Made {
        self.change(|all| all.insert(id));
        Made { of: self.clone(), id }
    }

    /// Whether it is being made.
    pub(in crate::service) fn has(&self, id: SandboxId) -> bool {
        self.change(|all| all.contains(&id))
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeSet<SandboxId>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.of.change(|all| all.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_being_made_until_its_maker_is_done() {
        let (making, id) = (Making::default(), SandboxId::from_bytes([1; 32]));
        let made = making.begin(id);
        assert!(making.has(id) && !making.has(SandboxId::from_bytes([2; 32])));
        drop(made);
        assert!(!making.has(id));
    }
}
