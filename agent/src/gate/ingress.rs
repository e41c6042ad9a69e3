//! Puts the program for what arrives on an interface: native XDP, else generic, else a classifier (TCX or clsact). What
//! an earlier agent left is replaced through its pinned link and without a gap. Every step down is explained with its
//! remedy, and nobody else's program is ever replaced.

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpError, XdpMode};
use nix::errno::Errno;
use nix::poll::poll;

use super::classifier::{self, Side};
use super::keeper::Keeper;
use super::pins::{Pins, Way};
use super::{AttachError, Device};
use crate::io::foreign::{self, Foreign};
use crate::settings::{ReceiveMode, XdpSetting};

/// The XDP program's name in the object.
pub const PROGRAM: &str = "xbeat";

/// How often, and how long apart, it is looked whether a killed predecessor's program has gone.
const PREDECESSOR_LOOKS: u32 = 10;
const PREDECESSOR_WAIT_MS: u8 = 30;

/// How an interface carries the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Native, generic or TCX.
    pub mode: ReceiveMode,
    /// Whether it outlives this process, as a gate must.
    pub outlives: bool,
}

/// The XDP program of an object.
///
/// # Errors
/// The object has none.
pub fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    ebpf.program_mut(PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// The same, loaded.
///
/// # Errors
/// The object has none, or the verifier refuses it.
pub fn load(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    let program = xdp(ebpf)?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

/// Tries what `wanted` allows, in order; what did not work goes to `remarks`. What another way of before left on the
/// interface goes once this one works, so that no packet is judged twice for long.
pub fn attach(
    ebpf: &mut Ebpf,
    device: &Device,
    wanted: XdpSetting,
    keeper: &mut Keeper,
    remarks: &mut Vec<String>,
) -> Option<Carried> {
    if let Some(carried) = by_xdp(ebpf, device, wanted, keeper.pins(), remarks) {
        if let Some(pins) = keeper.pins() {
            pins.unpin(Way::IngressTcx, device);
        }
        classifier::remove_filter(Side::Ingress, device);
        return Some(carried);
    }
    let carried = by_classifier(ebpf, device, wanted, keeper, remarks)?;
    if let Some(pins) = keeper.pins() {
        pins.unpin(Way::Ingress, device);
    }
    Some(carried)
}

fn by_xdp(
    ebpf: &mut Ebpf,
    device: &Device,
    wanted: XdpSetting,
    mut pins: Option<&mut Pins>,
    remarks: &mut Vec<String>,
) -> Option<Carried> {
    if modes(wanted).is_empty() {
        return None;
    }
    let program = match xdp(ebpf) {
        Ok(program) => program,
        Err(error) => {
            remarks.push(format!("{}: no XDP: {error}", device.name));
            return None;
        }
    };
    if let Some(pins) = pins.as_deref_mut()
        && let Some(mode) = replace(program, device, wanted, pins, remarks)
    {
        return Some(Carried { mode, outlives: true });
    }
    if !is_free(device, remarks) {
        return None;
    }
    for mode in modes(wanted) {
        match fresh(program, device, *mode, pins.as_deref_mut(), remarks) {
            Ok(outlives) => return Some(Carried { mode: shown(*mode), outlives }),
            Err(error) => remarks.push(explain(&device.name, *mode, &error)),
        }
    }
    None
}

fn by_classifier(
    ebpf: &mut Ebpf,
    device: &Device,
    wanted: XdpSetting,
    keeper: &mut Keeper,
    remarks: &mut Vec<String>,
) -> Option<Carried> {
    match wanted {
        XdpSetting::Auto | XdpSetting::Tcx => {}
        XdpSetting::Native | XdpSetting::Generic | XdpSetting::Off => return None,
    }
    let attached =
        classifier::load(ebpf, Side::Ingress).map_err(|error| AttachError::from(error).to_string());
    let attached = attached.and_then(|program| {
        classifier::attach(program, Side::Ingress, device, keeper.pins()).map_err(|error| error.to_string())
    });
    match attached {
        Ok(carried) => {
            keeper.note(Side::Ingress, device, carried);
            Some(Carried { mode: ReceiveMode::Tcx, outlives: keeper.pins().is_some() })
        }
        Err(error) => {
            remarks.push(format!("{}: no classifier: {error}: receiving through a socket", device.name));
            None
        }
    }
}

/// Through the link that an earlier agent left. One that does not do is taken away.
fn replace(
    program: &mut Xdp,
    device: &Device,
    wanted: XdpSetting,
    pins: &mut Pins,
    remarks: &mut Vec<String>,
) -> Option<ReceiveMode> {
    let link = match pins.link(Way::Ingress, device) {
        Ok(None) => return None,
        Ok(Some(link)) => Ok(link),
        Err(error) => Err(AttachError::from(error)),
    };
    let replaced = link.and_then(|link| {
        let id = program.attach_to_link(XdpLink::try_from(link)?)?;
        // It lives on by its pin alone: held here too, it would stay in the kernel when its interface and the pin go.
        drop(program.take_link(id)?);
        Ok(())
    });
    let name = &device.name;
    let found = foreign::program_on(device.index).ok().flatten().and_then(|found| found.mode);
    match (replaced, found) {
        (Ok(()), Some(mode)) if modes(wanted).iter().any(|wanted| shown(*wanted) == mode) => {
            pins.keep(Way::Ingress, device);
            return Some(mode);
        }
        // Another mode is wanted now, or the interface is another by now.
        (Ok(()), Some(_) | None) => {}
        (Err(error), _) => remarks.push(format!("{name}: the pinned link is of no use: {error}")),
    }
    pins.unpin(Way::Ingress, device);
    None
}

/// A new link, pinned where there are pins. Returns whether it outlives this process.
fn fresh(
    program: &mut Xdp,
    device: &Device,
    mode: XdpMode,
    pins: Option<&mut Pins>,
    remarks: &mut Vec<String>,
) -> Result<bool, ProgramError> {
    let id = program.attach_to_if_index(device.index, mode)?;
    let Some(pins) = pins else { return Ok(false) };
    let link = program.take_link(id)?;
    let pinned = FdLink::try_from(link)
        .map_err(AttachError::from)
        .and_then(|link| Ok(pins.pin(Way::Ingress, device, link)?));
    if let Err(error) = pinned {
        remarks.push(format!("{}: the program cannot be pinned: {error}", device.name));
        program.attach_to_if_index(device.index, mode)?;
        return Ok(false);
    }
    Ok(true)
}

fn is_free(device: &Device, remarks: &mut Vec<String>) -> bool {
    let name = &device.name;
    match settled_program(device.index) {
        Ok(None) => return true,
        Ok(Some(program)) => remarks.push(format!(
            "{name}: another XDP program is on it, {program}, and is left alone: the next mode is used \
             (remove it with `ip link set {name} xdp off` to have XDP)"
        )),
        Err(errno) => remarks.push(format!(
            "{name}: cannot see whether an XDP program is on it ({errno}): the next mode is used"
        )),
    }
    false
}

const fn shown(mode: XdpMode) -> ReceiveMode {
    match mode {
        XdpMode::Skb => ReceiveMode::Generic,
        XdpMode::Driver | XdpMode::Default | XdpMode::Hardware => ReceiveMode::Native,
    }
}

/// The program on the interface, once it is sure to stay: that of an agent which was just killed goes with its process,
/// a moment later.
fn settled_program(index: u32) -> Result<Option<Foreign>, Errno> {
    let mut found = foreign::program_on(index)?;
    for _ in 0..PREDECESSOR_LOOKS {
        if found.as_ref().and_then(|program| program.name.as_deref()) != Some(PROGRAM) {
            break;
        }
        // Nothing to wait for but time: it is a sleep, before any thread runs.
        let _ = poll(&mut [], PREDECESSOR_WAIT_MS);
        found = foreign::program_on(index)?;
    }
    Ok(found)
}

/// What to try, in order.
const fn modes(wanted: XdpSetting) -> &'static [XdpMode] {
    match wanted {
        XdpSetting::Auto => &[XdpMode::Driver, XdpMode::Skb],
        XdpSetting::Native => &[XdpMode::Driver],
        XdpSetting::Generic => &[XdpMode::Skb],
        XdpSetting::Tcx | XdpSetting::Off => &[],
    }
}

fn errno_of_attach(error: &ProgramError) -> Option<Errno> {
    let raw = if let ProgramError::SyscallError(error) = error {
        error.io_error.raw_os_error()
    } else if let ProgramError::XdpError(XdpError::NetlinkError(error)) = error {
        error.raw_os_error()
    } else {
        None
    };
    raw.map(Errno::from_raw)
}

/// One line for the operator: what was tried, why it failed, what to do.
fn explain(interface: &str, mode: XdpMode, error: &ProgramError) -> String {
    let mode = match mode {
        XdpMode::Skb => "generic",
        XdpMode::Driver | XdpMode::Default | XdpMode::Hardware => "native",
    };
    match errno_of_attach(error) {
        Some(errno) => format!("{interface}: {mode} XDP: {errno}: {}", remedy(errno)),
        None => format!("{interface}: {mode} XDP: {error}"),
    }
}

fn remedy(errno: Errno) -> &'static str {
    const KNOWN: [(&[Errno], &str); 6] = [
        (&[Errno::EBUSY, Errno::EEXIST], "another XDP program is on the interface; it is left alone"),
        (&[Errno::EOPNOTSUPP], "the driver has no such XDP; the next mode is used"),
        (
            &[Errno::EINVAL, Errno::ERANGE],
            "the driver refuses it as the interface is set up; often the MTU is above a page (jumbo frames), or LRO is on",
        ),
        (
            &[Errno::ENOMEM, Errno::ENOSPC],
            "the driver lacks queues for XDP; lower `ethtool -L` combined channels",
        ),
        (
            &[Errno::EPERM, Errno::EACCES],
            "not permitted; run it as root, or give it CAP_BPF and CAP_NET_ADMIN",
        ),
        (&[Errno::ENODEV], "the interface is gone"),
    ];
    KNOWN.iter().find(|(errnos, _)| errnos.contains(&errno)).map_or("see `dmesg`", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use aya::programs::{ProgramError, XdpMode};
    use nix::errno::Errno;

    use super::explain;

    fn refused(errno: Errno) -> ProgramError {
        ProgramError::SyscallError(aya::sys::SyscallError {
            call: "bpf_link_create",
            io_error: std::io::Error::from_raw_os_error(errno as i32),
        })
    }

    #[test]
    fn a_refusal_names_interface_mode_and_remedy() {
        let busy = explain("eth0", XdpMode::Driver, &refused(Errno::EBUSY));
        assert!(busy.starts_with("eth0: native XDP: EBUSY") && busy.contains("left alone"), "{busy}");
        let jumbo = explain("eth0", XdpMode::Skb, &refused(Errno::EINVAL));
        assert!(jumbo.contains("generic") && jumbo.contains("MTU"), "{jumbo}");
    }
}
