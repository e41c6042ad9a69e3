//! What the control thread sees of the kernel's maps: counters to read, keys to write.
//! Without XDP there are no maps, and the view shows zeroes and swallows keys.

use std::io;

use agent_common::maps::{COUNTERS, Direction, KeyState, gate_drops};
use aya::maps::{Array, MapData, PerCpuArray};

use crate::bridge::{KernelView, Keyring};

/// The maps of a loaded object.
pub struct KernelMaps {
    counters: PerCpuArray<MapData, u64>,
    drops: PerCpuArray<MapData, u64>,
    keys: Array<MapData, KeyState>,
}

impl KernelMaps {
    /// Takes the maps.
    pub const fn new(
        counters: PerCpuArray<MapData, u64>,
        drops: PerCpuArray<MapData, u64>,
        keys: Array<MapData, KeyState>,
    ) -> Self {
        Self { counters, drops, keys }
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

    fn gate_drops(&self, place: u32, direction: Direction) -> u64 {
        self.drops.get(&gate_drops(place, direction), 0).map_or(0, |values| values.iter().sum())
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

    fn gate_drops(&self, _place: u32, _direction: Direction) -> u64 {
        0
    }

    fn set_keys(&mut self, _keys: &Keyring) -> io::Result<()> {
        Ok(())
    }
}
