//! `paddock dashboard` in a real terminal, before a real balancer.

mod pty;

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cli::{complaint, paddock};
use crate::support::http::RawClient;
use crate::support::program::Paddock;
use crate::support::scripted::{Peer, Scripted};
use crate::support::wait::{eventually, free_addr};
use pty::{CTRL_C, DOWN, ENTER, ESC, Pty, TAB};

const SOON: Duration = Duration::from_secs(10);
const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

fn watch(management: SocketAddr, size: (u16, u16)) -> Pty {
    Pty::start(&["dashboard", "--management-addr", &management.to_string()], &[], size)
}

/// An agent that says this once, and is heard as long as its connection is there.
async fn agent(management: SocketAddr, name: &str, more: Value) -> RawClient {
    let mut report = json!({
        "agent_name": name, "error": null, "external_llamacpp_addr": "127.0.0.1:9001", "idle_slots_count": 2,
        "is_authorized": true, "is_slots_endpoint_enabled": true, "processing_slots_count": 0,
        "slots": [{"id": 0, "is_processing": false}, {"id": 1, "is_processing": false}],
        "heartbeat_ms": 60000, "availability_zone": "eu-central-1a", "group": "llama-spot"
    });
    for (key, value) in more.as_object().unwrap() {
        report[key] = value.clone();
    }
    let (report, id) = (report.to_string(), format!("id-of-{}", name.len()));
    let mut client = RawClient::connect(management).await;
    let head = format!(
        "POST /status_update/{id} HTTP/1.1\r\nHost: {management}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    client.send(format!("{head}{:x}\r\n{report}\r\n", report.len()).into_bytes()).await;
    client
}

/// A balancer with three agents, whose connections must be kept.
async fn three_agents() -> (Paddock, Vec<RawClient>) {
    let balancer = Paddock::start(&[]).await;
    let management = balancer.management();
    let agents = vec![
        agent(management, "alpha", json!({"external_llamacpp_addr": "127.0.0.1:9001"})).await,
        agent(
            management,
            "bravo-2",
            json!({"external_llamacpp_addr": "127.0.0.1:9002", "idle_slots_count": 0, "processing_slots_count": 4}),
        )
        .await,
        agent(
            management,
            "charlie-33",
            json!({"external_llamacpp_addr": "127.0.0.1:9003", "is_slots_endpoint_enabled": false, "slots": [],
                   "idle_slots_count": 0}),
        )
        .await,
    ];
    eventually("three agents", SOON, async || {
        (balancer.state().await["agents"].as_array().unwrap().len() == 3).then_some(())
    })
    .await;
    (balancer, agents)
}

/// In which order these are on the screen.
fn order(screen: &str) -> Vec<&'static str> {
    let mut found: Vec<(usize, &str)> = ["alpha", "bravo-2", "charlie-33"]
        .into_iter()
        .filter_map(|name| Some((screen.find(name)?, name)))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).collect()
}

#[tokio::test]
async fn an_empty_balancer_is_shown_and_quitting_restores_the_terminal() {
    let balancer = Paddock::start(&[]).await;
    let mut view = watch(balancer.management(), SMALL);
    let screen = view
        .shows(&[
            &format!("Paddock {} at {}", env!("CARGO_PKG_VERSION"), balancer.management()),
            "connected",
            "waiting    0",
            "slots      0 of 0 used",
            "instances  none",
            "at zero    nothing runs",
            "queue, ",
            "Agents (0)",
            "no agent is registered",
            "q quit  ? help",
        ])
        .await;
    assert_eq!(screen.lines().count(), 24, "{screen}");
    assert!(!view.is_restored(), "the view has the terminal");
    assert!(view.is_coloured());
    for keys in [DOWN, "j", "k", "G", ENTER, "s", "r", "/x", ENTER] {
        view.press(keys);
    }
    view.shows(&["no agent matches the filter"]).await;
    // With a key right behind it, Escape would be Alt.
    view.press(ESC);
    view.shows(&["no agent is registered"]).await;
    view.press("?");
    view.shows(&["Keys", "sort by the next column"]).await;
    view.press("q");
    assert_eq!(view.ended().await, 0);
    assert!(view.is_restored(), "{}", view.text());
    assert_eq!(view.text().trim(), "", "nothing is left on the first screen");
}

