//! Root of a user namespace of one's own (user_namespaces(7)): enough for network namespaces, veth pairs and mounts, not for
//! XDP nor realtime scheduling.

use std::fs;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Makes this process root of a new user namespace. Only before it has threads.
///
/// # Errors
/// The system does not let users make user namespaces.
pub fn become_root_inside() -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context(
        "this system does not let users make user namespaces \
         (sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
    )?;
    fs::write("/proc/self/setgroups", "deny").context("cannot give up setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).context("cannot map the user")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).context("cannot map the group")
}
