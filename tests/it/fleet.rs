//! The process fleet, with small stand-ins for llama.cpp.

pub mod stand_in;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use paddock::clock::Clock;
use paddock::core::{InstanceId, InstanceObserved, InstanceState, OperationFailure};
use paddock::fleet::{Fleet, FleetError, FleetNews, ProcessConfig};
use stand_in::*;

#[tokio::test]
async fn a_server_is_started_watched_and_stopped() {
    let mark = mark("watched");
    let mut watched = Watched::start(config(&["python3", "-c", SERVER, "{port}", &mark]));
    assert!(watched.observed().await.is_empty(), "the first observation is of nothing");
    let launched = soon(watched.fleet.wake(GROUP, 1)).await.unwrap();
    assert_eq!(launched, [InstanceId::from("process-1")]);
    let observed = watched.observed().await;
    let InstanceObserved { state: InstanceState::Running, address: Some(address), .. } =
        &observed[&launched[0]]
    else {
        panic!("{observed:?}")
    };
    assert!(address.ip().is_loopback());

    let status = watched
        .news(|news| match news {
            FleetNews::Reported { instance, boot, status } => {
                assert_eq!((&instance, boot), (&launched[0], 1));
                assert_eq!(status.external_llamacpp_addr, address.to_string());
                assert_eq!(status.instance_id.as_deref(), Some("process-1"));
                assert_eq!(status.agent_name.as_deref(), Some("stand-in"));
                (status.idle_slots_count > 0).then_some(status)
            }
            FleetNews::Observed { .. } | FleetNews::AgentGone { .. } | FleetNews::LaunchFailed { .. } => None,
        })
        .await;
    assert_eq!((status.idle_slots_count, status.processing_slots_count), (2, 1));

    soon(watched.fleet.terminate(&launched[0], false)).await.unwrap();
    let mut is_agent_gone = false;
    let cause = soon(async {
        loop {
            match watched.news.recv().await.unwrap() {
                FleetNews::Reported { .. } => assert!(!is_agent_gone, "an agent that is gone reported"),
                FleetNews::LaunchFailed { .. } => panic!("a process is not launched by itself"),
                FleetNews::AgentGone { instance } => is_agent_gone = instance == launched[0],
                FleetNews::Observed { instances, .. } => {
                    let state = &instances[&launched[0]].state;
                    if let InstanceState::Ended { cause } = state {
                        break cause.clone();
                    }
                    assert_eq!(*state, InstanceState::Terminating);
                }
            }
        }
    })
    .await;
    assert!(is_agent_gone);
    assert!(cause.starts_with("stopped by paddock (signal: 15 (SIGTERM))"), "{cause}");
    assert_eq!(running(&mark), [0; 0]);
}

#[tokio::test]
async fn a_command_that_fails_leaves_its_last_words() {
    let mut watched = Watched::start(shell("echo loading; echo error: no such model on {port} >&2; exit 7"));
    let (instance, address) = watched.wake_one().await;
    let cause = watched.end(&instance).await;
    assert_eq!(cause, format!("exited with code 7: loading; error: no such model on {}", address.port()));
    // It is named once: the next observation has the next child alone.
    let (next, _) = watched.wake_one().await;
    assert_eq!(next, InstanceId::from("process-2"));
    assert!(!watched.end(&next).await.is_empty());
    until("no zombie", || zombies() == 0).await;
}

#[tokio::test]
async fn a_killed_server_is_told_by_its_signal() {
    let mut watched = Watched::start(shell("echo thinking; kill -SEGV $$"));
    let (instance, _) = watched.wake_one().await;
    let cause = watched.end(&instance).await;
    assert!(cause.starts_with("died (signal: 11 (SIGSEGV)") && cause.ends_with(": thinking"), "{cause}");
}

#[tokio::test]
async fn what_cannot_be_started_is_told_at_once() {
    let unknown = Watched::start(config(&["no-such-llama-server", "--port", "{port}"]));
    let error = soon(unknown.fleet.wake(GROUP, 1)).await.unwrap_err();
    assert!(error.to_string().contains("cannot run `no-such-llama-server`"), "{error}");
    assert_eq!(error.failure(), OperationFailure::Permanent);

    let guard = PathBuf::from("/no/such/paddock");
    let unguarded = Watched::start(ProcessConfig { guard, ..shell("exit 0") });
    let error = soon(unguarded.fleet.wake(GROUP, 1)).await.unwrap_err();
    assert!(error.to_string().contains("cannot run `/no/such/paddock`"), "{error}");
    assert_eq!(error.failure(), OperationFailure::Permanent);

    let error = soon(Fleet::None.wake(GROUP, 1)).await.unwrap_err();
    assert_eq!(error.failure(), OperationFailure::Permanent);
}