#[tokio::test]
async fn agents_are_sorted_filtered_and_shown_in_detail() {
    let (balancer, _agents) = three_agents().await;
    let mut view = watch(balancer.management(), SMALL);
    let screen = view
        .shows(&["Name▲", "Issues", "llama.cpp", "Updated", "Idle", "Processing", "slots      4 of 6 used"])
        .await;
    assert_eq!(order(&screen), ["alpha", "bravo-2", "charlie-33"], "{screen}");
    let row = screen.lines().find(|line| line.contains("bravo-2")).unwrap();
    assert!(row.contains("127.0.0.1:9002") && row.contains(" ago "), "{row}");
    assert!(row.split_whitespace().rev().take(2).eq(["4", "0"]), "{row}");

    view.press("r");
    let screen = view.shows(&["Name▼"]).await;
    assert_eq!(order(&screen), ["charlie-33", "bravo-2", "alpha"], "{screen}");
    view.press("s");
    view.shows(&["Issues▼"]).await;
    view.press("S");
    let screen = view.shows(&["Issues▲"]).await;
    assert_eq!(order(&screen)[0], "charlie-33", "who has an issue comes first: {screen}");

    view.press("/brav");
    view.shows(&["filter: brav", "Agents (1 of 3 with 'brav')"]).await;
    view.press(ENTER);
    view.hides("filter:").await;
    view.press(ENTER);
    view.shows(&[
        "┌ bravo-2 ",
        "no issue: requests may go there",
        "0 idle, 4 processing, 4 in all",
        "id-of-7",
    ])
    .await;
    view.press(ESC);
    view.hides("┌ bravo-2").await;
    view.press(ESC);
    view.shows(&["Agents (3)"]).await;

    view.press("g");
    view.press(ENTER);
    view.shows(&["┌ charlie-33 ", "slots disabled: llama.cpp's /slots is off", "zone       eu-central-1a"])
        .await;
    view.press(CTRL_C);
    assert_eq!(view.ended().await, 0);
    assert!(view.is_restored());
}

#[tokio::test]
async fn the_view_follows_the_terminals_size() {
    let (balancer, _agents) = three_agents().await;
    let mut view = watch(balancer.management(), LARGE);
    let all = ["Agents (3)", "Boots (", "Happenings (", "Phase", "Leases", "Instance", "Zone", "Group"];
    let screen = view.shows(&all).await;
    assert_eq!(screen.lines().count(), 50, "{screen}");
    let row = screen.lines().find(|line| line.contains("alpha")).unwrap();
    assert!(row.contains("eu-central-1a") && row.contains("llama-spot") && row.contains("ready"), "{row}");
    view.resize(80, 24);
    view.until("one panel", |screen| screen.lines().count() == 24 && !screen.contains("Zone")).await;
    view.press(TAB);
    let screen = view.shows(&["no instance has started yet"]).await;
    assert!(order(&screen).is_empty(), "{screen}");
    view.resize(30, 8);
    view.shows(&["This terminal has 30 columns"]).await;
    view.resize(160, 50);
    view.shows(&all).await;
    view.press("q");
    assert_eq!(view.ended().await, 0);
}

#[tokio::test]
async fn a_queue_and_a_start_are_seen() {
    // It never listens: its start goes on for as long as the test does.
    let command = ["--", "sh", "-c", "exec sleep 600", "llama-server", "{port}"];
    let balancer = Paddock::start(&command).await;
    let mut view = watch(balancer.management(), SMALL);
    view.shows(&["at zero"]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = RawClient::connect(balancer.proxy()).await;
        client.post("/v1/chat/completions", &json!({"model": "any", "messages": []})).await;
        clients.push(client);
    }
    let screen = view
        .shows(&["waiting    3", "instances  1 booting", "starting   ", "% ", "queue, ", "at most 3"])
        .await;
    assert!(screen.contains('█'), "the sparkline has its column: {screen}");
    view.hides("at zero").await;
    view.sigterm();
    assert_eq!(view.ended().await, 0);
    assert!(view.is_restored(), "after SIGTERM too");
}

#[tokio::test]
async fn a_lost_balancer_is_waited_for() {
    let (proxy, management) = (free_addr(), free_addr());
    let mut view = watch(management, SMALL);
    view.shows(&["connecting since", "connection refused", "cannot reach the balancer", "--management-addr"])
        .await;
    let mut balancer = Paddock::start_on(proxy, management, &[]).await;
    let agent_1 = agent(management, "alpha", json!({})).await;
    view.shows(&["connected", "alpha"]).await;
    drop(agent_1);
    balancer.sigterm();
    assert!(balancer.wait().await.success());
    let screen = view.shows(&["reconnecting since", "connection refused"]).await;
    assert!(screen.contains("waiting    0"), "what was known stays: {screen}");
    let balancer = Paddock::start_on(proxy, management, &[]).await;
    view.shows(&["connected again after"]).await;
    let _agent = agent(management, "bravo", json!({})).await;
    view.shows(&["bravo"]).await;
    view.press("q");
    assert_eq!(view.ended().await, 0);
    drop(balancer);
}

