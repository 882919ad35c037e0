//! Many seeds, one seed, the same bytes, a thousand cycles. `docs/testing.md` tells how to run them.

use super::*;

/// Seeds of each part of a run without `PADDOCK_SIM_SEEDS`. The parts run side by side.
const SEEDS_OF_PART: u64 = 1000;
const PARTS: u64 = 4;

/// Faults that the core once had, each with the first seed that showed it, in the world as it was then.
const KNOWN: &[(&str, u64)] = &[
    ("those who waited for a fleet that was known to fail were not told", 1),
    ("an older agent's place in the index went stale when the later one left", 8),
    ("an idle instance whose end had failed was ended again while requests waited", 27),
    ("a launch that its fleet showed late was taken for lost", 40),
    ("a slot that came free with an agent's end was given to nobody", 113),
    ("an instance whose llama.cpp never came back counted as capacity for ever", 296),
    ("an instance was ended under the next life of its nameless agent", 342),
    ("of two cancelled slots the wrong one was freed", 2495),
    ("an agent without a name was bound to another's instance, for good", 3779),
    ("a slot cancelled while its agent was away was free at once", 5147),
];

fn seeds() -> u64 {
    std::env::var("PADDOCK_SIM_SEEDS").map_or(SEEDS_OF_PART * PARTS, |seeds| seeds.parse().unwrap())
}

/// Plays one part of the seeds, every fourth of them twice, and gives the counts.
fn play_part(part: u64) -> BTreeMap<&'static str, u64> {
    let mut tally = BTreeMap::new();
    for seed in (part..seeds()).step_by(PARTS as usize) {
        let trace = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        if (seed / PARTS).is_multiple_of(4) {
            let again = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
            assert!(trace == again, "seed {seed}: two runs differ");
        }
        for (what, count) in trace.tally {
            *tally.entry(what).or_default() += count;
        }
    }
    tally
}

#[test]
fn seeds_of_part_0() {
    let tally = play_part(0);
    // A world in which something never happens proves nothing about it.
    for what in [
        "answered",
        "cut",
        "left",
        "a client left the queue",
        "a client left its answer",
        "an attempt could not connect",
        "an attempt died",
        "an attempt met a loading server",
        "a wake failed",
        "a launch went wrong",
        "a termination or a look failed",
        "an answer of the fleet was lost",
        "an instance exited",
        "an attempt was recalled",
        "a group could not launch",
        "a wish was withdrawn",
        "an end was held",
        "told: queue full",
        "told: queue timeout",
        "told: its deadline",
        "told: too late",
        "told: no capacity",
        "told: no agents",
        "told: budget exhausted",
        "told: shutting down",
        "told: upstream failed",
        "fault: a connection breaks",
        "fault: an agent flaps",
        "fault: an agent freezes",
        "fault: an agent lies",
        "fault: an agent restarts",
        "fault: an instance vanishes",
        "fault: an old attempt ends again",
        "fault: llama.cpp dies",
        "fault: llama.cpp does not come back",
        "fault: somebody else uses slots",
        "fault: the fleet ends an instance",
        "fault: two agents at one address",
        "fault: the group ends an instance",
        "fault: a spot interruption",
        "fault: a rebalance recommendation",
        "fault: a group has nothing to give",
        "fault: somebody raises a wish",
    ] {
        assert!(seeds() < 500 || tally.contains_key(what), "it never happened: {what}; {tally:#?}");
    }
}

#[test]
fn seeds_of_part_1() {
    play_part(1);
}

#[test]
fn seeds_of_part_2() {
    play_part(2);
}

#[test]
fn seeds_of_part_3() {
    play_part(3);
}

#[test]
fn seeds_that_led_to_a_fix_hold() {
    for (what, seed) in KNOWN {
        run(*seed).unwrap_or_else(|failure| panic!("{failure}\nit once showed that {what}"));
    }
}

/// `PADDOCK_SIM_SEED=n` plays that seed alone and shows its whole log.
#[test]
fn one_seed() {
    let seed = std::env::var("PADDOCK_SIM_SEED").map_or(0, |seed| seed.parse().unwrap());
    match run(seed) {
        Ok(trace) => println!("{}{:#?}", trace.log, trace.tally),
        Err(failure) => panic!("{}\n{failure}", failure.log),
    }
}

fn cycle_a_thousand_times(is_of_groups: bool) {
    let options = Options::cycles(1, 1000, is_of_groups);
    let trace = play(options).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(trace.tally.get("answered"), Some(&1000));
    assert_eq!(trace.tally.get("a wake"), Some(&1000));
    assert_eq!(trace.tally.get("rejected"), None);
}

/// A month, with a restart every day or two, half of them kills; each minute, and at the end, each day's sums are those of
/// the world's own books.
fn play_month(is_of_groups: bool, seconds_per_day: Option<u64>) -> BTreeMap<&'static str, u64> {
    let options = Options::month(2, is_of_groups, seconds_per_day);
    let trace = play(options).unwrap_or_else(|failure| panic!("{failure}"));
    let tally = trace.tally;
    for what in
        ["a balancer was drained", "a balancer was killed", "a balancer ended while it served", "answered"]
    {
        assert!(tally.contains_key(what), "it never happened: {what}; {tally:#?}");
    }
    for what in ["a balancer began while instances ran", "a history was told late"] {
        assert_eq!(is_of_groups, tally.contains_key(what), "{what}; {tally:#?}");
    }
    tally
}

#[test]
fn the_ledger_of_a_month_of_processes_is_the_worlds_own() {
    play_month(false, None);
}

#[test]
fn the_ledger_of_a_month_of_groups_is_the_worlds_own() {
    play_month(true, None);
}

#[test]
fn no_wake_breaks_the_budget_in_a_month() {
    for is_of_groups in [false, true] {
        let tally = play_month(is_of_groups, Some(3000));
        for what in [
            "told: budget exhausted",
            "a day spent its budget",
            "a wake within the budget",
            "a day whose cost was checked",
        ] {
            assert!(tally.contains_key(what), "it never happened: {what}; {tally:#?}");
        }
    }
}

#[test]
fn a_thousand_cycles_from_zero_to_zero() {
    cycle_a_thousand_times(false);
}

#[test]
fn a_thousand_cycles_of_an_auto_scaling_group() {
    cycle_a_thousand_times(true);
}
