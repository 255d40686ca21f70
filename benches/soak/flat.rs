//! Whether something grew. The first fifth of a run is left out, because pools and the allocator fill then; what is left is
//! cut into three windows. Something grew when the medians of the windows rise from each to the next, and the last lies
//! above the first by more than an allowance, which is stated for each figure.

use std::fmt;

/// A second of the run.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    pub second: u64,
    pub memory_kib: u64,
    pub files: u64,
    pub threads: u64,
    pub open: u64,
    pub blocks: u64,
    pub accepted: u64,
    /// Of each server.
    pub answers: [u64; 2],
    pub exhaustions: u64,
    pub resets: u64,
    pub timeouts: u64,
}

impl Sample {
    pub const HEAD: &'static str =
        "second,memory_kib,files,threads,open,blocks,accepted,answers,exhaustions,resets,timeouts\n";
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Sample { second, memory_kib, files, threads, open, blocks, .. } = self;
        write!(f, "{second},{memory_kib},{files},{threads},{open},{blocks},")?;
        let Sample { accepted, answers, exhaustions, resets, timeouts, .. } = self;
        write!(f, "{accepted},{},{exhaustions},{resets},{timeouts}", answers[0] + answers[1])
    }
}

/// What was found of one figure.
pub struct Verdict {
    name: &'static str,
    medians: [u64; 3],
    allowance: u64,
    pub grew: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let word = if self.grew { "GREW" } else { "flat" };
        write!(f, "{}: medians {:?}, allowance {}: {word}", self.name, self.medians, self.allowance)
    }
}

/// Judges the figures that must not grow.
pub fn judge(samples: &[Sample]) -> Vec<Verdict> {
    type Figure = (&'static str, fn(&Sample) -> u64, fn(u64) -> u64);
    let figures: [Figure; 5] = [
        ("memory in KiB", |sample| sample.memory_kib, |first| 256 + first / 50),
        ("descriptors", |sample| sample.files, |_| 6),
        ("threads", |sample| sample.threads, |_| 0),
        ("open connections", |sample| sample.open, |_| 6),
        ("blocks in use", |sample| sample.blocks, |_| 64),
    ];
    figures.map(|(name, figure, allowance)| verdict(name, samples.iter().map(figure).collect(), allowance)).into()
}

fn verdict(name: &'static str, values: Vec<u64>, allowance: fn(u64) -> u64) -> Verdict {
    let values = &values[values.len() / 5..];
    let third = values.len() / 3;
    assert!(third >= 5, "too short a run to judge: half a minute at least");
    let medians = [0, 1, 2].map(|window| {
        let mut window = values[window * third..(window + 1) * third].to_vec();
        window.sort_unstable();
        window[window.len() / 2]
    });
    let allowance = allowance(medians[0]);
    let rises = medians[0] < medians[1] && medians[1] < medians[2];
    Verdict { name, medians, allowance, grew: rises && medians[2] - medians[0] > allowance }
}
