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
    tcx: Box<AttachError>,
    clsact: Box<AttachError>,
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
        Err(clsact) => {
            Err(EgressError { device: device.name.clone(), tcx: tcx.into(), clsact: clsact.into() })
        }
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

#[cfg(test)]
mod tests {
    use aya::EbpfLoader;
    use aya::programs::SchedClassifier;
    use nix::sched::{CloneFlags, unshare};

    use super::{Device, PROGRAM, clsact, remove_filter};
    use crate::io::xdp::OBJECT;

    fn filters() -> String {
        let output =
            std::process::Command::new("tc").args(["filter", "show", "dev", "lo", "egress"]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// As kernels before 6.6 have it. In a network namespace of its own.
    #[test]
    fn a_filter_stays_is_replaced_and_is_taken_away() {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() || OBJECT.is_empty() {
            println!("SKIP: not permitted, or built without the eBPF object");
            return;
        }
        let device = Device { name: "lo".to_owned(), index: 1 };
        for round in 0..2 {
            let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads");
            let program: &mut SchedClassifier =
                ebpf.program_mut(PROGRAM).expect("it is there").try_into().expect("a classifier");
            program.load().expect("the kernel takes it");
            clsact(program, &device).unwrap_or_else(|error| panic!("round {round}: {error}"));
            drop(ebpf);
            let filters = filters();
            assert_eq!(filters.matches("handle 0x694").count(), 1, "round {round}: {filters}");
            assert!(filters.contains("pref 1 ") && filters.contains(PROGRAM), "{filters}");
        }
        remove_filter(&device);
        assert!(!filters().contains("handle 0x694"), "{}", filters());
        remove_filter(&device);
    }
}
