//! Machines that run: llama.cpp, a real agent, and a balancer that sees them.

use std::time::Duration;

use aws_config::imds::Client;
use serde_json::{Value, json};

use super::{NEVER, SOON, set_desired, start, try_terminate, until_states};
use crate::support::fake_aws::{
    AgentConfig, Ended, EndedBy, External, FakeAws, GroupConfig, GroupHandle, Hook, Lifecycle, LlamaConfig,
    MachineConfig, Times,
};
use crate::support::fake_llama::FakeConfig;
use crate::support::http::{self, RawClient};
use crate::support::program::Paddock;
use crate::support::real_llama::{RealOptions, chat_for};
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";

/// A group whose machines report to `paddock`.
fn reporting_to(paddock: &Paddock) -> GroupConfig {
    let agent = AgentConfig::Started {
        management: vec![paddock.management()],
        external: External::Plain,
        flags: vec!["--monitoring-interval".to_owned(), "100ms".to_owned()],
    };
    GroupConfig { machine: MachineConfig { agent, ..MachineConfig::default() }, ..GroupConfig::default() }
}

/// A group whose machines run a fake llama.cpp alone.
fn without_agents() -> GroupConfig {
    GroupConfig { desired: 1, ..GroupConfig::default() }
}

async fn until_slots(paddock: &Paddock, slots: usize) -> Value {
    let what = format!("the balancer knows {slots} slots");
    eventually(&what, SOON, async || {
        let state = paddock.state().await;
        (state["pools"][0]["slots_total"] == slots).then_some(state)
    })
    .await
}

async fn until_ended(fake: &FakeAws, count: usize) -> Vec<Ended> {
    let what = format!("{count} machines ended");
    eventually(&what, SOON, async || Some(fake.ended()).filter(|ended| ended.len() == count)).await
}

/// The first machine's llama.cpp and a stream that runs there until it is released.
async fn streaming(group: &GroupHandle) -> (String, RawClient) {
    let machine = eventually("a machine's llama.cpp runs", SOON, async || {
        group.machines().into_iter().find(|machine| machine.llama().is_some())
    })
    .await;
    let mut client = RawClient::connect(machine.addr()).await;
    client.post(CHAT, &json!({ "stream": true, "fake": { "hold_stream": "on" } })).await;
    client.head().await;
    client.chunk().await.unwrap().unwrap();
    (machine.id().to_owned(), client)
}

#[tokio::test]
async fn an_instance_boots_an_agent_that_registers_and_its_end_ends_both() {
    let paddock = Paddock::start(&[]).await;
    let (fake, group, client) = start(reporting_to(&paddock)).await;
    set_desired(&client, 2).await;
    let state = until_slots(&paddock, 8).await;
    let machines = group.machines();
    let agents = state["agents"].as_array().unwrap().iter();
    let told: Vec<&str> = agents.map(|agent| agent["external_llamacpp_addr"].as_str().unwrap()).collect();
    for machine in &machines {
        assert!(told.contains(&machine.addr().to_string().as_str()), "{state}");
        assert!(machine.has_agent() && !machine.addr().ip().to_string().starts_with("127.0.0."));
    }
    assert_ne!(machines[0].addr().ip(), machines[1].addr().ip());

    let answer = http::post_json(paddock.proxy(), CHAT, &json!({})).await;
    assert_eq!(answer.status, 200);
    try_terminate(&client, machines[0].id(), true).await.unwrap();
    until_slots(&paddock, 4).await;
    assert!(http::try_get(machines[0].addr(), "/health").await.is_none(), "nobody listens");
    assert!(!machines[0].has_agent() && machines[0].is_gone() && !machines[1].is_gone());
    assert!(!machines[0].agent_output().is_empty());
    let ended = until_ended(&fake, 1).await;
    assert_eq!((ended[0].by, ended[0].busy, ended[0].group.as_str()), (EndedBy::TerminateCall, 0, "gpu"));
    assert!(fake.busy_killed().is_empty());
}

#[tokio::test]
async fn a_machine_may_boot_late_load_long_or_never_register() {
    let paddock = Paddock::start(&[]).await;
    let times = Times { boot: Duration::from_millis(500), load: NEVER, ..Times::default() };
    let (fake, group, client) = start(GroupConfig { times, ..reporting_to(&paddock) }).await;
    set_desired(&client, 1).await;
    until_states(&client, &["InService"]).await;
    let in_service = group.instances()[0].since;
    let machine = group.machines().remove(0);
    eventually("llama.cpp runs", SOON, async || machine.llama()).await;
    assert!(fake.clock().mono().since(in_service) >= times.boot, "in service is not yet booted");
    eventually("the agent reports that the model loads", SOON, async || {
        let state = paddock.state().await;
        (state["agents"][0]["phase"] == "loading").then_some(())
    })
    .await;
    assert_eq!(http::get(machine.addr(), "/health").await.status, 503);
    machine.llama().unwrap().set_loading(false);
    until_slots(&paddock, 4).await;

    group.silence_next_boots(1);
    set_desired(&client, 2).await;
    eventually("the second llama.cpp runs", SOON, async || group.machines().get(1)?.llama()).await;
    assert!(!group.machines()[1].has_agent());
}

