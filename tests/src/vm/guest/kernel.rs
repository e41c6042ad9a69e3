//! Where the agent's classifiers are on the interface.

use anyhow::{Context as _, Result};
use aya::programs::TcAttachType;
use aya::programs::tc::SchedClassifier;

use super::netlink;
use crate::vm::protocol::INTERFACE;

/// What the names of the agent's classifiers begin with.
const PREFIX: &str = "xbeat_";

/// How the interface carries a classifier of the agent's: `tcx`, `clsact` or `none`.
pub(super) fn classifier(egress: bool) -> Result<&'static str> {
    let attach = if egress { TcAttachType::Egress } else { TcAttachType::Ingress };
    let ours = |name: &[u8]| name.starts_with(PREFIX.as_bytes());
    // Refused where the kernel does not know TCX.
    if let Ok((_, programs)) = SchedClassifier::query_tcx(INTERFACE, attach)
        && programs.iter().any(|program| ours(program.name()))
    {
        return Ok("tcx");
    }
    let index = nix::net::if_::if_nametoindex(INTERFACE).context("no interface")?;
    Ok(if netlink::has_filter(index, egress, PREFIX)? { "clsact" } else { "none" })
}
