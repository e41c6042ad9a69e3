//! What the control thread sees of the kernel's maps: counters to read, keys to write.
//! Without XDP there are no maps, and the view shows zeroes and swallows keys.

use std::io;

use agent_common::maps::{COUNTERS, KeyState};
use aya::maps::{Array, MapData, PerCpuArray};

use crate::bridge::{KernelView, Keyring};

/// The maps of a loaded object.
pub struct KernelMaps {
    counters: PerCpuArray<MapData, u64>,
    keys: Array<MapData, KeyState>,
}

impl KernelMaps {
    /// Takes the two maps.
    pub const fn new(counters: PerCpuArray<MapData, u64>, keys: Array<MapData, KeyState>) -> Self {
        Self { counters, keys }
    }
}

impl KernelView for KernelMaps {
    fn counters(&self) -> [u64; COUNTERS] {
        let mut sums = [0u64; COUNTERS];
        for (sum, index) in sums.iter_mut().zip(0u32..) {
            // A read that fails shows as zero: a gap in a graph, not the end of the agent.
            *sum = self.counters.get(&index, 0).map_or(0, |values| values.iter().sum());
        }
        sums
    }

    fn set_keys(&mut self, keys: &Keyring) -> io::Result<()> {
        for (state, id) in keys.states.iter().zip(0u32..) {
            self.keys.set(id, state, 0).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// No XDP anywhere.
pub struct NoKernel;

impl KernelView for NoKernel {
    fn counters(&self) -> [u64; COUNTERS] {
        [0; COUNTERS]
    }

    fn set_keys(&mut self, _keys: &Keyring) -> io::Result<()> {
        Ok(())
    }
}
