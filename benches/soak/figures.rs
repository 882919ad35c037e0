//! What the process holds, and whether it grows.

use std::fs;
use std::path::Path;

use super::answers::Book;

/// Growth from the second quarter to the last that is not a leak: the allocator's pages, and what the load's chance does.
const RESIDENT_SLACK_KIB: u64 = 3 * 1024;
/// In hundredths of the second quarter's.
const RESIDENT_SLACK_PERCENT: u64 = 5;
/// Descriptors: connections that happen to be open.
pub const DESCRIPTORS_SLACK: u64 = 20;
/// Threads: what the blocking pool happens to have.
const THREADS_SLACK: u64 = 2;

const BEGIN: &str = "<!-- soak -->";
const END: &str = "<!-- /soak -->";

/// One look at the process.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub resident_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
}

impl Sample {
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        Self { resident_kib: field("VmRSS:"), descriptors, threads: field("Threads:") }
    }
}

/// The samples of a run.
#[derive(Debug)]
pub struct Figures {
    seconds: u64,
    samples: Vec<Sample>,
}

impl Figures {
    pub fn new(seconds: u64) -> Self {
        Self { seconds, samples: Vec::new() }
    }

    pub fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// The medians of one quarter of the run, counted from 0.
    fn quarter(&self, number: usize) -> Sample {
        let quarter = self.samples.len() / 4;
        assert!(quarter > 0, "the run is too short");
        let samples = &self.samples[number * quarter..(number + 1) * quarter];
        let median = |field: fn(&Sample) -> u64| {
            let mut values: Vec<u64> = samples.iter().map(field).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        Sample {
            resident_kib: median(|sample| sample.resident_kib),
            descriptors: median(|sample| sample.descriptors),
            threads: median(|sample| sample.threads),
        }
    }

    pub fn assert_no_growth(&self) {
        let (second, last) = (self.quarter(1), self.quarter(3));
        let resident_max =
            second.resident_kib + second.resident_kib * RESIDENT_SLACK_PERCENT / 100 + RESIDENT_SLACK_KIB;
        assert!(last.resident_kib <= resident_max, "memory grows: {second:?}, {last:?}");
        let descriptors_max = second.descriptors + DESCRIPTORS_SLACK;
        assert!(last.descriptors <= descriptors_max, "descriptors grow: {second:?}, {last:?}");
        assert!(last.threads <= second.threads + THREADS_SLACK, "threads grow: {second:?}, {last:?}");
    }

    /// All of it, as `BENCHMARKS.md` has it.
    pub fn table(&self, before: Sample, after: Sample, book: &Book, restarts: usize) -> String {
        let row = |name: &str, sample: Sample| {
            let mib = sample.resident_kib as f64 / 1024.0;
            format!("| {name} | {mib:.1} MiB | {} | {} |\n", sample.descriptors, sample.threads)
        };
        let seconds = self.seconds;
        [
            &format!("{seconds} s, {restarts} restarts of servers and agents.\n\n"),
            "| | resident memory | descriptors | threads |\n|---|---|---|---|\n",
            &row("before the load", before),
            &row("second quarter, median", self.quarter(1)),
            &row("last quarter, median", self.quarter(3)),
            &row("after the load", after),
            "\n| requests | |\n|---|---|\n",
            &book.lines(),
        ]
        .concat()
    }
}

/// Puts the table between its marks in `BENCHMARKS.md`.
pub fn write(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("BENCHMARKS.md");
    let text = fs::read_to_string(&path).unwrap();
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        panic!("{} has no {BEGIN} and {END}", path.display());
    };
    let text = format!("{}\n{table}{}", &text[..begin + BEGIN.len()], &text[end..]);
    fs::write(&path, text).unwrap();
}
