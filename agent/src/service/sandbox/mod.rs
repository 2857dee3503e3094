//! Sandboxes: `sandbox create`, `rm`, for namespaces that we make, or adopt by pid or path.
//!
//! `share` has those in another one's namespace, `files` what processes read in them, `janitor` what became of them meanwhile.

mod files;
mod in_progress;
mod janitor;
mod share;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

pub use files::remove_sandbox_files;
pub(super) use in_progress::Making;

use super::{
    AttachSpec, Attached, LOCAL_DEADLINE, Service, ServiceError,
    locks::{Turn, to_the_end},
    now,
};
use crate::{
    convert::Record,
    kernel::Kernel,
    model::{DnsChoice, Endpoint, ExtraHost, Invalid, Name, Sandbox, SandboxId, Scope, chain},
    plan::{
        ownership::{Mark, Unit},
        state::{Look, LookAt, Netns},
    },
    reconcile::world::Revisions,
    store::{Commit, CommitError, Key},
};

/// A namespace that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// Of this process.
    Pid(u32),
    /// At this path.
    Path(PathBuf),
}

/// A sandbox as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct SandboxSpec {
    /// Its name; None: one is made up.
    pub name: Option<Name>,
    /// Where its namespace comes from; None: it is made.
    pub adopt: Option<Adopt>,
    /// Networks to connect it to, all or none.
    pub attachments: Vec<AttachSpec>,
    /// The hostname of processes in it; None: its name.
    pub hostname: Option<Name>,
    /// The domain of its hostname; may be empty.
    pub domain: String,
    /// What is chosen of its resolver.
    pub dns: DnsChoice,
    /// Further lines of its hosts file.
    pub hosts: Vec<ExtraHost>,
    /// The sandbox whose namespace it is to share; empty: it has one of its own.
    pub share: String,
}

/// A sandbox that is ready.
#[derive(Clone, Debug)]
pub struct CreatedSandbox {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Its endpoints, in the order of the attachments.
    pub endpoints: Vec<Endpoint>,
    /// Names of live nodes that did not confirm in time.
    pub unconfirmed: Vec<String>,
}

impl<K: Kernel> Service<K> {
    /// Make a sandbox and connect it.
    ///
    /// # Errors
    /// Bad input, a taken name, no such process or namespace, whatever [`Service::connect`] refuses. Nothing half-done
    /// stays behind.
    pub async fn create_sandbox(self: &Arc<Self>, spec: SandboxSpec) -> Result<CreatedSandbox, ServiceError> {
        let service = Arc::clone(self);
        to_the_end(async move { service.make_sandbox(&spec).await }).await
    }

    async fn make_sandbox(self: &Arc<Self>, spec: &SandboxSpec) -> Result<CreatedSandbox, ServiceError> {
        self.ready_to_change().await?;
        let id = SandboxId::from_bytes(rand::random());
        let name = match &spec.name {
            None => Name::parse("sandbox name", &format!("sb-{}", id.prefix(8)))?,
            Some(name) => name.clone(),
        };
        let _turn = self.turns.take(&name).await?;
        self.refuse_known(&name)?;
        let (sandbox, owners_turn) = match spec.share.as_str() {
            "" => (self.draft_sandbox(id, name, spec).await?, None),
            text => {
                let (sandbox, turn) = self.shared_sandbox(id, name, text, spec).await?;
                (sandbox, Some(turn))
            }
        };
        let _made = self.making.begin(sandbox.id);
        let commit = Commit::new()
            .absent(Key::Sandbox(sandbox.name.clone()))
            .put(Key::Sandbox(sandbox.name.clone()), sandbox.to_bytes());
        let revision = match self.local.commit(commit).await {
            Ok(revision) => revision,
            Err(CommitError::Refused(_)) => return Err(exists(&sandbox.name)),
            Err(CommitError::Store(error)) => return Err(error.into()),
        };
        if owners_turn.is_some() {
            // Whoever removes the owner goes by what is known.
            self.follow_change(Scope::Local, revision).await;
        }
        drop(owners_turn);
        let finished = match self.provision(&sandbox, spec, revision).await {
            Ok(created) => self.finish(created).await,
            Err(error) => Err(error),
        };
        match finished {
            Ok(created) => {
                tracing::info!(sandbox = %sandbox.name, adopted = sandbox.adopted, "sandbox created");
                Ok(created)
            }
            Err(error) => {
                if let Err(undo) = self.remove_or_defer(&sandbox).await {
                    tracing::warn!(
                        sandbox = %sandbox.name, error = %undo,
                        "cannot roll back a sandbox: retrying"
                    );
                }
                Err(error)
            }
        }
    }

