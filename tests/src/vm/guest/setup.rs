//! From a bare kernel to a machine: file systems, modules, the network's address.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};

use super::netlink::ask;
use crate::vm::initramfs::MODULE_LIST;
use crate::vm::protocol::INTERFACE;

/// On the kernel's command line: this machine's address with its prefix length.
pub const ADDRESS: &str = "xbeat.address=";
/// On the kernel's command line: this machine's name.
pub const NAME: &str = "xbeat.name=";

pub(super) fn run() -> Result<()> {
    // bpffs is left to the agent, which mounts it where there is none.
    for (kind, place) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")]
    {
        match mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>) {
            // The kernel may have mounted devtmpfs itself.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => bail!("cannot mount {kind} on {place}: {errno}"),
        }
    }
    let list = fs::read_to_string(Path::new("/").join(MODULE_LIST)).context("no list of modules")?;
    for module in list.lines() {
        let file = File::open(Path::new("/lib/modules").join(module))?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("cannot load {module}"))?;
    }
    let line = fs::read_to_string("/proc/cmdline")?;
    let word = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
    nix::unistd::sethostname(word(NAME).unwrap_or("guest"))?;
    up("lo")?;
    let (address, prefix) =
        word(ADDRESS).and_then(|word| word.split_once('/')).context("the command line has no address")?;
    let address = RouteNetlinkMessage::NewAddress(addressed(INTERFACE, address.parse()?, prefix.parse()?)?);
    ask(address, NLM_F_CREATE).context("cannot add the address")?;
    up(INTERFACE)
}

fn up(interface: &str) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(interface)?;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    ask(RouteNetlinkMessage::SetLink(message), 0).with_context(|| format!("cannot set {interface} up"))
}

fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface {interface}"))
}

fn addressed(interface: &str, address: Ipv4Addr, prefix: u8) -> Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index(interface)?;
    message.attributes =
        vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    Ok(message)
}
