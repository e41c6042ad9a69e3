//! The product's programs of arriving packets under `BPF_PROG_TEST_RUN`: loaded with the tests' cluster in their maps, fed
//! one packet at a time, and asked what they counted, recorded and told.

use std::path::PathBuf;

use agent_common::{
    Reject,
    maps::{COUNTERS, Counter, KeyState, News, PeerSlot, Rival, name},
};
use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, TestRun as _,
    maps::{Array, MapData, PerCpuArray, RingBuf},
    programs::{ProgramError, SchedClassifier, TestRunOptions, TestRunResult, Xdp},
};

use crate::frames::{cluster_config, key, link_table};

/// `XDP_ABORTED`.
pub const ABORTED: u32 = 0;
/// `XDP_DROP`.
pub const DROP: u32 = 1;
/// `XDP_PASS`.
pub const PASS: u32 = 2;
/// `XDP_TX`.
pub const TX: u32 = 3;

/// The XDP program.
pub const XDP: &str = "xbeat";
/// The classifier that does the same.
pub const INGRESS: &str = "xbeat_ingress";
/// `TCX_NEXT` as the kernel returns it.
const NEXT: u32 = u32::MAX;
/// `TC_ACT_SHOT`.
const SHOT: u32 = 2;
const ETHERNET_LEN: usize = 14;

/// What a packet came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Passed on, nothing counted.
    Foreign,
    /// Counted with its reason.
    Refused(Reject),
    /// Above everything heard before.
    Newest {
        /// Whether userspace is told.
        news: bool,
    },
    /// Refreshed its link only.
    Copy,
}

/// The path of an object that `cargo xtask build-ebpf` made; the product's can be given by `XBEAT_EBPF_OBJECT`.
pub fn object(file: &str) -> PathBuf {
    let target = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    match std::env::var_os("XBEAT_EBPF_OBJECT") {
        Some(path) if file == PRODUCT => path.into(),
        Some(path) => PathBuf::from(path).with_file_name(file),
        None => target.join(file),
    }
}

/// The product's object.
pub const PRODUCT: &str = "xbeat.bpf.o";

/// A loaded object with a program.
pub struct Kernel {
    object: Ebpf,
    program: &'static str,
}

impl Kernel {
    /// The product's XDP program, with the tests' cluster in the maps.
    ///
    /// # Errors
    /// The object is not there, or the kernel refuses it.
    pub fn new() -> Result<Self> {
        Self::product(XDP)
    }

    /// The product's program of this name, [`XDP`] or [`INGRESS`], with the tests' cluster in the maps.
    ///
    /// # Errors
    /// As [`Kernel::new`].
    pub fn product(program: &'static str) -> Result<Self> {
        let mut kernel = Self::unconfigured(PRODUCT, program)?;
        kernel.configure()?;
        Ok(kernel)
    }

    /// A program of an object, its maps zeroed.
    ///
    /// # Errors
    /// As [`Kernel::new`].
    pub fn unconfigured(file: &str, program: &'static str) -> Result<Self> {
        let path = object(file);
        let mut object = EbpfLoader::new()
            .load_file(&path)
            .with_context(|| format!("cannot load {} (cargo xtask build-ebpf makes it)", path.display()))?;
        let loaded = object.program_mut(program).context("no such program")?;
        if let Ok(classifier) = <&mut SchedClassifier>::try_from(&mut *loaded) {
            classifier.load()
        } else {
            <&mut Xdp>::try_from(loaded)?.load()
        }
        .context("the kernel refuses the program")?;
        Ok(Self { object, program })
    }

    /// Writes the tests' cluster into the maps.
    ///
    /// # Errors
    /// A map is missing or of another shape.
    pub fn configure(&mut self) -> Result<()> {
        self.array(name::CONFIG)?.set(0, cluster_config(), 0)?;
        self.array(name::LINKS)?.set(0, link_table(), 0)?;
        let mut keys: Array<_, KeyState> = self.array(name::KEYS)?;
        for id in 0..=u8::MAX {
            keys.set(u32::from(id), key(id), 0)?;
        }
        Ok(())
    }

