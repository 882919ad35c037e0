use std::sync::Arc;

use super::*;
use crate::core::{InstanceId, Notice};
use crate::dashboard::sample;

fn only(patch: impl FnOnce(&mut Agent)) -> Vec<String> {
    let mut state = sample::serving();
    patch(&mut state.agents[0]);
    issues(&state.agents[0], &state)
}

#[test]
fn a_sound_agent_has_no_issue() {
    assert_eq!(only(|_| {}), Vec::<String>::new());
}

#[test]
fn every_issue_is_said_with_its_mend() {
    assert_eq!(
        only(|agent| agent.is_authorized = Some(false)),
        ["unauthorised: llama.cpp refuses the agent's key; give the agent --llamacpp-api-key"]
    );
    assert_eq!(
        only(|agent| agent.is_slots_endpoint_enabled = Some(false)),
        ["slots disabled: start llama-server without --no-slots"]
    );
    // The balancer says it in its own words, once.
    assert_eq!(
        only(|agent| {
            agent.is_authorized = Some(false);
            agent.error = Some("set the key".into());
        }),
        ["unauthorised: set the key"]
    );
    assert_eq!(only(|agent| agent.error = Some("no route".into())), ["no route"]);
    assert_eq!(only(|agent| agent.phase = Phase::Loading), ["loading the model"]);
    assert_eq!(only(|agent| agent.phase = Phase::Starting), ["starting: nothing answers on its port yet"]);
    assert_eq!(only(|agent| agent.phase = Phase::Failing), ["failing: what llama.cpp answers is of no use"]);
}

#[test]
fn silence_and_quarantine_have_their_times() {
    // The sample is of 00:16:40 UTC.
    let ago = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - seconds);
    assert_eq!(
        only(|agent| {
            agent.is_connected = false;
            agent.last_update = ago(34);
        }),
        ["disconnected, silent since 00:16:06 UTC (34 s)"]
    );
    assert_eq!(
        only(|agent| {
            agent.is_eligible = false;
            agent.last_update = ago(70);
        }),
        ["silent since 00:15:30 UTC (1 min 10 s)"]
    );
    assert_eq!(
        only(|agent| {
            agent.is_eligible = false;
            agent.last_update = ago(0);
        }),
        ["not used: a later agent has its address, or its instance ended"]
    );
    assert_eq!(
        only(|agent| agent.quarantined_until = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1012))),
        ["quarantined until 00:16:52 UTC (12 s)"]
    );
}

#[test]
fn drains_have_their_reasons() {
    let notice = |reason, left| only(|agent| agent.notice = Some(Notice { reason, left }));
    assert_eq!(
        notice(NoticeReason::SpotInterruption, Some(Duration::from_secs(93))),
        ["draining because the spot market takes its machine back, in 1 min 33 s"]
    );
    assert_eq!(
        notice(NoticeReason::RebalanceRecommendation, None),
        ["draining because the spot market may take its machine back soon"]
    );
    assert_eq!(notice(NoticeReason::LifecycleTermination, None), ["draining because its group ends it"]);
    for (drain, says) in [
        (Drain::Idle, "draining because it was idle"),
        (Drain::Fault, "draining because it did not come up, or was not heard"),
        (Drain::Notice, "draining because its group ends it"),
        (Drain::Budget, "draining because the day has cost as much as it may"),
    ] {
        let mut state = sample::booting();
        state.agents = sample::serving().agents;
        state.agents[0].instance = Some(InstanceId::from("i-booting"));
        state.pools[0].instances[0].drain = Some(drain);
        assert_eq!(issues(&state.agents[0], &state), [says]);
    }
}

#[test]
fn what_a_server_may_say_is_no_panic() {
    let mut state = sample::serving();
    state.at_seconds = f64::NAN;
    state.agents[0].is_connected = false;
    assert_eq!(issues(&state.agents[0], &state).len(), 1);
    state.at_seconds = 1e300;
    assert_eq!(taken_at(&state), SystemTime::UNIX_EPOCH);
    state.agents[0].error = Some(Arc::from(""));
    assert_eq!(issues(&state.agents[0], &state).len(), 2);
}

#[test]
fn spans_and_sums_are_short() {
    for (seconds, says) in [
        (0.0, "0 s"),
        (0.04, "0 s"),
        (0.42, "0.4 s"),
        (0.97, "1 s"),
        (59.4, "59 s"),
        (60.0, "1 min"),
        (200.0, "3 min 20 s"),
        (7500.0, "2 h 5 min"),
        (273_600.0, "3 d 4 h"),
        (-1.0, "?"),
        (f64::NAN, "?"),
        (f64::INFINITY, "?"),
    ] {
        assert_eq!(span(seconds), says);
    }
    assert_eq!(span(f64::MAX), span(u64::MAX as f64));
    for (sum, says) in
        [(0.0, "$0.00"), (0.004, "$0.0040"), (12.345, "$12.35"), (-0.5, "-$0.50"), (f64::NAN, "?")]
    {
        assert_eq!(usd(sum), says);
    }
}