#[tokio::test]
async fn without_colours_there_is_none_and_a_token_lets_in() {
    let balancer = Paddock::start(&["--management-token", "sesame"]).await;
    let management = balancer.management().to_string();
    let args = ["dashboard", "--management-addr", &management];
    let environment = [("NO_COLOR", "1"), ("PADDOCK_MANAGEMENT_TOKEN", "sesame")];
    let mut view = Pty::start(&args, &environment, SMALL);
    view.shows(&["connected", "at zero"]).await;
    assert!(!view.is_coloured());
    view.press("q");
    assert_eq!(view.ended().await, 0);
    // A mistake is said on the screen that stays.
    let mut view = Pty::start(&args, &[], SMALL);
    assert_eq!(view.ended().await, 1);
    view.shows(&["wants its management token"]).await;
    assert!(view.is_restored());
}

#[tokio::test]
async fn the_log_has_colours_where_they_are_wanted() {
    for (no_color, is_coloured) in [("", true), ("1", false)] {
        let (proxy, management) = (free_addr().to_string(), free_addr().to_string());
        let args = ["balancer", "--reverseproxy-addr", &proxy, "--management-addr", &management];
        let log = Pty::start(&args, &[("NO_COLOR", no_color)], LARGE);
        log.shows(&["INFO", "clients on "]).await;
        assert_eq!(log.is_coloured(), is_coloured, "NO_COLOR={no_color}");
        log.sigterm();
    }
}

/// A server that gives everybody this answer; none for one that never answers.
async fn impostor(answer: Option<(&str, String)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.map(|(status, body)| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if let Some(answer) = &answer {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            } else {
                kept.push(stream);
            }
        }
    });
    address
}

#[tokio::test]
async fn a_hostile_balancer_cannot_act_on_the_terminal() {
    let (balancer, _agents) = three_agents().await;
    let mut state = balancer.state().await;
    state["agents"][0]["agent_name"] = json!("\u{1b}[2J\u{1b}[?1049l\u{7}\u{202e}evil\r\n");
    state["agents"][1]["agent_name"] = json!("模型服务器 ".repeat(100));
    state["version"] = json!("\u{1b}]0;title\u{7}9\u{9b}2J");
    let address = impostor(Some(("200 OK", state.to_string()))).await;
    let json = printed(address, &["--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), state);
    assert!(!json.contains(['\u{202e}', '\u{9b}']), "escaped, and the same: {json}");
    let mut view = watch(address, SMALL);
    let screen = view.shows(&["evil", "模型", "Agents (3)", "q quit"]).await;
    let columns: Vec<usize> = screen
        .lines()
        .filter_map(|line| Some(line.split_once("127.0.0.1:900")?.0))
        .map(|before| before.chars().map(|c| if c > '\u{2e80}' && c != '\u{fffd}' { 2 } else { 1 }).sum())
        .collect();
    assert!(
        columns.len() == 3 && columns.iter().all(|column| *column == columns[0]),
        "{columns:?}\n{screen}"
    );
    view.press("q");
    assert_eq!(view.ended().await, 0);
    assert!(view.is_restored());
}

/// Each question takes all of its time, so there is only the one that matters.
#[tokio::test]
async fn a_balancer_that_hangs_is_asked_for_its_state_alone() {
    let (asked, mut paths) = tokio::sync::mpsc::unbounded_channel();
    let silent = Scripted::start(move |mut peer: Peer, _| {
        let asked = asked.clone();
        async move {
            let head = peer.request().await.unwrap_or_default();
            let _ = asked.send(head.split(' ').nth(1).unwrap_or_default().to_owned());
            peer.until_closed().await;
        }
    })
    .await;
    let _view = watch(silent.addr, SMALL);
    for round in 0..3 {
        let path = tokio::time::timeout(3 * SOON, paths.recv()).await.unwrap();
        assert_eq!(path.as_deref(), Some("/api/v1/state"), "question {round}");
    }
}

/// Runs it to its end, beside the servers of this test.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn dashboard(management: SocketAddr, args: &[&str]) -> Command {
    let mut command = paddock();
    command.args(["dashboard", "--management-addr", &management.to_string()]).args(args);
    command
}

async fn printed(management: SocketAddr, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(dashboard(management, args)).await;
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success() && stderr.is_empty(), "{args:?}: {status}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

#[tokio::test]
async fn once_is_a_plain_table_and_json_the_snapshot() {
    let (balancer, _agents) = three_agents().await;
    let table = printed(balancer.management(), &["--once"]).await;
    assert!(!table.contains('\x1b'), "{table:?}");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[1..4], ["waiting    0", "slots      4 of 6 used", "instances  none"], "{table}");
    let titles = lines.iter().position(|line| line.starts_with("Name ")).unwrap();
    assert_eq!(lines.len(), titles + 4, "{table}");
    let address = lines[titles].find("llama.cpp").unwrap();
    for (line, port) in lines[titles + 1..].iter().zip(9001..) {
        assert!(line[address..].starts_with(&format!("127.0.0.1:{port}  ")), "{table}");
    }
    assert!(
        lines[titles + 3].contains("slots disabled: llama.cpp's /slots is off: start llama-server without")
    );

    let told: Value = serde_json::from_str(&printed(balancer.management(), &["--json"]).await).unwrap();
    let state = balancer.state().await;
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&told), keys(&state));
    assert_eq!(keys(&told["agents"][0]), keys(&state["agents"][0]));
    assert_eq!(told["agents"][2]["agent_id"], state["agents"][2]["agent_id"]);

    let mut small = Pty::start(
        &["dashboard", "--management-addr", &balancer.management().to_string(), "--once"],
        &[],
        (60, 24),
    );
    assert_eq!(small.ended().await, 0);
    let screen = small.shows(&["charlie-33"]).await;
    assert!(screen.lines().any(|line| line.contains('…')), "it fits the terminal: {screen}");
    assert!(!small.is_coloured());

    let management = balancer.management().to_string();
    let mut unknown = Pty::start(&["dashboard", "--management-addr", &management, "--once"], &[], (0, 24));
    assert_eq!(unknown.ended().await, 0);
    let screen = unknown.shows(&["waiting    0", "charlie-33"]).await;
    assert!(!screen.contains('…'), "as long as it must be: {screen}");
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_error() {
    let balancer = Paddock::start(&[]).await;
    for form in ["--once", "--json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = dashboard(balancer.management(), &[form]);
        command.stdout(Stdio::from(writer));
        let Output { status, stderr, .. } = tokio::task::spawn_blocking(move || {
            command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
        })
        .await
        .unwrap();
        assert!(status.success() && stderr.is_empty(), "{form}: {}", String::from_utf8_lossy(&stderr));
    }
}