#[tokio::test]
async fn a_wake_counts_what_is_there() {
    let mark = mark("counted");
    let mut watched = Watched::start(shell(&sleeper(&mark)));
    let (first, second) =
        soon(async { tokio::join!(watched.fleet.wake(GROUP, 2), watched.fleet.wake(GROUP, 2)) }).await;
    assert_eq!((first.unwrap().len(), second.unwrap().len()), (2, 0));
    assert_eq!(soon(watched.fleet.wake(GROUP, 1)).await.unwrap(), []);
    let mut observed = watched.observed().await;
    while observed.len() < 2 {
        observed = watched.observed().await;
    }
    let addresses: Vec<_> = observed.values().map(|instance| instance.address).collect();
    assert_ne!(addresses[0], addresses[1]);
    assert_eq!(soon(watched.fleet.wake(GROUP, 3)).await.unwrap(), [InstanceId::from("process-3")]);
    until("three servers", || running(&mark).len() == 3).await;
}

#[tokio::test]
async fn a_stubborn_server_is_killed_after_the_grace() {
    let stubborn = async |grace: Duration, name: &str| {
        let deaf = Flag::new(name);
        let script = format!("trap '' TERM; echo deaf; {}; while :; do sleep 0.05; done", deaf.raise());
        let mut watched = Watched::start(ProcessConfig { grace, ..shell(&script) });
        let (instance, _) = watched.wake_one().await;
        deaf.raised().await;
        (watched, instance)
    };
    let (spared, instance) = stubborn(Duration::from_secs(3600), "deaf-for-an-hour").await;
    soon(spared.fleet.terminate(&instance, false)).await.expect("it returns once signalled");

    let grace = Duration::from_millis(300);
    let (mut watched, instance) = stubborn(grace, "deaf").await;
    let clock = Clock::start();
    soon(watched.fleet.terminate(&instance, false)).await.unwrap();
    let cause = watched.end(&instance).await;
    assert!(clock.mono().0 >= grace, "killed before its grace was over");
    assert_eq!(cause, "stopped by paddock (signal: 9 (SIGKILL)): deaf");
    // A repeat, and one that never was.
    soon(watched.fleet.terminate(&instance, false)).await.unwrap();
    soon(watched.fleet.terminate(&"process-99".into(), false)).await.unwrap();
}

#[tokio::test]
async fn a_server_behind_a_shell_gets_its_grace_too() {
    let (ready, tidy) = (Flag::new("inner-ready"), Flag::new("inner-tidy"));
    // The shell is gone at once; the server under it takes its time, and still ends by itself.
    let server = format!(
        "trap 'sleep 0.3; {}; exit 0' TERM; {}; while :; do sleep 0.05; done",
        tidy.raise(),
        ready.raise()
    );
    let mut watched = Watched::start(shell(&format!("( {server} ) & wait; exit 3")));
    let (instance, _) = watched.wake_one().await;
    ready.raised().await;
    soon(watched.fleet.terminate(&instance, false)).await.unwrap();
    let cause = watched.end(&instance).await;
    assert!(cause.starts_with("stopped by paddock (signal: 15 (SIGTERM))"), "{cause}");
    assert!(tidy.is_raised(), "the server was killed while it tidied up");
}

#[tokio::test]
async fn what_a_dead_shell_leaves_behind_is_killed() {
    let (mark, started) = (mark("left-behind"), Flag::new("left-behind"));
    let flag = started.0.display();
    let server = format!("python3 -c 'import time; open(\"{flag}\", \"w\"); time.sleep(600)' {mark}");
    let mut watched =
        Watched::start(shell(&format!("{server} & until [ -e {flag} ]; do sleep 0.01; done; exit 1")));
    let (instance, _) = watched.wake_one().await;
    assert_eq!(watched.end(&instance).await, "exited with code 1");
    until("the end of the group", || running(&mark).is_empty()).await;
}

#[tokio::test]
async fn one_that_ends_counts_until_it_is_gone() {
    let (mark, ready, gone) = (mark("one-place"), Flag::new("one-place"), Flag::new("may-go"));
    let wait = format!("until [ -e {} ]; do sleep 0.01; done; exit 0", gone.0.display());
    let script = format!("trap '{wait}' TERM; {}; while :; do sleep 0.05; done", ready.raise());
    let mut watched = Watched::start(config(&["sh", "-c", &script, &mark, "{port}"]));
    let (first, _) = watched.wake_one().await;
    ready.raised().await;
    soon(watched.fleet.terminate(&first, false)).await.unwrap();
    assert_eq!(soon(watched.fleet.wake(GROUP, 1)).await.unwrap(), []);
    assert_eq!(soon(watched.fleet.wake(GROUP, 2)).await.unwrap(), [InstanceId::from("process-2")]);
    std::fs::write(&gone.0, "").unwrap();
    let cause = watched.end(&first).await;
    assert!(cause.starts_with("stopped by paddock"), "{cause}");
}

