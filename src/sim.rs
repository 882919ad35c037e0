//! The real core in a world of seeded accidents, in virtual time.
//!
//! A seed chooses the limits, the load and the faults ([`Options`]). The world models clients, llama.cpp servers, agents
//! and fleets; between them and the core stands a model of the shells. Faults happen until they heal; from then on
//! everything must be answered, and the fleets must come to rest. After each event the core checks itself, and the world
//! checks by its own books what the core promises.
//!
//! **Invariant:** the same options give the same bytes.

mod agents;
mod books;
mod checks;
mod clients;
mod faults;
mod fleet;
mod groups;
mod hosts;
mod options;
mod restarts;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::fmt;

pub use self::options::{Options, PoolOptions};
use self::world::World;

/// Lines of the log that a failure shows.
const TAIL: usize = 60;

/// What happened, line by line, and how often each kind of thing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Every event, command and action.
    pub log: String,
    /// Counts by kind.
    pub tally: BTreeMap<&'static str, u64>,
}

/// A broken promise, with what is needed to see it again.
#[derive(Debug, thiserror::Error)]
pub struct Failure {
    /// The world's options, its seed among them.
    pub options: Options,
    /// What was broken.
    pub why: String,
    /// The whole log.
    pub log: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.options.seed;
        let lines: Vec<&str> = self.log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        writeln!(f, "seed {seed}: {}\n{:#?}\n{tail}", self.why, self.options)?;
        write!(
            f,
            "seed {seed}: {}\nagain: PADDOCK_SIM_SEED={seed} cargo nextest run sim::tests::one_seed",
            self.why
        )
    }
}

/// Plays the world of a seed.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64) -> Result<Trace, Box<Failure>> {
    play(Options::from_seed(seed))
}

/// Plays a world.
///
/// # Errors
/// The first promise that was broken.
pub fn play(options: Options) -> Result<Trace, Box<Failure>> {
    let mut world = World::new(options);
    world.play();
    world.check_end();
    match world.failure {
        None => Ok(Trace { log: world.log, tally: world.tally }),
        Some(why) => Err(Box::new(Failure { options: world.options, why, log: world.log })),
    }
}
