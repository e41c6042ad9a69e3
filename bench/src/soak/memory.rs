//! What a process keeps: resident and locked memory, descriptors and threads, sampled over its life, and whether it grows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agent_tests::lab::bpf::Objects;
use anyhow::{Context as _, Result};

/// Samples that are kept of one life; beyond that every second one goes.
const SAMPLES_MAX: usize = 4_096;

/// One look at a process.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// When.
    pub at_ns: u64,
    /// `VmRSS`.
    pub resident_kib: u64,
    /// `VmLck`.
    pub locked_kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Sample {
    /// Of a process, now.
    ///
    /// # Errors
    /// It ended.
    pub fn of(pid: u32, at_ns: u64) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the process ended")?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.with_context(|| format!("no {name}"))?
                .parse()
                .with_context(|| format!("{name} is no number"))
        };
        Ok(Self {
            at_ns,
            resident_kib: field("VmRSS")?,
            locked_kib: field("VmLck")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).context("the process ended")?.count(),
            threads: usize::try_from(field("Threads")?)?,
        })
    }
}

/// One process from its start to its end.
#[derive(Clone, Debug, Default)]
pub struct Life {
    samples: Vec<Sample>,
}

impl Life {
    /// Another look.
    pub fn add(&mut self, sample: Sample) {
        if self.samples.len() == SAMPLES_MAX {
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.samples.push(sample);
    }

    /// In order.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// How long it has been watched, in seconds.
    pub fn seconds(&self) -> f64 {
        let ends = self.samples.first().zip(self.samples.last());
        ends.map_or(0.0, |(first, last)| (last.at_ns - first.at_ns) as f64 / 1e9)
    }

    /// What `of` says in the second half of its life.
    fn second_half(&self) -> &[Sample] {
        let ends = self.samples.first().zip(self.samples.last());
        let middle_ns = ends.map_or(0, |(first, last)| first.at_ns.midpoint(last.at_ns));
        let start = self.samples.partition_point(|sample| sample.at_ns < middle_ns);
        self.samples.get(start..).unwrap_or_default()
    }

    /// Growth of the resident memory over the second half, in KiB: the last sample less the first.
    pub fn growth_kib(&self) -> f64 {
        let half = self.second_half();
        let ends = half.first().zip(half.last());
        ends.map_or(f64::NAN, |(first, last)| last.resident_kib as f64 - first.resident_kib as f64)
    }

    /// Slope of the resident memory over the second half, in KiB an hour: least squares.
    pub fn slope_kib_per_hour(&self) -> f64 {
        let half = self.second_half();
        let count = half.len() as f64;
        let hours =
            |sample: &Sample| (sample.at_ns - half.first().map_or(0, |first| first.at_ns)) as f64 / 3.6e12;
        let mean_x = half.iter().map(hours).sum::<f64>() / count;
        let mean_y = half.iter().map(|sample| sample.resident_kib as f64).sum::<f64>() / count;
        let product = |sample: &Sample| (hours(sample) - mean_x) * (sample.resident_kib as f64 - mean_y);
        let square = |sample: &Sample| (hours(sample) - mean_x).powi(2);
        half.iter().map(product).sum::<f64>() / half.iter().map(square).sum::<f64>()
    }

    /// How much more there is of something at the end than at the start of the second half.
    pub fn more(&self, of: fn(&Sample) -> usize) -> f64 {
        let half = self.second_half();
        half.first().zip(half.last()).map_or(f64::NAN, |(first, last)| of(last) as f64 - of(first) as f64)
    }
}

/// What the kernel has of BPF, and whether any of it may be another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// When.
    pub at_ns: u64,
    /// In the whole kernel.
    pub objects: Objects,
    /// A process that is none of ours has BPF objects open.
    pub is_shared: bool,
}

/// Processes that have BPF objects open and are neither this one nor one of `ours`.
pub fn strangers(ours: &[u32]) -> BTreeSet<u32> {
    let me = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        (pid != me && !ours.contains(&pid) && has_bpf(&entry.path())).then_some(pid)
    });
    processes.collect()
}

fn has_bpf(process: &Path) -> bool {
    // Gone meanwhile, or a thread of the kernel.
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_string_lossy().starts_with("anon_inode:bpf"))
}

#[cfg(test)]
mod tests {
    use super::{Life, Sample};

    fn life(resident_kib: impl Fn(u64) -> u64) -> Life {
        let mut life = Life::default();
        for minute in 0..=60 {
            let at_ns = minute * 60_000_000_000;
            let sample = Sample {
                at_ns,
                resident_kib: resident_kib(minute),
                locked_kib: 0,
                descriptors: 40,
                threads: 6,
            };
            life.add(sample);
        }
        life
    }

    #[test]
    fn what_grows_is_seen_and_what_has_grown_up_is_not() {
        let leaking = life(|minute| 10_000 + 10 * minute);
        assert!((leaking.slope_kib_per_hour() - 600.0).abs() < 1.0, "{}", leaking.slope_kib_per_hour());
        assert!((leaking.growth_kib() - 300.0).abs() < 1e-9);
        let full = life(|minute| 10_000 + 10 * minute.min(20));
        assert!(full.slope_kib_per_hour().abs() < 1e-6 && full.growth_kib().abs() < 1e-9);
        assert!(
            (full.seconds() - 3_600.0).abs() < 1e-9 && full.more(|sample| sample.descriptors).abs() < 1e-9
        );
    }

    #[test]
    fn a_long_life_keeps_its_ends() {
        let mut life = Life::default();
        for at_ns in 0..20_000 {
            life.add(Sample { at_ns, resident_kib: 1, locked_kib: 1, descriptors: 1, threads: 1 });
        }
        assert!(life.samples().len() <= 4_096);
        assert_eq!(life.samples().first().map(|sample| sample.at_ns), Some(0));
        assert_eq!(life.samples().last().map(|sample| sample.at_ns), Some(19_999));
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let sample = Sample::of(std::process::id(), 1).expect("a sample");
        assert!(sample.resident_kib > 100 && sample.descriptors > 2 && sample.threads >= 1);
    }
}
