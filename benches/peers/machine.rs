//! Where the figures were measured.

use std::fs::read_to_string;
use std::thread::available_parallelism;

use super::proxies::Kind;

/// One sentence each for the machine and for what ran there.
pub fn described() -> String {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = after(&info, "model name").unwrap_or("an unknown processor");
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = after(&memory, "MemTotal").and_then(|total| total.strip_suffix(" kB")?.parse::<f64>().ok());
    let release = read_to_string("/etc/os-release").unwrap_or_default();
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let versions: Vec<String> = [Kind::Haproxy, Kind::Nginx]
        .into_iter()
        .map(|kind| {
            format!(
                "{} {}",
                kind.name(),
                kind.version().map_or("is not here".to_owned(), |text| number(&text))
            )
        })
        .collect();
    format!(
        "Measured with {} cores of {model}, {:.0} GiB of memory, Linux {}, {}; {}.",
        available_parallelism().map_or(1, usize::from),
        kib.unwrap_or_default() / 1024.0 / 1024.0,
        kernel.split('-').next().unwrap_or_default(),
        system.trim_matches('"'),
        versions.join(", "),
    )
}

/// The value of a line `name : value`.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(key, value)| (key.trim(), value.trim()))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The first word that holds a number with points.
fn number(text: &str) -> String {
    let mut words = text.split([' ', '/']).map(|word| word.split('-').next().unwrap_or_default());
    let is_number =
        |word: &&str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.');
    words.find(is_number).unwrap_or_default().to_owned()
}
