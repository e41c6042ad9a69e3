//! Gates and bars in this process's memory. The kernel reads the gates on every packet and writes the bars, both while
//! this process writes and reads: words, one at a time, in an order that makes every mixture safe.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use agent_common::GroupId;
use agent_common::ids::MAX_GROUPS;
use agent_common::maps::{Bar, Gate};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// An array of the kernel's, one value for each group.
struct Mapped<T> {
    base: NonNull<T>,
}

impl<T> Mapped<T> {
    const LENGTH: usize = size_of::<[T; MAX_GROUPS]>();

    fn new(map: impl AsFd, protection: ProtFlags) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(Self::LENGTH).ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { base: base.cast() })
    }

    fn of(&self, group: GroupId) -> *mut T {
        // SAFETY: a group's index is below MAX_GROUPS, the length of the mapping.
        unsafe { self.base.as_ptr().add(group.index()) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: mapped with this length by `new`, and nothing borrows from it.
        let _ = unsafe { munmap(self.base.cast(), Self::LENGTH) };
    }
}

/// The map `GATES`. Only this process writes it.
pub struct MappedGates(Mapped<Gate>);

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for MappedGates {}

impl MappedGates {
    /// Maps the gates of the BPF map behind `map`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(map: impl AsFd) -> Result<Self, Errno> {
        Ok(Self(Mapped::new(map, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?))
    }

    /// What stands in the map.
    pub fn read(&self, group: GroupId) -> Gate {
        let gate = self.0.of(group);
        // SAFETY: mapped, aligned, and written by this process alone.
        unsafe { gate.read_volatile() }
    }

    /// Writes a gate. The kernel reads epoch, expiry, and the epoch again, which must be the same; and it may come between
    /// any two stores, for as long as this thread is stopped there. What it can see must never be more open than both the
    /// old and the new gate:
    ///
    /// - A later expiry with the same or a higher epoch: epoch first. In between stands the new lease, ending early.
    /// - An earlier expiry: expiry first. In between stands the old epoch, which bars shut no later than the new one,
    ///   until the new expiry.
    /// - A lower epoch (a new life, or none) never shows a higher one's expiry: such a gate is shut before it is written.
    pub fn write(&mut self, group: GroupId, new: Gate) {
        let old = self.read(group);
        let gate = self.0.of(group);
        // SAFETY: the gate is mapped.
        let epoch = unsafe { &raw mut (*gate).epoch };
        // SAFETY: as above.
        let expiry_ns = unsafe { &raw mut (*gate).expiry_ns };
        let store = |place: *mut u64, value: u64| {
            // SAFETY: mapped, aligned, and written by this process alone; the kernel reads whole words.
            unsafe { place.write_volatile(value) };
            fence(Ordering::SeqCst);
        };
        if new.epoch < old.epoch {
            store(expiry_ns, 0);
            store(epoch, new.epoch);
            store(expiry_ns, new.expiry_ns);
        } else if new.expiry_ns >= old.expiry_ns {
            store(epoch, new.epoch);
            store(expiry_ns, new.expiry_ns);
        } else {
            store(expiry_ns, new.expiry_ns);
            store(epoch, new.epoch);
        }
    }
}

/// The map `BARS`. Only the kernel writes it.
pub struct MappedBars(Mapped<Bar>);

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for MappedBars {}

impl MappedBars {
    /// Maps the bars of the BPF map behind `map`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(map: impl AsFd) -> Result<Self, Errno> {
        Ok(Self(Mapped::new(map, ProtFlags::PROT_READ)?))
    }

    /// The bar of a group.
    pub fn read(&self, group: GroupId) -> u64 {
        let bar = self.0.of(group);
        // SAFETY: mapped and aligned; volatile, since the kernel writes it.
        unsafe { bar.read_volatile() }.epoch
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use agent_common::GroupId;
    use agent_common::maps::Gate;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::MappedGates;

    /// Two views of one memory, as the kernel and the agent have.
    fn views() -> (MappedGates, MappedGates) {
        let memory = memfd_create("gates", MFdFlags::empty()).expect("memory");
        nix::unistd::ftruncate(&memory, 4096).expect("a page");
        (MappedGates::new(&memory).expect("mapped"), MappedGates::new(&memory).expect("mapped"))
    }

    fn group(id: u8) -> GroupId {
        GroupId::new(id).expect("in range")
    }

    #[test]
    fn a_gate_reads_as_it_was_written() {
        let (mut agent, kernel) = views();
        assert_eq!(kernel.read(group(63)), Gate::default(), "shut");
        for gate in [(5, 100), (5, 200), (6, 150), (6, 0), (2, 300), (0, 0)] {
            let gate = Gate { epoch: gate.0, expiry_ns: gate.1 };
            agent.write(group(63), gate);
            assert_eq!(kernel.read(group(63)), gate);
        }
        assert_eq!(kernel.read(group(62)), Gate::default());
    }

    /// By the last digit of its epoch, when a lease ends: shorter than the one before, longer, of a lower epoch and longer.
    const UNTIL: [(u64, u64); 4] = [(1, 7000), (4, 6000), (5, 6500), (2, 9000)];

    fn as_the_kernel(gates: &MappedGates, group: GroupId) -> Gate {
        let place = gates.0.of(group);
        // SAFETY: mapped as long as `gates` lives; so below.
        let epoch = unsafe { &raw const (*place).epoch };
        // SAFETY: as above.
        let expiry_ns = unsafe { &raw const (*place).expiry_ns };
        // SAFETY: as above.
        let before = unsafe { epoch.read_volatile() };
        // SAFETY: as above.
        let expiry_ns = unsafe { expiry_ns.read_volatile() };
        // SAFETY: as above.
        let after = unsafe { epoch.read_volatile() };
        Gate { epoch: after, expiry_ns: if before == after { expiry_ns } else { 0 } }
    }

    /// A reader in the kernel's order never sees an expiry with an epoch under which no lease lasts so long.
    #[test]
    fn no_mixture_is_more_open_than_the_old_and_the_new_gate() {
        let (mut agent, kernel) = views();
        let stop = AtomicBool::new(false);
        let looked = std::thread::scope(|scope| {
            let stop = &stop;
            let reader = scope.spawn(move || {
                // The whole, which may change threads, and not the pointer in it.
                let kernel = kernel;
                let (mut looked, mut open) = (0u64, 0u64);
                while !stop.load(Ordering::Relaxed) {
                    let Gate { epoch, expiry_ns } = as_the_kernel(&kernel, group(0));
                    let until =
                        UNTIL.iter().find(|(ending, _)| epoch % 10 == *ending).map_or(0, |gate| gate.1);
                    assert!(expiry_ns <= until, "epoch {epoch} until {expiry_ns}");
                    looked += 1;
                    open += u64::from(expiry_ns != 0);
                }
                (looked, open)
            });
            // Epochs are never used twice.
            for round in 1..100_000u64 {
                for (ending, expiry_ns) in UNTIL {
                    agent.write(group(0), Gate { epoch: 10 * round + ending, expiry_ns });
                }
                agent.write(group(0), Gate::default());
            }
            stop.store(true, Ordering::Relaxed);
            reader.join().expect("no mixture")
        });
        assert!(looked.0 > 0 && looked.1 > 0, "the witness: {looked:?}");
    }
}
