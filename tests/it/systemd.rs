//! The socket units, under a real systemd: a user's manager in namespaces of its own, which sees no process but its own.
//! Where it may have no namespaces, these tests say so and do nothing.

use std::fs;
use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::documents::root;
use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::folder::Folder;
use crate::support::http::{self, RawClient};
use crate::support::program::{Paddock, Program};
use crate::support::tool;
use crate::support::wait::{eventually, free_addr};
use crate::upgrade::Load;

const SOON: Duration = Duration::from_secs(30);
const MANAGER: &str = "/lib/systemd/systemd";
const NAMESPACES: [&str; 6] = ["--pid", "--mount", "--cgroup", "--fork", "--mount-proc", "--kill-child"];
const SERVICE: &str = "paddock-balancer.service";
const SOCKETS: [(&str, &str); 2] = [("paddock-proxy.socket", "8080"), ("paddock-management.socket", "8085")];

/// What of the units means the same to a user's manager. Hardening, credentials and the order of a boot do not.
const KEPT: [&str; 12] = [
    "Backlog",
    "FileDescriptorName",
    "KillMode",
    "LimitNOFILE",
    "Requires",
    "Restart",
    "Service",
    "Sockets",
    "StartLimitIntervalSec",
    "TimeoutStopSec",
    "TriggerLimitIntervalSec",
    "Type",
];

/// A systemd that runs the balancer's units.
struct Systemd {
    manager: Child,
    /// Its first process, as it is numbered here.
    inner: String,
    folder: Folder,
    proxy: SocketAddr,
    management: SocketAddr,
}

