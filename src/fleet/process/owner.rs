//! The task that owns a fleet of processes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::process::Command;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinSet};

use super::ProcessConfig;
use crate::clock::Clock;
use crate::core::{GroupId, InstanceId, InstanceObserved, InstanceState};
use crate::fleet::child::{self, Agent, Stop};
use crate::fleet::launch;
use crate::fleet::spawner::Spawner;
use crate::fleet::{FleetError, FleetNews, guard};

/// All processes are of one group.
const GROUP: GroupId = GroupId(0);

/// What the handle asks for. An answer that is dropped says that there was nothing to do it to.
#[derive(Debug)]
pub(super) enum Order {
    /// Let there be so many.
    Wake { instances: u32, reply: oneshot::Sender<Result<Vec<InstanceId>, FleetError>> },
    /// End this one.
    Terminate { instance: InstanceId, reply: Stop },
    /// Tell what there is.
    Observe { reply: oneshot::Sender<()> },
    /// End all.
    Shutdown { reply: oneshot::Sender<()> },
}

/// A child as its owner sees it.
#[derive(Debug)]
struct Entry {
    task: Id,
    port: u16,
    /// Taken when it is told to end.
    stop: Option<oneshot::Sender<Stop>>,
}

/// The one owner of the children.
#[derive(Debug)]
pub(super) struct Owner {
    config: Arc<ProcessConfig>,
    clock: Clock,
    news: UnboundedSender<FleetNews>,
    spawner: Spawner,
    children: BTreeMap<InstanceId, Entry>,
    /// One for each child, which returns its last words.
    tasks: JoinSet<Arc<str>>,
    /// How many children there have been.
    launched: u64,
    is_ending: bool,
    /// Who waits for the end.
    over: Vec<oneshot::Sender<()>>,
}

impl Owner {
    pub(super) fn new(config: ProcessConfig, clock: Clock, news: UnboundedSender<FleetNews>) -> Self {
        let owner = Self {
            config: Arc::new(config),
            clock,
            news,
            spawner: Spawner::start(),
            children: BTreeMap::new(),
            tasks: JoinSet::new(),
            launched: 0,
            is_ending: false,
            over: Vec::new(),
        };
        owner.observe(None);
        owner
    }

    /// Runs until the handle is dropped. The children are killed then, as their tasks are dropped.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                Some(end) = self.tasks.join_next_with_id() => self.bury(end),
            }
            if self.is_ending && self.children.is_empty() {
                for reply in self.over.drain(..) {
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Wake { instances, reply } => {
                let launched = self.wake(instances).await;
                // Whoever asked may have gone.
                let _ = reply.send(launched);
            }
            Order::Terminate { instance, reply } => self.terminate(&instance, reply),
            Order::Observe { reply } => {
                self.observe(None);
                // Whoever asked may have gone.
                let _ = reply.send(());
            }
            Order::Shutdown { reply } => {
                self.is_ending = true;
                self.over.push(reply);
                for instance in self.children.keys().cloned().collect::<Vec<_>>() {
                    let (signalled, _) = oneshot::channel();
                    self.terminate(&instance, signalled);
                }
            }
        }
    }

    fn terminate(&mut self, instance: &InstanceId, reply: Stop) {
        let Some(stop) = self.children.get_mut(instance).and_then(|child| child.stop.take()) else {
            return;
        };
        // A child that has ended meanwhile takes no orders.
        let _ = stop.send(reply);
        self.observe(None);
    }

    fn bury(&mut self, end: Result<(Id, Arc<str>), JoinError>) {
        let (task, cause) = match end {
            Ok(end) => end,
            Err(error) => (error.id(), format!("killed, since its watch failed: {error}").into()),
        };
        let instance = self.children.iter().find(|(_, child)| child.task == task).map(|(id, _)| id.clone());
        if let Some(instance) = instance {
            tracing::info!(%instance, cause = &*cause, "a server has ended");
            self.children.remove(&instance);
            self.tell(FleetNews::AgentGone { instance: instance.clone() });
            let ended =
                InstanceObserved { group: GROUP, state: InstanceState::Ended { cause }, address: None };
            self.observe(Some((instance, ended)));
        }
    }

    /// Launches what is missing. Children that were told to end count until they are gone.
    async fn wake(&mut self, instances: u32) -> Result<Vec<InstanceId>, FleetError> {
        if self.is_ending {
            return Err(FleetError::ShutDown);
        }
        let mut launched = Vec::new();
        // Counted once, so that a child which keeps crashing is not started again and again by one wake.
        for _ in self.children.len()..instances as usize {
            launched.push(self.launch().await?);
        }
        Ok(launched)
    }

    async fn launch(&mut self) -> Result<InstanceId, FleetError> {
        launch::check_program(&self.config.command)?;
        let port =
            launch::free_port(&self.children.values().map(|child| child.port).collect::<BTreeSet<_>>())?;
        let command = self.guarded(&launch::with_port(&self.config.command, port));
        let (process, output) = self.spawner.spawn(command).await.map_err(|error| self.refused(error))?;
        self.launched += 1;
        let instance = InstanceId(format!("process-{}", self.launched).into());
        // Not the whole command: its arguments may hold keys.
        tracing::info!(%instance, port, program = self.config.command.first(), "a server was started");
        let agent = Agent {
            instance: instance.clone(),
            boot: self.launched,
            address: address(port),
            config: self.config.clone(),
            clock: self.clock,
            news: self.news.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let task = self.tasks.spawn(child::attend(process, output, agent, self.config.grace, stopped)).id();
        self.children.insert(instance.clone(), Entry { task, port, stop: Some(stop) });
        self.observe(None);
        Ok(instance)
    }

    /// The command, started through the guard.
    fn guarded(&self, command: &[String]) -> Command {
        let mut guarded = Command::new(&self.config.guard);
        let parent = std::process::id().to_string();
        guarded.args([guard::SUBCOMMAND, "--parent", &parent, "--"]).args(command);
        guarded
    }

    fn refused(&self, error: io::Error) -> FleetError {
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
            FleetError::Guard { program: self.config.guard.display().to_string(), error }
        } else {
            FleetError::Spawn(error)
        }
    }

    /// Tells the whole fleet, and the one that has ended.
    fn observe(&self, ended: Option<(InstanceId, InstanceObserved)>) {
        let living = self.children.iter().map(|(instance, child)| {
            let state =
                if child.stop.is_some() { InstanceState::Running } else { InstanceState::Terminating };
            (instance.clone(), InstanceObserved { group: GROUP, state, address: Some(address(child.port)) })
        });
        self.tell(FleetNews::Observed {
            began: self.clock.mono(),
            groups: BTreeMap::new(),
            instances: living.chain(ended).collect(),
        });
    }

    fn tell(&self, news: FleetNews) {
        // Without a reader the balancer is ending.
        let _ = self.news.send(news);
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
