//! Processes in sandboxes. `launch` starts a fresh copy of ovctl, which (`enter`) joins the sandbox's namespaces and
//! becomes the command; `report` tells the first copy whether that worked; with `run -d --rm`, one
//! between the two (`cmd::attend`) waits for the end. Entering needs a process of one thread
//! and, this way, no unsafe code between fork and exec.

mod enter;
mod files;
mod launch;
mod privilege;
mod report;
mod signals;
mod user;

pub(crate) use enter::Enter;
pub(crate) use launch::{Attended, Launch, Options, Place, copy, wait};
pub(crate) use privilege::check as check_privilege;
pub(crate) use signals::Signals;
