//! AWS by moto, other people's code: what is called there is read by somebody who does not know Paddock.
//!
//! It has no delays: instances are `InService` at once. It enforces no MaxSize, has no scaling activities, answers 500 where
//! AWS answers `ValidationError` (an unknown group or instance), and checks no signature.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::process::Command;
use tokio::time::timeout;

use super::program::Program;
use super::real_llama::python;
use super::wait::free_addr;

/// For one run of boto3, whose start alone takes a second on a busy machine.
const RUN_MAX: Duration = Duration::from_secs(60);

/// Where all this takes place.
pub const REGION: &str = "eu-central-1";

/// A running moto. Each has a world of its own.
#[derive(Debug)]
pub struct Moto {
    program: Program,
    addr: SocketAddr,
}

/// An Auto Scaling group as boto3 sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Group {
    pub desired: u32,
    pub min: u32,
    pub max: u32,
    pub instances: Vec<GroupInstance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GroupInstance {
    pub id: String,
    /// The lifecycle state, in AWS's words.
    pub state: String,
    pub is_protected: bool,
}

/// A metric as boto3 sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Metric {
    pub name: String,
    pub dimensions: BTreeMap<String, String>,
    /// In order of time; the maximum of each second.
    pub values: Vec<f64>,
}

impl Moto {
    /// Returns once it answers.
    pub async fn start() -> Self {
        let addr = free_addr();
        let command = [python(), script("moto_server.py"), "--port".into(), addr.port().to_string().into()];
        let command = command.map(|part| part.into_os_string().into_string().unwrap());
        let environment = environment(addr);
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut program = Program::spawn_in(&command, &environment);
        program.until_answers(addr, "/moto-api/data.json").await;
        Self { program, addr }
    }

    /// What makes an AWS tool call this moto and nobody else.
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(self.addr)
    }

    pub fn endpoint(&self) -> String {
        endpoint(self.addr)
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        self.program.output()
    }

    /// A launch template and a group of it, with `min` instances.
    pub async fn create_group(&self, name: &str, min: u32, max: u32) -> Group {
        self.boto3(&["create-group", name, &min.to_string(), &max.to_string()]).await
    }

    pub async fn group(&self, name: &str) -> Group {
        self.boto3(&["group", name]).await
    }

    /// All metrics of a namespace, by name.
    pub async fn metrics(&self, namespace: &str) -> BTreeMap<String, Metric> {
        let metrics: Vec<Metric> = self.boto3(&["metrics", namespace]).await;
        metrics.into_iter().map(|metric| (metric.name.clone(), metric)).collect()
    }

    async fn boto3<T: DeserializeOwned>(&self, arguments: &[&str]) -> T {
        let mut command = Command::new(python());
        command.arg(script("aws_by_boto3.py")).arg(self.endpoint()).args(arguments);
        let output = command.envs(self.environment()).kill_on_drop(true).output();
        let output = timeout(RUN_MAX, output).await.expect("boto3 did not end").unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {stdout}\n{stderr}"))
    }
}

/// Nothing of this machine's own AWS configuration, and no instance metadata.
fn environment(addr: SocketAddr) -> Vec<(String, String)> {
    let endpoint = endpoint(addr);
    [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_REGION", REGION),
        // boto3 knows this one alone.
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        // A proxy in the environment is not for loopback.
        ("NO_PROXY", "*"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn endpoint(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(name)
}