impl Systemd {
    /// None where it cannot run. A balancer that gives no sign for `watchdog_seconds` is killed.
    async fn start(watchdog_seconds: u32) -> Option<Self> {
        tool::file(MANAGER, "install Debian's package systemd")?;
        tool::program("nsenter", "install Debian's package util-linux")?;
        let unshare = tool::program("unshare", "install Debian's package util-linux")?;
        let tried = Command::new(&unshare).args(NAMESPACES).arg("true").output().await.unwrap();
        if !tried.status.success() {
            let why = String::from_utf8_lossy(&tried.stderr);
            tool::not_checked(&format!("the units need namespaces of their own: {}", why.trim()));
            return None;
        }
        let (folder, proxy, management) = (Folder::new(), free_addr(), free_addr());
        let units = folder.path("systemd/user");
        fs::create_dir_all(&units).unwrap();
        for ((name, port), addr) in SOCKETS.into_iter().zip([proxy, management]) {
            let unit = adapted(name, &[(&format!("ListenStream={port}"), &format!("ListenStream={addr}"))]);
            fs::write(units.join(name), unit).unwrap();
        }
        let start = format!("ExecStart={} balancer", env!("CARGO_BIN_EXE_paddock"));
        let watchdog = format!("WatchdogSec={watchdog_seconds}");
        let unit = adapted(SERVICE, &[("ExecStart=", &start), ("WatchdogSec=", &watchdog)]);
        fs::write(units.join(SERVICE), unit).unwrap();

        let script = format!("mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && {MANAGER} --user");
        let path = folder.as_ref();
        let manager = Command::new(unshare)
            .args(NAMESPACES)
            .args(["sh", "-c", &format!("{script}; exit $?")])
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("AWS_EC2_METADATA_DISABLED", "true")])
            .envs(["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME"].map(|name| (name, path)))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let own = manager.id().unwrap();
        let children = format!("/proc/{own}/task/{own}/children");
        let inner = eventually("the manager's first process", SOON, async || {
            let children = fs::read_to_string(&children).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        })
        .await;
        let systemd = Self { manager, inner, folder, proxy, management };
        eventually("systemd answers", SOON, async || {
            systemd.control(&["show", "--property=Version"]).await.status.success().then_some(())
        })
        .await;
        Some(systemd)
    }

    async fn control(&self, words: &[&str]) -> Output {
        Command::new("nsenter")
            .args(["--target", &self.inner, "--pid", "--mount", "--cgroup", "systemctl", "--user"])
            .args(words)
            .env("XDG_RUNTIME_DIR", self.folder.as_ref())
            .output()
            .await
            .unwrap()
    }

    async fn done(&self, words: &[&str]) {
        let output = self.control(words).await;
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What `systemctl show` says of the service.
    async fn shows(&self, property: &str) -> String {
        let output = self.control(&["show", "--value", "-p", property, SERVICE]).await;
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Of the balancer that runs: one that was started again has a new sign, too.
    async fn until_further_sign(&self) {
        let (process, sign) = (self.shows("MainPID").await, self.shows("WatchdogTimestampMonotonic").await);
        let is_new = async || (self.shows("WatchdogTimestampMonotonic").await != sign).then_some(());
        eventually("a further sign of life", SOON, is_new).await;
        assert_eq!(self.shows("MainPID").await, process, "the watchdog had no cause");
        assert_eq!(self.shows("SubState").await, "running");
    }

    async fn until_shows(&self, property: &str, value: &str) {
        let what = format!("{property} is {value}");
        eventually(&what, SOON, async || (self.shows(property).await == value).then_some(())).await;
    }
}

impl Drop for Systemd {
    /// With the first process of its namespace all others are gone.
    fn drop(&mut self) {
        let _ = self.manager.start_kill();
    }
}

/// The unit as it is in the repository, but for what cannot mean the same here. A line that begins with the first of a pair is
/// replaced by the second.
fn adapted(name: &str, changes: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(root().join("infra/systemd/balancer").join(name)).unwrap();
    let line = |line: &str| {
        let change = changes.iter().find(|(begin, _)| line.starts_with(begin));
        let is_kept = line.starts_with('[') || KEPT.contains(&line.split('=').next().unwrap_or_default());
        match change {
            Some((_, instead)) => Some((*instead).to_owned()),
            None => is_kept.then(|| line.to_owned()),
        }
    };
    let unit: Vec<String> = text.lines().filter_map(line).collect();
    for (begin, instead) in changes {
        assert!(unit.iter().any(|line| line == instead), "{name}: where is {begin}?");
    }
    unit.join("\n") + "\n"
}

#[tokio::test]
async fn the_units_start_by_a_connection_tell_their_state_and_lose_no_connection() {
    let Some(systemd) = Systemd::start(10).await else { return };
    systemd.done(&["start", SOCKETS[0].0, SOCKETS[1].0]).await;
    assert_eq!(systemd.shows("ActiveState").await, "inactive");
    // The first connection starts it, and is answered.
    assert_eq!(http::get(systemd.proxy, "/health").await.status, 200);
    assert_eq!(http::get(systemd.management, "/api/v1/state").await.status, 200);
    systemd.until_shows("ActiveState", "active").await;
    systemd.until_further_sign().await;

    let fake = FakeLlama::start(FakeConfig { slots: 512, ..FakeConfig::default() }).await;
    let _agent = Paddock::agent(fake.addr(), systemd.management, &[]);
    let load = Load::start(systemd.proxy);
    load.goes_on().await;
    for _ in 0..3 {
        systemd.done(&["restart", SERVICE]).await;
        load.goes_on().await;
    }
    let ends = load.ends();
    assert_eq!(ends.keys().collect::<Vec<_>>(), ["200"], "{ends:?}");
    assert_eq!(systemd.shows("NRestarts").await, "0", "systemd had nothing to mend");
}

#[tokio::test]
async fn a_balancer_that_hangs_is_started_again() {
    let Some(systemd) = Systemd::start(2).await else { return };
    systemd.done(&["start", SOCKETS[0].0, SOCKETS[1].0, SERVICE]).await;
    assert_eq!(systemd.shows("ActiveState").await, "active", "a start returns when it is ready");
    systemd.done(&["kill", "--kill-who=main", "--signal=STOP", SERVICE]).await;
    systemd.until_shows("NRestarts", "1").await;
    systemd.until_shows("ActiveState", "active").await;
    assert_eq!(http::get(systemd.proxy, "/health").await.status, 200);
}

/// What the balancer's units say.
fn said(unit: &str, name: &str) -> String {
    let text = fs::read_to_string(root().join("infra/systemd/balancer").join(unit)).unwrap();
    let said = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    said.unwrap_or_else(|| panic!("{unit}: where is {name}?")).to_owned()
}

/// The smallest service manager: it waits for a connection and becomes the program, to which its sockets go. They close with
/// it, so nothing is shown here of a restart.
#[tokio::test]
async fn named_sockets_are_taken_as_systemd_hands_them_over() {
    let mend = "install Debian's package systemd";
    let Some(activate) = tool::program("systemd-socket-activate", mend) else { return };
    let (proxy, management, folder) = (free_addr(), free_addr(), Folder::new());
    let (clients, agents) = (proxy.to_string(), management.to_string());
    // In the other order: the names tell which is whose.
    let names = SOCKETS.map(|(unit, _)| said(unit, "FileDescriptorName"));
    let names = format!("--fdname={}:{}", names[1], names[0]);
    let start = said(SERVICE, "ExecStart").replace("%d", folder.as_ref().to_str().unwrap());
    let program = start.replace("/usr/local/bin/paddock", env!("CARGO_BIN_EXE_paddock"));
    let token = "t".repeat(43);
    folder.write("token", &token);
    let activate = [activate.to_str().unwrap(), &names, "-l", &agents, "-l", &clients];
    let words: Vec<String> = activate.into_iter().chain(program.split(' ')).map(str::to_owned).collect();
    let mut program = Program::spawn(&words);
    program.until_answers(proxy, "/health").await;
    let state = "/api/v1/state";
    assert_eq!(http::get(management, state).await.status, 401);
    let authorized = format!("GET {state} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut client = RawClient::connect(management).await;
    client.send(authorized).await;
    assert_eq!(client.head().await.status, 200);
    drop(client);
    for place in [format!("clients on {proxy} "), format!("management on {management} ")] {
        program.until_says(&place).await;
    }
    program.sigterm();
    assert!(program.wait().await.success(), "{}", program.output());
}