    /// From here on it stays, whatever dies.
    async fn finish(&self, mut created: CreatedSandbox) -> Result<CreatedSandbox, ServiceError> {
        created.sandbox.unfinished = false;
        let key = Key::Sandbox(created.sandbox.name.clone());
        self.local.commit(Commit::new().present(key.clone()).put(key, created.sandbox.to_bytes())).await?;
        Ok(created)
    }

    fn refuse_known(&self, name: &Name) -> Result<(), ServiceError> {
        self.world.read(|intent| match intent.sandboxes().get(name) {
            Some(other) if other.left => Err(ServiceError::Exists(format!(
                "a sandbox named {name} was removed, but exists until the sandboxes that share its network \
                 namespace are removed too: choose a different name"
            ))),
            Some(_) => Err(exists(name)),
            None => Ok(()),
        })
    }

    /// The record of a sandbox that shares another one's namespace. Nobody removes that one until the turn is over.
    async fn shared_sandbox(
        &self,
        id: SandboxId,
        name: Name,
        share: &str,
        spec: &SandboxSpec,
    ) -> Result<(Sandbox, Turn), ServiceError> {
        let owner = self.owner(share).await?.name;
        let turn = self.turns.take(&owner).await?;
        let owner = self.owner(owner.as_str()).await?;
        Ok((self.draft_sharer(id, name, &owner, spec).await?, turn))
    }

    async fn draft_sandbox(
        &self,
        id: SandboxId,
        name: Name,
        spec: &SandboxSpec,
    ) -> Result<Sandbox, ServiceError> {
        let hostname = spec.hostname.as_ref().unwrap_or(&name).to_string();
        // Wrong attachments are found before anything is made.
        for attachment in &spec.attachments {
            self.named(&attachment.network)?;
        }
        let (netns, process, netns_inode) = match &spec.adopt {
            None => {
                self.refuse_foreign_netns(&name).await?;
                (self.settings.netns_dir.join(name.as_str()), None, 0)
            }
            Some(adopt) => self.adopted_netns(adopt).await?,
        };
        let adopted = spec.adopt.is_some();
        Ok(Sandbox {
            id,
            name,
            netns,
            adopted,
            process,
            netns_inode,
            hostname,
            unfinished: true,
            created: now(),
            domain: spec.domain.clone(),
            dns: spec.dns.clone(),
            hosts: spec.hosts.clone(),
            shares: None,
            left: false,
        })
    }

    async fn refuse_foreign_netns(&self, name: &Name) -> Result<(), ServiceError> {
        let path = self.settings.netns_dir.join(name.as_str());
        if self.kernel.netns_inode(path.clone()).await?.is_none() {
            return Ok(());
        }
        Err(match self.mark_of(name).await? {
            Some(Some(_)) => ServiceError::Busy(format!(
                "the network namespace of a former sandbox {name} is still being removed: try again"
            )),
            Some(None) => ServiceError::Exists(format!(
                "a network namespace named {name} exists already, and is not ours: choose a different name, \
                 or adopt it with --netns {}",
                path.display()
            )),
            // It went meanwhile.
            None => return Ok(()),
        })
    }

