//! A real Prometheus that scrapes one balancer, configured by the file that people are given.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::folder::Folder;
use super::http;
use super::program::Program;
use super::tool;
use super::wait::{eventually, free_addr};

/// Where people's configuration says the balancer is.
const TARGET: &str = "10.0.0.5:8085";
/// How often theirs scrapes, and how often this one does.
const SCRAPES: [&str; 2] = ["scrape_interval: 15s", "scrape_interval: 200ms"];
/// From an event until it was scraped, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A running Prometheus. Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus {
    _program: Program,
    _folder: Folder,
    addr: SocketAddr,
}

impl Prometheus {
    /// None if there is none on this machine.
    pub async fn start(balancer: SocketAddr, token: &str) -> Option<Self> {
        let prometheus = tool::program("prometheus", "install Debian's package prometheus")?;
        let config = tool::file("infra/prometheus/prometheus.yml", "it comes with the project")?;
        let rules = tool::file("infra/prometheus/rules.yml", "it comes with the project")?;
        let config = std::fs::read_to_string(config).unwrap();
        assert!(config.contains(TARGET) && config.contains(SCRAPES[0]), "{config}");
        let config = config.replace(TARGET, &balancer.to_string()).replace(SCRAPES[0], SCRAPES[1]);
        let folder = Folder::new();
        let config = folder.write("prometheus.yml", &config);
        folder.write("rules.yml", &std::fs::read_to_string(rules).unwrap());
        folder.write("paddock-token", token);
        let addr = free_addr();
        let command = [
            prometheus.display().to_string(),
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path("data").display()),
            format!("--web.listen-address={addr}"),
            "--log.level=warn".to_owned(),
        ];
        let mut program = Program::spawn(&command);
        program.until_answers(addr, "/-/ready").await;
        Some(Self { _program: program, _folder: folder, addr })
    }

    /// What its API answers.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let query_string = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let answer = http::get(self.addr, &format!("{path}?{query_string}")).await.json();
        assert_eq!(answer["status"], "success", "{path} {query:?}: {answer}");
        answer["data"].clone()
    }

    /// The values of an expression as of now, one for each series.
    pub async fn values(&self, expression: &str) -> Vec<f64> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await;
        let series = data["result"].as_array().unwrap_or_else(|| panic!("{expression}: {data}"));
        series.iter().map(|one| one["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }

    /// Waits until an expression has this one value.
    pub async fn until(&self, expression: &str, value: f64) {
        let what = format!("{expression} is {value}");
        let is_seen = async || (self.values(expression).await == [value]).then_some(());
        eventually(&what, SOON, is_seen).await;
    }
}