#[tokio::test]
async fn each_failure_is_one_line_with_its_mend() {
    let balancer = Paddock::start(&["--management-token", "sesame"]).await;
    let nobody = free_addr();
    let no_state = impostor(Some(("404 Not Found", "no such page".to_owned()))).await;
    let no_json = impostor(Some(("200 OK", "<html>".to_owned()))).await;
    let other = impostor(Some(("200 OK", json!({"version": "9.9", "pools": [{}]}).to_string()))).await;
    let forbidden = impostor(Some((
        "403 Forbidden",
        json!({"error": {"code": "forbidden", "message": "not under\nthis name"}}).to_string(),
    )))
    .await;
    let endless = impostor(Some(("200 OK", " ".repeat((16 << 20) + 1)))).await;
    let silent = impostor(None).await;
    let token = ["--management-token", "wrong"];
    for (address, args, says) in [
        (
            nobody,
            &[][..],
            "cannot reach the balancer at ADDR: connection refused; is it running? --management-addr",
        ),
        (
            balancer.management(),
            &[],
            "ADDR wants its management token; give --management-token-file or --manage",
        ),
        (
            balancer.management(),
            &token,
            "ADDR does not accept this token; give the one that it was started with",
        ),
        (
            no_state,
            &[],
            "answers at ADDR is not the management address of a Paddock balancer (status 404 for",
        ),
        (
            balancer.proxy(),
            &[],
            "answers at ADDR is not the management address of a Paddock balancer (status",
        ),
        (no_json, &[], "not the management address of a Paddock balancer (its state is no JSON)"),
        (other, &[], "the balancer at ADDR is version 9.9, whose state version"),
        (endless, &[], "not the management address of a Paddock balancer (an answer of more than 16 MiB)"),
        (forbidden, &[], "the balancer at ADDR refuses: not under\u{fffd}this name"),
        (silent, &[], "the balancer at ADDR did not answer within 5 s; does it run"),
    ] {
        let mut command = dashboard(address, &[&["--once"], args].concat());
        let line = tokio::task::spawn_blocking(move || complaint(&mut command, 1)).await.unwrap();
        let says = says.replace("ADDR", &address.to_string());
        assert!(line.contains(&says), "{line}\nhas not: {says}");
    }
    // JSON is for programs: it is the balancer's own, whatever its version.
    let told = printed(other, &["--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["version"], "9.9");
}

#[tokio::test]
async fn without_a_terminal_other_forms_are_named() {
    let balancer = Paddock::start(&[]).await;
    let mut command = dashboard(balancer.management(), &[]);
    let line = tokio::task::spawn_blocking(move || complaint(&mut command, 2)).await.unwrap();
    assert_eq!(
        line,
        "standard output is not a terminal: write --once for a table or --json for the whole state"
    );
}