    /// The namespace to be adopted: its path, the process if it is by pid, its inode.
    async fn adopted_netns(&self, adopt: &Adopt) -> Result<(PathBuf, Option<(u32, u64)>, u64), ServiceError> {
        let (path, process, input) = match adopt {
            Adopt::Pid(pid) => {
                let wrong = |reason: &str| Invalid::new("pid", pid.to_string(), reason);
                let start = self
                    .machine
                    .start_time(*pid)
                    .map_err(|error| wrong(&format!("its start time cannot be read: {error}")))?
                    .ok_or_else(|| wrong("there is no such process"))?;
                (self.machine.netns_of(*pid), Some((*pid, start)), pid.to_string())
            }
            Adopt::Path(path) => (path.clone(), None, path.display().to_string()),
        };
        let what = if process.is_some() { "pid" } else { "network namespace" };
        let inode = self.kernel.netns_inode(path.clone()).await?;
        let inode = inode.ok_or_else(|| Invalid::new(what, &input, "it is not a network namespace"))?;
        if self.kernel.netns_inode(self.machine.own_netns()).await? == Some(inode) {
            let reason = "it is the host's own network namespace: start the process in its own one (unshare \
                          --net)";
            return Err(Invalid::new(what, input, reason).into());
        }
        let holder = self.world.read(|intent| {
            let mut all = intent.sandboxes().values();
            all.find(|other| other.adopted && other.shares.is_none() && other.netns_inode == inode)
                .map(|other| other.name.clone())
        });
        let holder = match holder {
            Some(holder) => Some(format!("sandbox {holder}")),
            None => self.maker_of(inode).await?,
        };
        if let Some(holder) = holder {
            let which = if process.is_some() { "the network namespace of pid" } else { what };
            return Err(ServiceError::Exists(format!("{which} {input} is already {holder}")));
        }
        Ok((path, process, inode))
    }

    /// The mark of the named namespace, `Some(None)` if it has none; `None` if there is no such namespace.
    async fn mark_of(&self, name: &Name) -> Result<Option<Option<Mark>>, ServiceError> {
        let netns = Netns::Named(name.clone());
        let at = LookAt { links: Some(BTreeSet::new()), ..LookAt::default() };
        let mut seen = self.kernel.observe(Look { netns: [(netns.clone(), at)].into() }).await?;
        Ok(seen.netns.remove(&netns).map(|there| there.mark))
    }

    /// What the agent made the namespace with this inode for: a sandbox, or a network. `None` if it did not make it.
    async fn maker_of(&self, inode: u64) -> Result<Option<String>, ServiceError> {
        let names = self.kernel.netns_names().await?;
        let Some((name, _)) = names.into_iter().find(|(_, of)| *of == inode) else { return Ok(None) };
        Ok(self.mark_of(&name).await?.flatten().map(|mark| match mark.unit {
            Unit::Sandbox(_) => format!("sandbox {name}"),
            Unit::Network(_) | Unit::Host => "a namespace that the agent made for a network".to_owned(),
        }))
    }

    /// Wait for the namespace, write the files, connect.
    async fn provision(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        spec: &SandboxSpec,
        revision: i64,
    ) -> Result<CreatedSandbox, ServiceError> {
        let at = Revisions { global: 0, local: revision };
        let programmed =
            tokio::time::timeout(LOCAL_DEADLINE, self.world.programmed(Unit::Sandbox(sandbox.id), at));
        let outcome = programmed
            .await
            .map_err(|_elapsed| ServiceError::Kernel("this host's kernel did not answer in time".into()))?;
        if let Some((step, error)) = outcome.failures.first() {
            let step = step.as_ref().map_or_else(|| "look at it".into(), ToString::to_string);
            let text = format!("cannot make sandbox {}: {step}: {}", sandbox.name, chain(error));
            return Err(ServiceError::failed(error, text));
        }
        if sandbox.shares.is_none() {
            self.write_files(&sandbox.name).await;
        }
        let mut created =
            CreatedSandbox { sandbox: sandbox.clone(), endpoints: Vec::new(), unconfirmed: Vec::new() };
        for attachment in &spec.attachments {
            let Attached { endpoint, unconfirmed } = self.attach(&sandbox.name, attachment).await?;
            created.endpoints.push(endpoint);
            for node in unconfirmed {
                if !created.unconfirmed.contains(&node) {
                    created.unconfirmed.push(node);
                }
            }
        }
        Ok(created)
    }

