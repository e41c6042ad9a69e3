//! Loses frames on their way to a host, by a classifier on the switch's port: independently or in bursts, counted exactly.

use std::fs::{self, File};
use std::thread;

use agent_common::loss::{Loss, LossCount};
use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use nix::sched::{CloneFlags, setns};

use super::network::{Network, Port};
use crate::kernel::object;

const PROGRAM: &str = "xbeat_loss";

/// How frames are lost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Channel {
    /// Each by itself, with this probability.
    Independent(f64),
    /// In bursts: with this mean length, in frames, of times in which all are lost, and this loss over all.
    Bursts {
        /// Part of all frames that is lost.
        loss: f64,
        /// Frames of a burst, on average.
        length: f64,
    },
}

/// Frames of a port.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Passed on.
    pub passed: u64,
    /// Lost.
    pub lost: u64,
    /// Of the one that is spared.
    pub spared: u64,
}

/// A port that loses. It stops when this is dropped.
pub struct Lossy {
    ebpf: Ebpf,
    spared: [u8; 6],
    link: Option<SchedClassifierLink>,
    /// The switch's namespace: the classifier can be taken away in there only.
    switch: File,
}

impl std::fmt::Debug for Lossy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Lossy").finish_non_exhaustive()
    }
}

impl Channel {
    fn parameters(self, spared: [u8; 6]) -> Loss {
        let parts = |probability: f64| {
            let scaled = probability.clamp(0.0, 1.0) * f64::from(u32::MAX);
            scaled.round() as u32
        };
        let base = Loss { spared, ..Loss::default() };
        match self {
            // Whatever state another channel left.
            Self::Independent(loss) => Loss { good: parts(loss), bad: parts(loss), ..base },
            Self::Bursts { loss, length } => {
                // Of the time, `loss` is bad: to_bad / (to_bad + to_good).
                let to_good = 1.0 / length.max(1.0);
                let to_bad = if loss < 1.0 { to_good * loss / (1.0 - loss) } else { 1.0 };
                Loss { bad: u32::MAX, to_bad: parts(to_bad), to_good: parts(to_good), ..base }
            }
        }
    }
}

impl Lossy {
    /// On the way to the host at `port`, on the switch's side of it; frames from the MAC address `spared` are not touched.
    ///
    /// # Errors
    /// Not privileged, or the object was not built.
    pub fn start(network: &Network, port: Port, channel: Channel, spared: [u8; 6]) -> Result<Self> {
        let path = object("xbeat-loss.bpf.o");
        let bytes = fs::read(&path)
            .with_context(|| format!("cannot read {} (cargo xtask build-ebpf)", path.display()))?;
        let mut ebpf = EbpfLoader::new().load(&bytes).context("cannot load the loss injector")?;
        let map = ebpf.map_mut("LOSS").context("the object has no map LOSS")?;
        Array::<&mut MapData, Loss>::try_from(map)?.set(0, channel.parameters(spared), 0)?;
        let switch = File::open(network.switch().path()).context("cannot keep the switch's namespace")?;
        let program: &mut SchedClassifier =
            ebpf.program_mut(PROGRAM).ok_or_else(|| anyhow!("the object has no {PROGRAM}"))?.try_into()?;
        program.load().context("the kernel refused the loss injector")?;
        let name = port.name();
        let link = network.switch().run(|| {
            // That it is there already is as good.
            let _ = qdisc_add_clsact(&name);
            let options = TcAttachOptions::Netlink(NlOptions::default());
            let id =
                program.attach_with_options(&name, TcAttachType::Egress, options).context("cannot attach")?;
            Ok(program.take_link(id)?)
        })?;
        Ok(Self { ebpf, spared, link: Some(link), switch })
    }

    /// From the next frame on it is lost like this, from a good state on.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set(&mut self, channel: Channel) -> Result<()> {
        let map = self.ebpf.map_mut("LOSS").context("the object has no map LOSS")?;
        Array::<&mut MapData, Loss>::try_from(map)?.set(0, channel.parameters(self.spared), 0)?;
        let map = self.ebpf.map_mut("IS_BAD").context("the object has no map IS_BAD")?;
        Ok(Array::<&mut MapData, u64>::try_from(map)?.set(0, 0, 0)?)
    }

    /// What it did so far.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        let map = self.ebpf.map("COUNTS").context("the object has no map COUNTS")?;
        let map = PerCpuArray::<&MapData, u64>::try_from(map)?;
        let sum = |what: LossCount| -> Result<u64> { Ok(map.get(&(what as u32), 0)?.iter().sum()) };
        Ok(Counts {
            passed: sum(LossCount::Passed)?,
            lost: sum(LossCount::Lost)?,
            spared: sum(LossCount::Spared)?,
        })
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        let (link, switch) = (self.link.take(), &self.switch);
        let detach = move || {
            // Outside of the switch the index would be that of another interface: then it ends with the namespace.
            match setns(switch, CloneFlags::CLONE_NEWNET) {
                Ok(()) => drop(link),
                Err(_) => std::mem::forget(link),
            }
        };
        // That the port is gone already is as good.
        let _ = thread::scope(|scope| scope.spawn(detach).join());
    }
}
