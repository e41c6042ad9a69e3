//! Puts a classifier on one direction of an interface: a TCX link, pinned, where the kernel has it (6.6); else a filter
//! of the clsact queueing discipline, which outlives the agent by itself and is found again by its handle.

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};

use super::pins::{Pins, Way};
use super::{AttachError, Device};

/// Where the filter stands: before all others, so that none lets a packet go before it is judged.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x694);

/// Which way packets go that a classifier judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What arrives.
    Ingress,
    /// What leaves.
    Egress,
}

impl Side {
    /// The name of its program in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Ingress => "xbeat_ingress",
            Self::Egress => "xbeat_egress",
        }
    }

    const fn kind(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }

    const fn way(self) -> Way {
        match self {
            Self::Ingress => Way::IngressTcx,
            Self::Egress => Way::Egress,
        }
    }
}

/// How an interface carries a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// By a TCX link, pinned where there are pins.
    Tcx,
    /// By a filter of clsact.
    Clsact,
}

/// Why an interface carries no classifier.
#[derive(Debug, thiserror::Error)]
#[error("{device}: no TCX ({tcx}), and no clsact ({clsact})")]
pub struct ClassifierError {
    device: String,
    tcx: Box<AttachError>,
    clsact: Box<AttachError>,
}

/// The classifier of an object, loaded.
///
/// # Errors
/// The object has none, or the verifier refuses it.
pub fn load(ebpf: &mut Ebpf, side: Side) -> Result<&mut SchedClassifier, ProgramError> {
    let program = ebpf.program_mut(side.program()).ok_or(ProgramError::NotLoaded)?;
    let program: &mut SchedClassifier = program.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

/// Attaches the loaded classifier before all others of its side; with `pins` so that it outlives this process.
///
/// # Errors
/// Neither way works.
pub fn attach(
    program: &mut SchedClassifier,
    side: Side,
    device: &Device,
    pins: Option<&mut Pins>,
) -> Result<Carried, ClassifierError> {
    let tcx = match tcx(program, side, device, pins) {
        Ok(()) => return Ok(Carried::Tcx),
        Err(error) => error,
    };
    match clsact(program, side, device) {
        Ok(()) => Ok(Carried::Clsact),
        Err(clsact) => {
            Err(ClassifierError { device: device.name.clone(), tcx: tcx.into(), clsact: clsact.into() })
        }
    }
}

/// Takes the filter of [`Carried::Clsact`] away.
pub fn remove_filter(side: Side, device: &Device) {
    // Dropping it detaches it; what is not there needs no removal.
    drop(SchedClassifierLink::attached(&device.name, side.kind(), PRIORITY, HANDLE, None));
}

fn tcx(
    program: &mut SchedClassifier,
    side: Side,
    device: &Device,
    mut pins: Option<&mut Pins>,
) -> Result<(), AttachError> {
    if let Some(pins) = pins.as_deref_mut()
        && let Ok(Some(link)) = pins.link(side.way(), device)
    {
        if replace(program, link).is_ok() {
            pins.keep(side.way(), device);
            return Ok(());
        }
        // The interface is another by now.
        pins.unpin(side.way(), device);
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(&device.name, side.kind(), options)?;
    let Some(pins) = pins else { return Ok(()) };
    let link = FdLink::try_from(program.take_link(id)?)?;
    Ok(pins.pin(side.way(), device, link)?)
}

fn replace(program: &mut SchedClassifier, link: FdLink) -> Result<(), AttachError> {
    let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    // It lives on by its pin alone: held here too, it would stay in the kernel when its interface and the pin go.
    drop(program.take_link(id)?);
    Ok(())
}

fn clsact(program: &mut SchedClassifier, side: Side, device: &Device) -> Result<(), AttachError> {
    // That it is there already is as good, and if it is not, the filter tells.
    let _ = qdisc_add_clsact(&device.name);
    let filter = || SchedClassifierLink::attached(&device.name, side.kind(), PRIORITY, HANDLE, None);
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let id = program
        .attach_with_options(&device.name, side.kind(), TcAttachOptions::Netlink(options))
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

    use super::{Device, Side, clsact, remove_filter};
    use crate::io::xdp::OBJECT;

    fn filters(side: Side) -> String {
        let side = if side == Side::Ingress { "ingress" } else { "egress" };
        let output = std::process::Command::new("tc").args(["filter", "show", "dev", "lo", side]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// As kernels before 6.6 have it. In a network namespace of its own.
    fn stays_is_replaced_and_is_taken_away(side: Side) {
        let name = side.program();
        if unshare(CloneFlags::CLONE_NEWNET).is_err() || OBJECT.is_empty() {
            println!("SKIP: not permitted, or built without the eBPF object");
            return;
        }
        let device = Device { name: "lo".to_owned(), index: 1 };
        for round in 0..2 {
            let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads");
            let program: &mut SchedClassifier =
                ebpf.program_mut(name).expect("it is there").try_into().expect("a classifier");
            program.load().expect("the kernel takes it");
            clsact(program, side, &device).unwrap_or_else(|error| panic!("round {round}: {error}"));
            drop(ebpf);
            let filters = filters(side);
            assert_eq!(filters.matches("handle 0x694").count(), 1, "round {round}: {filters}");
            assert!(filters.contains("pref 1 ") && filters.contains(name), "{filters}");
        }
        remove_filter(side, &device);
        assert!(!filters(side).contains("handle 0x694"), "{}", filters(side));
        remove_filter(side, &device);
    }

    #[test]
    fn an_egress_filter_stays_is_replaced_and_is_taken_away() {
        stays_is_replaced_and_is_taken_away(Side::Egress);
    }

    #[test]
    fn an_ingress_filter_stays_is_replaced_and_is_taken_away() {
        stays_is_replaced_and_is_taken_away(Side::Ingress);
    }
}
