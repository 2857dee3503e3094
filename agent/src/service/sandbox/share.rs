//! Sandboxes that share the namespace of another one (`container:NAME`): what they may have, and how long the other one
//! stays.

use std::sync::Arc;

use super::{
    super::{Service, ServiceError, now},
    SandboxSpec,
};
use crate::{
    kernel::Kernel,
    model::{DnsChoice, Invalid, Name, Sandbox, SandboxId},
    store::{Commit, Key},
};

impl<K: Kernel> Service<K> {
    /// The sandbox whose namespace is to be shared: the one that was named, or the one that shares with it already.
    ///
    /// # Errors
    /// Unknown, removed, or gone.
    pub(in crate::service) async fn owner(&self, text: &str) -> Result<Sandbox, ServiceError> {
        let owner = self.world.read(|intent| {
            let named = intent.find_sandbox(text)?;
            match &named.shares {
                Some(root) => intent.find_sandbox(root.as_str()).cloned(),
                None => Ok(named.clone()),
            }
        })?;
        if owner.left {
            return Err(ServiceError::InUse(format!(
                "sandbox {} was removed, and exists only for the sandboxes that share its network namespace: \
                 share a different one",
                owner.name
            )));
        }
        self.check_present(&owner).await?;
        Ok(owner)
    }

    /// The record of a sandbox that shares `owner`'s namespace.
    pub(in crate::service) async fn draft_sharer(
        &self,
        id: SandboxId,
        name: Name,
        owner: &Sandbox,
        spec: &SandboxSpec,
    ) -> Result<Sandbox, ServiceError> {
        refuse_own_settings(owner, spec)?;
        let gone = || {
            ServiceError::InUse(format!(
                "sandbox {} is gone: its network namespace cannot be shared",
                owner.name
            ))
        };
        let netns_inode = self.kernel.netns_inode(owner.netns.clone()).await?.ok_or_else(gone)?;
        Ok(Sandbox {
            id,
            name,
            netns: owner.netns.clone(),
            adopted: true,
            process: None,
            netns_inode,
            hostname: owner.hostname.clone(),
            unfinished: true,
            created: now(),
            domain: owner.domain.clone(),
            dns: DnsChoice::default(),
            hosts: Vec::new(),
            shares: Some(owner.name.clone()),
            left: false,
        })
    }

    /// Those that share a sandbox's namespace and are there.
    pub(in crate::service) async fn sharers(&self, owner: &Sandbox) -> Result<Vec<Name>, ServiceError> {
        let known: Vec<Sandbox> = self.world.read(|intent| {
            let all = intent.sandboxes().values();
            all.filter(|other| other.shares.as_ref() == Some(&owner.name)).cloned().collect()
        });
        let mut there = Vec::new();
        for sharer in known {
            if self.is_present(&sharer).await? {
                there.push(sharer.name);
            }
        }
        Ok(there)
    }

    /// Let a sandbox stay for those that share its namespace. False: there is none, so it can go.
    pub(in crate::service) async fn defer_removal(&self, sandbox: &Sandbox) -> Result<bool, ServiceError> {
        // One that is gone has nothing to share.
        if sandbox.shares.is_some()
            || !self.is_present(sandbox).await?
            || self.sharers(sandbox).await?.is_empty()
        {
            return Ok(false);
        }
        let key = Key::Sandbox(sandbox.name.clone());
        let left = Sandbox { left: true, unfinished: false, ..sandbox.clone() };
        let commit = Commit::new().present(key.clone()).put(key, crate::convert::Record::to_bytes(&left));
        let revision = self.local.commit(commit).await?;
        self.follow_change(crate::model::Scope::Local, revision).await;
        tracing::info!(sandbox = %sandbox.name, "removed; it exists until the sandboxes that share its \
                                                 network namespace are gone");
        Ok(true)
    }

    /// After the last one that shared it, a sandbox that was removed goes.
    pub(in crate::service) async fn release_owner(&self, sharer: &Sandbox) -> Result<(), ServiceError> {
        let Some(owner) = &sharer.shares else { return Ok(()) };
        let _turn = self.turns.take(owner).await?;
        let left =
            self.world.read(|intent| intent.sandboxes().get(owner).filter(|owner| owner.left).cloned());
        if let Some(owner) = left
            && self.sharers(&owner).await?.is_empty()
        {
            self.tear_down(&owner).await?;
            tracing::info!(
                sandbox = %owner.name,
                "sandbox removed: nobody shares its network namespace any more"
            );
        }
        Ok(())
    }

    /// Refuse to take away a namespace in which processes still run.
    pub(in crate::service) async fn refuse_running(&self, sandbox: &Sandbox) -> Result<(), ServiceError> {
        let ends = match &sandbox.shares {
            // The last one that shares a namespace of ours whose owner has left ends it.
            Some(owner) => {
                let owner = self.world.read(|intent| intent.sandboxes().get(owner).cloned());
                match owner.filter(|owner| owner.left && !owner.adopted) {
                    Some(owner) => self.sharers(&owner).await? == std::slice::from_ref(&sandbox.name),
                    None => false,
                }
            }
            None => !sandbox.adopted && self.sharers(sandbox).await?.is_empty(),
        };
        if !ends {
            return Ok(());
        }
        let (machine, netns) = (Arc::clone(&self.machine), sandbox.netns.clone());
        let running = tokio::task::spawn_blocking(move || machine.in_netns(&netns)).await;
        let running =
            running.map_err(|error| ServiceError::Internal(format!("the agent is stopping: {error}")))?;
        let Some(first) = running.first() else { return Ok(()) };
        let one = running.len() == 1;
        Err(ServiceError::InUse(format!(
            "{} process{} still run{} in sandbox {} (pid {first}{}): stop {} first, or use --force",
            running.len(),
            if one { "" } else { "es" },
            if one { "s" } else { "" },
            sandbox.name,
            if one { "" } else { ", …" },
            if one { "it" } else { "them" },
        )))
    }
}

/// What a sandbox without a namespace and files of its own cannot be given.
fn refuse_own_settings(owner: &Sandbox, spec: &SandboxSpec) -> Result<(), ServiceError> {
    let wrong = |what: &str, instead: String| {
        let reason = format!(
            "a sandbox that shares the network namespace of {} cannot have its own {what}: {instead}",
            owner.name
        );
        Err(Invalid::new("sandbox", format!("container:{}", owner.name), reason).into())
    };
    if let Some(attachment) = spec.attachments.first() {
        return wrong("networks", format!("connect {} to {} instead", owner.name, attachment.network));
    }
    if spec.adopt.is_some() {
        return wrong("namespace", "leave --pid and --netns out".into());
    }
    if spec.hostname.is_some() || !spec.domain.is_empty() {
        return wrong("hostname", format!("it has {}", owner.hostname));
    }
    if spec.dns != DnsChoice::default() {
        return wrong("resolver", format!("choose it where {} is made", owner.name));
    }
    if !spec.hosts.is_empty() {
        return wrong("hosts file", format!("choose its lines where {} is made", owner.name));
    }
    Ok(())
}
