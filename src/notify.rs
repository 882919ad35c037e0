//! What a service manager is told, by sd_notify(3): that the program serves, that it ends and, for a watchdog, that it
//! works on. Where no `NOTIFY_SOCKET` is, nobody is told anything.
//!
//! A sign of life that comes from a thread of its own says nothing about the others. So one is sent from the runtime that
//! the other tasks are on, and only after what may hang unseen was asked: in a balancer the lock over the state and each
//! thread that serves clients, in an agent its looks at llama.cpp. Other tasks are not asked: each waits for one thing at
//! a time within time limits of its own, and its end is an error that ends the program.

use std::env;
use std::ffi::OsString;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::sleep;

/// Between two looks for whether all is well, until it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// So many looks in a row that find something unwell are worth a line in the log.
const UNWELL_LOOKS: u32 = 10;

/// Where the service manager listens, as it says itself.
const SOCKET: &str = "NOTIFY_SOCKET";

/// What does not work.
pub type Unwell = &'static str;

/// Tells that the program serves, once all is well; from then on twice in the time that the watchdog allows that all still
/// is. Runs until it is dropped, or for as long as there is anything to tell.
pub async fn keep(look: impl Fn() -> Result<(), Unwell>) {
    signs(env::var_os(SOCKET), sd_notify::watchdog_enabled(), look, tell).await;
}

/// Tells that the program has begun to end.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

async fn signs(
    socket: Option<OsString>,
    watchdog: Option<Duration>,
    look: impl Fn() -> Result<(), Unwell>,
    tell: impl Fn(&NotifyState<'_>),
) {
    if socket.is_none() {
        return;
    }
    until_well(&look).await;
    tell(&NotifyState::Ready);
    let Some(allowed) = watchdog else { return };
    loop {
        sleep(allowed / 2).await;
        until_well(&look).await;
        tell(&NotifyState::Watchdog);
    }
}

async fn until_well(look: &impl Fn() -> Result<(), Unwell>) {
    let mut looks = 0;
    while let Err(unwell) = look() {
        looks += 1;
        if looks == UNWELL_LOOKS {
            tracing::warn!("{unwell}: the service manager gets no sign of life until that is over");
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::warn!(%error, "{SOCKET}: the service manager cannot be told {state}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::timeout;

    use super::*;

    /// What was told within `span`.
    async fn told(
        span: Duration,
        watchdog: Option<Duration>,
        look: impl Fn() -> Result<(), Unwell>,
    ) -> Vec<String> {
        let told = RefCell::new(Vec::new());
        let signs =
            signs(Some("/notify".into()), watchdog, look, |state| told.borrow_mut().push(state.to_string()));
        let _ = timeout(span, signs).await;
        told.into_inner()
    }

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    #[tokio::test(start_paused = true)]
    async fn a_sign_comes_twice_in_the_time_that_is_allowed() {
        let told = told(SECONDS(46), Some(SECONDS(30)), || Ok(())).await;
        assert_eq!(told, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_readiness_is_all() {
        assert_eq!(told(SECONDS(3600), None, || Ok(())).await, ["READY=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_service_manager_nobody_looks() {
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            Err("it hangs")
        };
        let over = timeout(SECONDS(3600), signs(None, Some(SECONDS(30)), look, |_| {})).await;
        assert_eq!((over.is_ok(), looks.get()), (true, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unwell_stops_the_signs_until_it_is_over() {
        assert_eq!(
            told(SECONDS(3600), Some(SECONDS(30)), || Err("it hangs")).await,
            [""; 0],
            "nor is it ready"
        );

        let looks = Cell::new(0);
        let hangs_later = || {
            looks.set(looks.get() + 1);
            if looks.get() > 2 { Err("it hangs") } else { Ok(()) }
        };
        let hung = told(SECONDS(3600), Some(SECONDS(30)), hangs_later).await;
        assert_eq!(hung, ["READY=1", "WATCHDOG=1"]);

        looks.set(0);
        let recovers = || {
            looks.set(looks.get() + 1);
            if looks.get() == 2 { Err("it hangs") } else { Ok(()) }
        };
        // 15 s, a look later, and 15 s more.
        let recovered = told(SECONDS(31), Some(SECONDS(30)), recovers).await;
        assert_eq!(recovered, ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
    }
}
