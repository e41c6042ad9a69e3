//! What becomes of the gate over a life of the agent: found and shut at start, the addresses put behind it, the programs
//! attached; taken away at an orderly end. Either the kernel guards every address that this node may own, or none.

use agent_common::maps::{Bar, Gate, GateAddress, name};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::programs::ProgramError;
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;

use super::classifier::{self, ClassifierError, Side};
use super::guard::{self, GuardError};
use super::mapped::{MappedBars, MappedGates};
use super::pins::{Pins, PinsError, Way};
use super::ready;
use super::{Device, Gates};
use crate::settings::{Settings, XdpSetting};

/// Why the kernel guards nothing; the agent withdraws addresses itself.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// No XDP at all.
    #[error("there is no XDP")]
    NoXdp,
    /// Nothing can be pinned.
    #[error("{0}")]
    Pins(#[from] PinsError),
    /// The directory of the maps.
    #[error("the maps cannot be pinned: {0}")]
    Maps(#[source] std::io::Error),
    /// An address cannot be guarded.
    #[error("{0}")]
    Guard(#[from] GuardError),
    /// What arrives is not judged.
    #[error("interface {0} carries no program for what arrives that outlives the agent")]
    Ingress(String),
    /// What leaves is not judged.
    #[error("{0}")]
    Egress(#[from] ClassifierError),
    /// The verifier.
    #[error("the kernel refused the egress program: {0}")]
    Program(#[from] ProgramError),
    /// A map is missing or of another shape.
    #[error("map {0} of the eBPF object: {1}")]
    Map(&'static str, #[source] MapError),
    /// The maps could not be mapped into memory.
    #[error("the gates could not be mapped into memory: {0}")]
    Mapping(#[source] Errno),
}

/// The gate as far as files and programs go; the rt thread has [`Gates`].
pub struct Keeper {
    pins: Option<Pins>,
    devices: Vec<Device>,
    filters: Vec<(Side, Device)>,
    /// Whether there is anything to guard.
    needed: bool,
    problem: Option<GateError>,
}

impl Keeper {
    /// Takes the pins, as they are, and looks where addresses are to be guarded. It cannot fail: what does not work is why
    /// the kernel guards nothing.
    pub fn open(settings: &Settings) -> Self {
        let needed = guard::own(settings).next().is_some();
        let mut keeper = Self { pins: None, devices: Vec::new(), filters: Vec::new(), needed, problem: None };
        // Without XDP there may still be gates to shut, of an agent that had it.
        let directory = &settings.runtime.bpffs;
        if settings.runtime.xdp != XdpSetting::Off || directory.exists() {
            match Pins::open(directory) {
                Ok(pins) => keeper.pins = Some(pins),
                Err(error) => keeper.problem = Some(error.into()),
            }
        }
        match guard::devices(settings) {
            Ok(devices) => keeper.devices = devices,
            Err(error) => keeper.problem = Some(error.into()),
        }
        keeper
    }

    /// A start without state: shuts the gates that an earlier agent left.
    pub fn begin(&mut self) {
        if let Some(Err(error)) = self.pins.as_ref().map(Pins::begin) {
            self.problem = Some(error.into());
            self.pins = None;
        }
    }

    /// Where links are pinned, if anywhere.
    pub const fn pins(&mut self) -> Option<&mut Pins> {
        self.pins.as_mut()
    }

    /// The interfaces of the addresses that were there at the start.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// For the operator: what is doubtful, and nothing else tells.
    pub fn remarks(&mut self) -> Vec<String> {
        self.pins.as_mut().map(|pins| std::mem::take(&mut pins.remarks)).unwrap_or_default()
    }

    /// The object is loaded onto the pinned maps.
    pub fn prepare(&mut self, loader: &mut EbpfLoader<'_>) {
        let pinned = self.pins.as_ref().map(|pins| pins.pin_maps(loader));
        if let Some(Err(error)) = pinned {
            self.problem = Some(GateError::Maps(error));
        }
    }

    /// The programs of the object that are pinned count as loaded.
    pub fn adopt(&self, ebpf: &mut Ebpf) {
        if let Some(pins) = &self.pins {
            ready::adopt(ebpf, pins.directory());
        }
    }

    /// Programs that are loaded stay so for the next process.
    pub fn keep(&self, ebpf: &mut Ebpf) {
        if let Some(pins) = &self.pins {
            ready::keep(ebpf, pins.directory());
        }
    }

    /// Puts the addresses behind their gates, as they stand, before any program judges packets by them.
    pub fn shut_in(&mut self, ebpf: &mut Ebpf, settings: &Settings) {
        if let Err(error) = addresses(ebpf, settings, self.problem.is_none()) {
            self.problem = Some(error);
        }
    }

    /// The XDP program is attached where it can be; `carries` says whether it outlives this process there. Completes the
    /// gate, or takes all addresses out of it.
    ///
    /// # Errors
    /// Why the kernel guards nothing.
    pub fn complete(
        &mut self,
        ebpf: &mut Ebpf,
        settings: &Settings,
        carries: impl Fn(&Device) -> bool,
    ) -> Result<Option<Gates>, GateError> {
        let completed = match self.problem.take() {
            Some(problem) => Err(problem),
            None => self.attach_and_map(ebpf, &carries),
        };
        if completed.is_err() {
            // Nobody would open the gates any more.
            addresses(ebpf, settings, false)?;
        }
        completed
    }

    fn attach_and_map(
        &mut self,
        ebpf: &mut Ebpf,
        carries: &impl Fn(&Device) -> bool,
    ) -> Result<Option<Gates>, GateError> {
        if !self.needed {
            return Ok(None);
        }
        if let Some(device) = self.devices.iter().find(|device| !carries(device)) {
            return Err(GateError::Ingress(device.name.clone()));
        }
        for device in self.devices.clone() {
            self.judge_leaving(ebpf, &device)?;
        }
        let gates = MappedGates::new(array::<Gate>(ebpf, name::GATES)?.fd()).map_err(GateError::Mapping)?;
        let bars = MappedBars::new(array::<Bar>(ebpf, name::BARS)?.fd()).map_err(GateError::Mapping)?;
        Ok(Some(Gates::new(gates, bars)))
    }

    /// Puts the classifier on what leaves an interface: its half of the gate, once what arrives is judged there.
    ///
    /// # Errors
    /// Nothing on this interface is guarded.
    pub fn judge_leaving(&mut self, ebpf: &mut Ebpf, device: &Device) -> Result<(), GateError> {
        let program = classifier::load(ebpf, Side::Egress)?;
        let carried = classifier::attach(program, Side::Egress, device, self.pins.as_mut())?;
        self.note(Side::Egress, device, carried);
        Ok(())
    }

    /// The interface is gone: so are the pins of what was on it.
    pub fn forget(&mut self, device: &Device) {
        self.filters.retain(|(_, on)| on != device);
        if let Some(pins) = &self.pins {
            for way in [Way::Ingress, Way::IngressTcx, Way::Egress] {
                pins.unpin(way, device);
            }
        }
    }

    /// Remembers what must be taken away at the end, since no pin does it.
    pub fn note(&mut self, side: Side, device: &Device, carried: classifier::Carried) {
        let filter = (side, device.clone());
        if carried == classifier::Carried::Clsact && !self.filters.contains(&filter) {
            self.filters.push(filter);
        }
    }

    /// There is no XDP. That is no matter where there is no address to guard.
    ///
    /// # Errors
    /// There is one.
    pub fn give_up(&mut self) -> Result<Option<Gates>, GateError> {
        match self.problem.take() {
            None if !self.needed => Ok(None),
            None => Err(GateError::NoXdp),
            Some(problem) => Err(problem),
        }
    }

    /// Takes away what earlier agents left and this one does not use. Once no address of theirs is left.
    pub fn tidy(&self) {
        if let Some(pins) = &self.pins {
            pins.tidy();
        }
    }

    /// Takes everything away, so that nothing judges packets any more. Once no address is left.
    pub fn retire(&self) {
        self.filters.iter().for_each(|(side, device)| classifier::remove_filter(*side, device));
        if let Some(pins) = &self.pins {
            pins.remove_all();
        }
    }
}

/// Makes the map hold the addresses that this node may own, or none.
fn addresses(ebpf: &mut Ebpf, settings: &Settings, guarded: bool) -> Result<(), GateError> {
    let failed = |error| GateError::Map(name::GATE_ADDRESSES, error);
    let map = ebpf.map_mut(name::GATE_ADDRESSES).ok_or_else(|| missing(name::GATE_ADDRESSES))?;
    let mut map: HashMap<_, [u8; 16], GateAddress> = HashMap::try_from(map).map_err(failed)?;
    let wanted: Vec<_> = guard::own(settings).filter(|_| guarded).map(guard::entry).collect();
    let found: Vec<[u8; 16]> = map.keys().filter_map(Result::ok).collect();
    for key in found.iter().filter(|key| !wanted.iter().any(|(wanted, _)| wanted == *key)) {
        map.remove(key).map_err(failed)?;
    }
    for (key, value) in &wanted {
        map.insert(key, value, 0).map_err(failed)?;
    }
    Ok(())
}

fn array<'a, T: aya::Pod>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a MapData, GateError> {
    let map = ebpf.map(name).ok_or_else(|| missing(name))?;
    // Checks the sizes of key and value.
    let _: Array<&MapData, T> = Array::try_from(map).map_err(|error| GateError::Map(name, error))?;
    if let Map::Array(data) = map { Ok(data) } else { Err(missing(name)) }
}

fn missing(name: &'static str) -> GateError {
    GateError::Map(name, MapError::InvalidName { name: name.to_owned() })
}