#[tokio::test]
async fn a_shutdown_leaves_nothing() {
    let mark = mark("shutdown");
    let watched = Watched::start(shell(&sleeper(&mark)));
    assert_eq!(soon(watched.fleet.wake(GROUP, 3)).await.unwrap().len(), 3);
    until("three servers", || running(&mark).len() == 3).await;
    soon(watched.fleet.shutdown()).await;
    assert_eq!(running(&mark), [0; 0]);
    until("no zombie", || zombies() == 0).await;
    assert!(matches!(soon(watched.fleet.wake(GROUP, 1)).await, Err(FleetError::ShutDown)));
    soon(watched.fleet.shutdown()).await;
}

#[tokio::test]
async fn a_fleet_that_is_dropped_kills_its_servers() {
    let mark = mark("dropped");
    let watched = Watched::start(shell(&format!("{} & wait", sleeper(&mark))));
    soon(watched.fleet.wake(GROUP, 1)).await.unwrap();
    until("a server", || !running(&mark).is_empty()).await;
    drop(watched);
    until("no server", || running(&mark).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_outlives_the_thread_that_asked_for_it() {
    let mark = mark("thread");
    let mut watched = Watched::start(config(&["python3", "-c", SERVER, "{port}", &mark]));
    let (fleet, runtime) = (&watched.fleet, tokio::runtime::Handle::current());
    // The parent-death signal follows the thread that forks; this one ends once the server is there.
    let asking = async {
        fleet.wake(GROUP, 1).await.unwrap();
        until("a server", || !running(&mark).is_empty()).await;
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(asking)).join().unwrap());
    });
    watched
        .news(|news| match news {
            FleetNews::Reported { status, .. } => (status.idle_slots_count > 0).then_some(()),
            FleetNews::AgentGone { .. } => panic!("the server died"),
            FleetNews::Observed { .. } | FleetNews::LaunchFailed { .. } => None,
        })
        .await;
}

#[tokio::test]
async fn no_server_survives_a_killed_balancer() {
    let mark = mark("survivor");
    // Another process runs a real fleet: this very program, asked for the test below.
    let mut balancer = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "fleet::a_balancer_to_be_killed", "--nocapture"])
        .env(BALANCER, &mark)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let runs = |process: &u32| *process != balancer.id();
    until("a server", || running(&mark).iter().any(runs)).await;
    balancer.kill().unwrap();
    assert_eq!(balancer.wait().unwrap().signal(), Some(9));
    until("no server", || running(&mark).is_empty()).await;
}

const BALANCER: &str = "PADDOCK_TEST_BALANCER";

#[tokio::test]
#[ignore = "a process for another test to kill; does nothing by itself"]
async fn a_balancer_to_be_killed() {
    let Ok(mark) = std::env::var(BALANCER) else { return };
    let watched = Watched::start(shell(&sleeper(&mark)));
    watched.fleet.wake(GROUP, 1).await.unwrap();
    tokio::time::sleep(PATIENCE).await;
}

#[test]
fn a_server_does_not_get_the_balancers_secrets() {
    let parent = std::process::id().to_string();
    let mut guard = Command::new(env!("CARGO_BIN_EXE_paddock"));
    guard.args(["exec-child", "--parent", &parent, "--", "env"]);
    guard.env("PADDOCK_MANAGEMENT_TOKEN", "sesame").env("LLAMA_ARG_PORT", "kept");
    let of_the_manager =
        ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];
    guard.envs(of_the_manager.map(|name| (name, "1")));
    let environment = String::from_utf8(guard.output().unwrap().stdout).unwrap();
    assert!(environment.contains("LLAMA_ARG_PORT=kept"), "{environment}");
    assert!(!environment.contains("PADDOCK_") && !environment.contains("sesame"), "{environment}");
    assert!(of_the_manager.iter().all(|name| !environment.contains(name)), "{environment}");
}

#[test]
fn the_guard_refuses_a_parent_that_is_not_its_own() {
    let guard = |parent: u32, command: &str| {
        let parent = parent.to_string();
        let mut guard = Command::new(env!("CARGO_BIN_EXE_paddock"));
        guard.args(["exec-child", "--parent", &parent, "--", command, "ran"]).output().unwrap()
    };
    let own = std::process::id();
    assert_eq!(guard(own, "echo").stdout, b"ran\n");
    let orphan = guard(own + 1, "echo");
    assert!(!orphan.status.success() && orphan.stdout.is_empty());
    assert!(String::from_utf8_lossy(&orphan.stderr).contains("the balancer is gone"));
    let unknown = guard(own, "no-such-llama-server");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("cannot run `no-such-llama-server`"));
}
