//! The fuzz targets without a fuzzer: the corpus, and random changes of it, always the same.

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

/// Changes of each file.
const CHANGES: usize = 400;
/// What means something to one of the parsers.
const WORDS: [&[u8]; 14] =
    [b"{", b"}", b"\"", b"\\", b"%", b"%2f", b"%25", b"..", b"/", b"\n", b"\r\n\r\n", b"[", b"null", b"\xff"];

fn play(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{} has a corpus", folder.display());
    let seeds: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let mut random = fastrand::Rng::with_seed(1);
    for seed in &seeds {
        check(seed);
        for _ in 0..CHANGES {
            let mut data = seed.clone();
            for _ in 0..random.usize(1..6) {
                change(&mut data, &seeds, &mut random);
            }
            check(&data);
        }
    }
}

fn change(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut fastrand::Rng) {
    let at = random.usize(..=data.len());
    match random.u8(..6) {
        0 => data.truncate(at),
        1 => {
            data.splice(at..at, WORDS[random.usize(..WORDS.len())].iter().copied());
        }
        2 => {
            let other = &seeds[random.usize(..seeds.len())];
            data.splice(at.., other[random.usize(..=other.len())..].iter().copied());
        }
        3 => {
            let end = random.usize(at..=data.len());
            data.drain(at..end);
        }
        _ => {
            if let Some(byte) = data.get_mut(at) {
                *byte = random.u8(..);
            }
        }
    }
}

#[test]
fn reports() {
    play("report", targets::report);
}

#[test]
fn routes() {
    play("route", targets::route);
}

#[test]
fn demands() {
    play("demand", targets::demand);
}

#[test]
fn event_streams() {
    play("sse", targets::sse);
}