    /// The object itself, for what only one test needs of it.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.object
    }

    /// An array of the object.
    ///
    /// # Errors
    /// A map is missing or of another shape.
    pub fn array<T: aya::Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, T>> {
        let map = self.object.map_mut(name).with_context(|| format!("no map {name}"))?;
        Ok(Array::try_from(map)?)
    }

    /// Runs the program on a packet, and returns its verdict, as XDP has it, and the mean nanoseconds of a repetition.
    /// Newer kernels make no test-run of a classifier with a packet without its network header: such a one passes, as it
    /// does in the stack.
    ///
    /// # Errors
    /// The kernel refuses the test-run.
    pub fn run(&self, packet: &[u8], repeat: u32) -> Result<(u32, u64)> {
        if self.program == INGRESS && !has_network_header(packet) {
            return Ok((PASS, 0));
        }
        let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::new() };
        let result = self.test_run(options)?;
        Ok((self.verdict(result.return_value)?, result.duration.as_nanos() as u64))
    }

    fn test_run(&self, options: TestRunOptions<'_>) -> Result<TestRunResult> {
        let program = self.object.program(self.program).context("no such program")?;
        let result: Result<TestRunResult, ProgramError> = match <&SchedClassifier>::try_from(program) {
            Ok(classifier) => classifier.test_run(options),
            Err(_) => <&Xdp>::try_from(program)?.test_run(options),
        };
        Ok(result?)
    }

    /// A classifier's verdict as XDP's.
    fn verdict(&self, value: u32) -> Result<u32> {
        Ok(match value {
            NEXT if self.program == INGRESS => PASS,
            SHOT if self.program == INGRESS => DROP,
            value if self.program == INGRESS => anyhow::bail!("a classifier's verdict {value}"),
            value => value,
        })
    }

    /// Runs the program once, and returns its verdict and the packet as it left it.
    ///
    /// # Errors
    /// As [`Kernel::run`].
    pub fn output(&self, packet: &[u8]) -> Result<(u32, Vec<u8>)> {
        if self.program == INGRESS && !has_network_header(packet) {
            return Ok((PASS, packet.to_vec()));
        }
        let mut out = vec![0; packet.len() + 64];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::new() };
        let result = self.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        Ok((self.verdict(result.return_value)?, out))
    }

    /// All counters, summed over the processors.
    ///
    /// # Errors
    /// The map is missing or of another shape.
    pub fn counters(&self) -> Result<[u64; COUNTERS]> {
        let map = self.object.map(name::COUNTERS).context("no counters")?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        let mut sums = [0; COUNTERS];
        for (index, sum) in (0..).zip(&mut sums) {
            *sum = map.get(&index, 0)?.iter().sum();
        }
        Ok(sums)
    }

    /// A peer's slot.
    ///
    /// # Errors
    /// The map is missing or of another shape.
    pub fn slot(&mut self, node: u8) -> Result<PeerSlot> {
        Ok(self.array::<PeerSlot>(name::SLOTS)?.get(&u32::from(node), 0)?)
    }

    /// The newest frame with our own id of one kind.
    ///
    /// # Errors
    /// The map is missing or of another shape.
    pub fn rival(&mut self, kind: usize) -> Result<Rival> {
        Ok(self.array::<Rival>(name::RIVAL)?.get(&(kind as u32), 0)?)
    }

    /// The object's own map, for a test that maps it into memory.
    ///
    /// # Errors
    /// The map is missing.
    pub fn map_data(&mut self, name: &str) -> Result<&MapData> {
        let map = self.object.map(name).with_context(|| format!("no map {name}"))?;
        let aya::maps::Map::Array(data) = map else { anyhow::bail!("{name} is not an array") };
        Ok(data)
    }

    /// Takes all news out of the ring.
    ///
    /// # Errors
    /// The map is missing, or a record has another size.
    pub fn take_news(&mut self) -> Result<Vec<News>> {
        let mut ring = RingBuf::try_from(self.object.map_mut(name::NEWS).context("no ring")?)?;
        let mut taken = Vec::new();
        while let Some(record) = ring.next() {
            let bytes: &[u8; size_of::<News>()] = record.first_chunk().context("a short record")?;
            let word =
                |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let stamp_ns = u64::from(word(0)) | u64::from(word(4)) << 32;
            taken.push(News { stamp_ns, node: word(8), reserved: word(12) });
        }
        Ok(taken)
    }

    /// Submits one packet and says what it came to, by verdict and by the counters that moved.
    ///
    /// # Errors
    /// The verdict and the counters contradict each other.
    pub fn submit(&mut self, packet: &[u8]) -> Result<Outcome> {
        let before = self.counters()?;
        let (verdict, _) = self.run(packet, 1)?;
        let after = self.counters()?;
        let moved: Vec<(usize, u64)> =
            before.iter().zip(&after).map(|(a, b)| b - a).enumerate().filter(|(_, n)| *n != 0).collect();
        let accepted = (Counter::Accepted.index(), 1);
        let news = (Counter::News.index(), 1);
        let lost = (Counter::NewsLost.index(), 1);
        Ok(match (verdict, &moved[..]) {
            (PASS, []) => Outcome::Foreign,
            (DROP, [one]) if *one == accepted => Outcome::Newest { news: false },
            (DROP, [one, two]) if *one == accepted && (*two == news || *two == lost) => {
                Outcome::Newest { news: true }
            }
            (DROP, [one]) if *one == (Counter::Copies.index(), 1) => Outcome::Copy,
            (verdict, [(index, 1)]) => {
                let reason = Reject::ALL.get(*index).copied().context("an odd counter moved")?;
                anyhow::ensure!(
                    verdict == if reason.passes() { PASS } else { DROP },
                    "{reason:?}: {verdict}"
                );
                Outcome::Refused(reason)
            }
            (verdict, moved) => anyhow::bail!("verdict {verdict} with counters {moved:?}"),
        })
    }
}

/// Whether a packet is as long as the header that its Ethernet type promises.
pub fn has_network_header(packet: &[u8]) -> bool {
    let network = packet.len().saturating_sub(ETHERNET_LEN);
    match packet.get(12..14) {
        Some([0x08, 0x00]) => network >= 20,
        Some([0x86, 0xdd]) => network >= 40,
        Some(_) => network > 0,
        None => false,
    }
}