    /// Remove a sandbox: disconnect it, and remove its namespace if we made it.
    ///
    /// # Errors
    /// Unknown; processes still run in it (unless forced); it was removed already and others share its namespace; the store
    /// away.
    pub async fn remove_sandbox(self: &Arc<Self>, text: &str, force: bool) -> Result<Name, ServiceError> {
        let (service, text) = (Arc::clone(self), text.to_owned());
        to_the_end(async move { service.unmake_sandbox(&text, force).await }).await
    }

    async fn unmake_sandbox(&self, text: &str, force: bool) -> Result<Name, ServiceError> {
        self.ready_to_change().await?;
        let name = self.world.read(|intent| intent.find_sandbox(text).map(|it| it.name.clone()))?;
        let _turn = self.turns.take(&name).await?;
        let sandbox = self.world.read(|intent| intent.find_sandbox(name.as_str()).cloned())?;
        if sandbox.left {
            let sharers = self.sharers(&sandbox).await?;
            if !sharers.is_empty() {
                let names: Vec<&str> = sharers.iter().map(Name::as_str).collect();
                return Err(ServiceError::InUse(format!(
                    "sandbox {name} was removed already, and exists for the sandboxes that share its network \
                     namespace: remove {} too",
                    names.join(", ")
                )));
            }
        }
        if !force {
            self.refuse_running(&sandbox).await?;
        }
        if self.remove_or_defer(&sandbox).await? {
            tracing::info!(sandbox = %sandbox.name, "sandbox removed");
        }
        Ok(sandbox.name)
    }

    /// Remove a sandbox with all that it has, for whoever has its turn. False: it stays for those that share its namespace.
    pub(super) async fn remove_or_defer(&self, sandbox: &Sandbox) -> Result<bool, ServiceError> {
        if self.defer_removal(sandbox).await? {
            return Ok(false);
        }
        self.tear_down(sandbox).await?;
        self.release_owner(sandbox).await?;
        Ok(true)
    }

    pub(super) async fn tear_down(&self, sandbox: &Sandbox) -> Result<(), ServiceError> {
        for endpoint in self.endpoints_of(&sandbox.name) {
            self.remove_endpoint(&endpoint).await?;
        }
        // Its sockets would keep its namespace alive.
        self.dns.close(sandbox.id).await;
        if sandbox.adopted {
            // Without its record nobody would find our rules in its namespace, were the agent killed in between.
            let gone = self.world.resolver_programmed(sandbox.id, None);
            if tokio::time::timeout(LOCAL_DEADLINE, gone).await.is_err() {
                tracing::warn!(sandbox = %sandbox.name, "the rules for its resolver are not removed yet");
            }
        }
        let commit = Commit::new().delete(Key::Sandbox(sandbox.name.clone()));
        let revision = self.local.commit(commit).await?;
        let at = Revisions { global: 0, local: revision };
        let gone = self.world.programmed(Unit::Sandbox(sandbox.id), at);
        if tokio::time::timeout(LOCAL_DEADLINE, gone).await.is_err() {
            tracing::warn!(sandbox = %sandbox.name, "removed from the store, but not yet from this host");
        }
        if sandbox.shares.is_none() {
            self.remove_files(&sandbox.name).await;
        }
        Ok(())
    }
}

fn exists(name: &Name) -> ServiceError {
    ServiceError::Exists(format!(
        "a sandbox named {name} exists already on this node: choose a different name"
    ))
}
