//! From a request to the call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paddock::core::{Looks, PoolConfig};
use paddock::fleet::{AsgConfig, AsgFleet, AsgWake, Fleet, FleetNews};
use paddock::metrics::AwsCalls;
use paddock::scaler;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::credentials::{self, Fetched};
use super::environment::{Certificate, Environment};
use super::tls::Front;
use crate::support::fake_aws::{Call, FakeAws, GroupConfig, GroupHandle, Outcome, Times};
use crate::support::gateway::{Gateway, GatewayConfig, POOL};
use crate::support::wait::eventually;

const GROUP: &str = "gpu";
const WARM_UP: usize = 20;
const SOON: Duration = Duration::from_secs(10);
/// Long enough for a look's end, for the gateway to accept a connection, and for a client to see that one was closed.
const QUIET: Duration = Duration::from_millis(20);
const REQUEST: &[u8] =
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
    Content-Length: 48\r\n\r\n{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";

/// Which connection the call goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// The one that the last look went over.
    Warm,
    /// AWS has closed that one.
    New,
}

/// Which credentials the fleet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Some that never end.
    Lasting,
    /// Some that have to be fetched for each call.
    Expiring,
}

/// A fake AWS with an empty group, and the fleet's clients.
pub struct Scene {
    aws: FakeAws,
    group: GroupHandle,
    front: Option<Front>,
    fetched: Option<Fetched>,
    fleet: Arc<Fleet>,
    /// Who is told what the fleet sees.
    reader: Arc<Mutex<Option<UnboundedSender<FleetNews>>>>,
    passing_on: JoinHandle<()>,
}

impl Scene {
    /// With a certificate, AWS speaks TLS.
    pub async fn start(environment: &Environment, certificate: Option<&Certificate>, keys: Keys) -> Self {
        // No instance ever comes, and none stays.
        let times =
            Times { pending: Duration::from_secs(3600), terminating: Duration::ZERO, ..Times::default() };
        let group =
            GroupConfig { name: GROUP.to_owned(), is_pending_trimmed: true, times, ..GroupConfig::default() };
        let (aws, group) = FakeAws::with_group(group).await;
        let front = match certificate {
            Some(certificate) => Some(Front::start(aws.addr(), certificate).await),
            None => None,
        };
        let endpoint = front.as_ref().map_or_else(|| aws.endpoint(), Front::endpoint);
        let values: BTreeMap<String, String> = aws.environment().into_iter().collect();
        let (region, key, secret) =
            (&values["AWS_REGION"], &values["AWS_ACCESS_KEY_ID"], &values["AWS_SECRET_ACCESS_KEY"]);
        let fetched = match keys {
            Keys::Lasting => {
                environment.write(&endpoint, region, Some((key, secret)));
                None
            }
            Keys::Expiring => {
                environment.write(&endpoint, region, None);
                Some(credentials::serve(environment.credentials_addr(), key, secret))
            }
        };
        let (sender, news) = unbounded_channel();
        let config = AsgConfig {
            groups: vec![GROUP.to_owned()],
            wake: AsgWake::default(),
            instances_max: 1,
            management: ([127, 0, 0, 1], 8085).into(),
        };
        let fleet = AsgFleet::start(config, aws.clock(), sender, AwsCalls::default()).await.unwrap();
        let reader = Arc::default();
        let passing_on = tokio::spawn(pass_on(news, Arc::clone(&reader)));
        Self { aws, group, front, fetched, fleet: Arc::new(Fleet::Asg(fleet)), reader, passing_on }
    }

    /// How long each wake took, in nanoseconds.
    pub async fn rounds(&mut self, count: usize, connection: Connection) -> Vec<u64> {
        let mut took = Vec::with_capacity(count);
        for round in 0..WARM_UP + count {
            let nanos = self.wake(connection).await;
            if round >= WARM_UP {
                took.push(nanos);
            }
        }
        took
    }

    async fn wake(&mut self, connection: Connection) -> u64 {
        let mut gateway = Gateway::start(GatewayConfig {
            pool: PoolConfig {
                has_fleet: true,
                // As in the program.
                looks: Some(Looks { hurry: Duration::from_secs(5), rest: Duration::from_secs(60) }),
                ..PoolConfig::default()
            },
            ..GatewayConfig::default()
        });
        let (sender, news) = unbounded_channel();
        *self.reader.lock().unwrap() = Some(sender);
        let stop = CancellationToken::new();
        let gate = gateway.gate.clone();
        let forwarding = tokio::spawn(scaler::forward_news(news, POOL, gate.clone()));
        let scaling = scaler::run(gate.clone(), self.fleet.clone(), gateway.clock, stop.clone());
        let scaling = tokio::spawn(scaling);
        let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
        client.set_nodelay(true).unwrap();
        eventually("the group is known to be empty", SOON, async || {
            let pool = gate.snapshot().0.pools.remove(0);
            (pool.groups[0].desired == Some(0) && pool.instances.is_empty()).then_some(())
        })
        .await;
        if let Some(front) = &self.front
            && connection == Connection::New
        {
            front.cut();
        }
        sleep(QUIET).await;
        let before = self.aws.calls();
        let fetched = self.fetched.as_ref().map(Fetched::count);
        let began = self.aws.clock().mono();
        client.write_all(REQUEST).await.unwrap();
        // Looking for the call costs time that it needs itself.
        sleep(QUIET).await;
        let call = eventually("the call", SOON, async || self.call_after(before.len())).await;
        let known: BTreeSet<u64> = before.iter().map(|call| call.connection).collect();
        assert_eq!(known.contains(&call.connection), connection == Connection::Warm, "{call:?}");
        assert_eq!(self.fetched.as_ref().map(Fetched::count), fetched.map(|count| count + 1), "credentials");

        drop(client);
        gateway.drain().await;
        stop.cancel();
        scaling.await.unwrap();
        self.reader.lock().unwrap().take();
        forwarding.await.unwrap();
        self.group.set_desired(0);
        eventually("the group is empty", SOON, async || self.group.instances().is_empty().then_some(()))
            .await;
        u64::try_from(call.at.since(began).as_nanos()).unwrap()
    }

    /// The one call that raised the group, once it is answered.
    fn call_after(&self, count: usize) -> Option<Call> {
        let calls = self.aws.calls();
        let mut raising = calls[count..].iter().filter(|call| call.action == "SetDesiredCapacity");
        let call = raising.next().filter(|call| call.outcome == Outcome::Done)?;
        assert_eq!((call.parameter("DesiredCapacity"), raising.count()), ("1", 0));
        Some(call.clone())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.passing_on.abort();
    }
}

async fn pass_on(
    mut news: UnboundedReceiver<FleetNews>,
    reader: Arc<Mutex<Option<UnboundedSender<FleetNews>>>>,
) {
    while let Some(news) = news.recv().await {
        if let Some(reader) = &*reader.lock().unwrap() {
            // One that has ended needs nothing more.
            let _ = reader.send(news);
        }
    }
}
