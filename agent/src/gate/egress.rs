//! Puts the classifier on what leaves an interface: a TCX link, pinned, where the kernel has it (6.6); else a filter of
//! the clsact queueing discipline, which outlives the agent by itself and is found again by its handle.

use aya::programs::links::FdLink;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};

use super::pins::{Pins, Way};
use super::{AttachError, Device};

/// The program's name in the object.
pub const PROGRAM: &str = "xbeat_egress";
/// Where the filter stands: before all others, so that none lets a packet go before it is judged.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x694);

/// How an interface carries the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// By a pinned TCX link.
    Tcx,
    /// By a filter of clsact.
    Clsact,
}

/// Why an interface carries no classifier that outlives this process.
#[derive(Debug, thiserror::Error)]
#[error("{device}: no TCX ({tcx}), and no clsact ({clsact})")]
pub struct EgressError {
    device: String,
    tcx: AttachError,
    clsact: AttachError,
}

/// Attaches the loaded classifier so that it outlives this process.
///
/// # Errors
/// Neither way works.
pub fn attach(
    program: &mut SchedClassifier,
    device: &Device,
    pins: &mut Pins,
) -> Result<Carried, EgressError> {
    let tcx = match tcx(program, device, pins) {
        Ok(()) => return Ok(Carried::Tcx),
        Err(error) => error,
    };
    match clsact(program, device) {
        Ok(()) => Ok(Carried::Clsact),
        Err(clsact) => Err(EgressError { device: device.name.clone(), tcx, clsact }),
    }
}

/// Takes the filter of [`Carried::Clsact`] away.
pub fn remove_filter(device: &Device) {
    // Dropping it detaches it; what is not there needs no removal.
    drop(SchedClassifierLink::attached(&device.name, TcAttachType::Egress, PRIORITY, HANDLE, None));
}

fn tcx(program: &mut SchedClassifier, device: &Device, pins: &mut Pins) -> Result<(), AttachError> {
    if let Ok(Some(link)) = pins.link(Way::Egress, device) {
        if replace(program, link).is_ok() {
            pins.keep(Way::Egress, device);
            return Ok(());
        }
        // The interface is another by now.
        pins.unpin(Way::Egress, device);
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(&device.name, TcAttachType::Egress, options)?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    Ok(pins.pin(Way::Egress, device, link)?)
}

fn replace(program: &mut SchedClassifier, link: FdLink) -> Result<(), AttachError> {
    // The link lives on in the program, and by its pin.
    program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    Ok(())
}

fn clsact(program: &mut SchedClassifier, device: &Device) -> Result<(), AttachError> {
    // That it is there already is as good, and if it is not, the filter tells.
    let _ = qdisc_add_clsact(&device.name);
    let filter = || SchedClassifierLink::attached(&device.name, TcAttachType::Egress, PRIORITY, HANDLE, None);
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let id = program
        .attach_with_options(&device.name, TcAttachType::Egress, TcAttachOptions::Netlink(options))
        .or_else(|_| program.attach_to_link(filter().map_err(TcError::IoError)?))?;
    // Never dropped: the filter outlives this process, until `remove_filter`.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}