#[tokio::test]
async fn what_was_busy_when_it_was_ended_is_kept() {
    let (fake, group, client) = start(without_agents()).await;
    let (id, mut stream) = streaming(&group).await;
    try_terminate(&client, &id, true).await.unwrap();
    let ended = until_ended(&fake, 1).await;
    assert_eq!((ended[0].id.as_str(), ended[0].busy), (id.as_str(), 1));
    assert_eq!(fake.busy_killed(), ended);
    assert_eq!(fake.harm().len(), 1, "{:?}", fake.harm());
    assert!(!stream.body().await.1, "the stream was cut");
}

#[tokio::test]
async fn a_spot_instance_is_told_and_then_taken() {
    let (fake, group, client) = start(without_agents()).await;
    let (id, mut stream) = streaming(&group).await;
    let machine = group.machine(&id);
    let metadata = Client::builder().endpoint(machine.imds().endpoint()).unwrap().build();
    let target = "/latest/meta-data/autoscaling/target-lifecycle-state";
    assert_eq!(metadata.get(target).await.unwrap().as_ref(), "InService");

    group.interrupt(&id, NEVER);
    let action = metadata.get("/latest/meta-data/spot/instance-action").await.unwrap();
    assert!(action.as_ref().contains("\"terminate\""), "{action:?}");
    assert!(fake.ended().is_empty(), "there is still time");
    group.interrupt(&id, Duration::ZERO);
    let ended = until_ended(&fake, 1).await;
    assert_eq!((ended[0].by, ended[0].busy), (EndedBy::Spot, 1));
    assert!(fake.harm().is_empty(), "that was no caller's doing");
    assert!(!stream.body().await.1, "the stream was cut");
    eventually("a replacement is in service", SOON, async || {
        let ids = group.ids(Lifecycle::InService);
        (ids.len() == 1 && ids[0] != id).then_some(())
    })
    .await;
    until_states(&client, &["InService"]).await;
    assert_eq!((group.desired(), group.launched()), (1, 2));
}

#[tokio::test]
async fn a_held_instance_reads_that_it_is_to_end() {
    let hooks = vec![Hook::terminating("drain", NEVER)];
    let (fake, group, client) = start(GroupConfig { hooks, ..without_agents() }).await;
    let (id, mut stream) = streaming(&group).await;
    let machine = group.machine(&id);
    let metadata = Client::builder().endpoint(machine.imds().endpoint()).unwrap().build();
    group.end_by_aws(&id);
    let target = metadata.get("/latest/meta-data/autoscaling/target-lifecycle-state").await.unwrap();
    assert_eq!(target.as_ref(), "Terminated");
    machine.llama().unwrap().release("on");
    assert!(stream.body().await.1, "the hook leaves it the time to finish");
    let call = client.complete_lifecycle_action().auto_scaling_group_name("gpu").instance_id(&id);
    until_states(&client, &["Terminating:Wait", "InService"]).await;
    call.lifecycle_hook_name("drain").lifecycle_action_result("CONTINUE").send().await.unwrap();
    assert_eq!(until_ended(&fake, 1).await[0].busy, 0);
}

#[tokio::test]
async fn a_real_llama_cpp_runs_on_an_instance_too() {
    let machine =
        MachineConfig { llama: LlamaConfig::Real(RealOptions::default()), ..MachineConfig::default() };
    let (fake, group, client) = start(GroupConfig { machine, ..without_agents() }).await;
    let machine = eventually("a machine runs", SOON, async || group.machines().pop()).await;
    eventually("llama.cpp is healthy", Duration::from_secs(20), async || {
        http::try_get(machine.addr(), "/health").await.filter(|answer| answer.status == 200)
    })
    .await;
    let mut stream = RawClient::connect(machine.addr()).await;
    stream.post(CHAT, &chat_for(Duration::from_secs(5), true)).await;
    stream.head().await;
    stream.chunk().await.unwrap().unwrap();
    try_terminate(&client, machine.id(), true).await.unwrap();
    assert_eq!(until_ended(&fake, 1).await[0].busy, 1);
    assert!(!stream.body().await.1, "the stream was cut");
}

#[tokio::test]
async fn dropping_the_fake_ends_every_machine() {
    let config = GroupConfig { desired: 2, ..GroupConfig::default() };
    let llama = LlamaConfig::Fake(FakeConfig::default());
    let machine = MachineConfig { llama, ..MachineConfig::default() };
    let (fake, group, _client) = start(GroupConfig { machine, ..config }).await;
    let up = async || group.machines().len() == 2 && group.machines().iter().all(|one| one.llama().is_some());
    eventually("both run", SOON, async || up().await.then_some(())).await;
    let addrs: Vec<_> = group.machines().iter().map(|machine| machine.addr()).collect();
    drop((fake, group));
    for addr in addrs {
        eventually("it is gone", SOON, async || http::try_get(addr, "/health").await.is_none().then_some(()))
            .await;
    }
}
