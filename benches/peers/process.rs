//! What the kernel tells of a process and of its sockets.

use std::fs::read_to_string;

use rustix::param::{clock_ticks_per_second, page_size};

/// A process and its children: nginx works in those.
pub fn family(pid: u32) -> Vec<u32> {
    let children = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_whitespace().map(|child| child.parse().unwrap());
    std::iter::once(pid).chain(children).collect()
}

/// User and system time of a process so far (proc_pid_stat(5), fields 14 and 15).
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..=12].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / clock_ticks_per_second() as f64
}

/// Resident memory in bytes. `smaps_rollup` counts it; `status` adds up what each thread has told so far.
pub fn resident_bytes(pid: u32) -> f64 {
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

/// What the buffers of all TCP sockets of this machine take, in bytes (proc(5), `/proc/net/sockstat`).
pub fn socket_bytes() -> f64 {
    let stat = read_to_string("/proc/net/sockstat").unwrap();
    let tcp = stat.lines().find_map(|line| line.strip_prefix("TCP: ")).unwrap();
    let pages = tcp.split_whitespace().skip_while(|word| *word != "mem").nth(1).unwrap();
    pages.parse::<f64>().unwrap() * page_size() as f64
}

/// Lets this process open as many files as it may: each client and each server takes one.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
