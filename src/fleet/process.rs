//! Instances as processes on this machine: one child for each, on a free port of 127.0.0.1.
//!
//! One task owns the fleet. The handle sends it orders; it starts children, each attended to by a task of its own, and
//! tells every change as a whole ([`FleetNews::Observed`]).
//!
//! No child outlives the balancer: [`ProcessFleet::shutdown`] waits for all of them, dropping the fleet kills them, and
//! [`super::guard`] sees to the rest.

mod owner;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

pub use super::launch::has_port;
use super::{FleetError, FleetNews};
use crate::clock::Clock;
use crate::core::InstanceId;
use owner::{Order, Owner};

/// How long a child may take to end after SIGTERM, before SIGKILL. It is drained by then, so llama.cpp has nothing left
/// to do but to free its memory, which takes it a second or two; a driver that hangs takes longer.
pub const TERMINATE_GRACE: Duration = Duration::from_secs(10);

/// How many orders may wait. Those who give them wait for the answer, and they are few: the scaler and the shutdown.
const ORDERS_MAX: usize = 16;

/// How to start a child, and how to watch it.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The program and its arguments. `{port}` stands for the port wherever it is named.
    pub command: Vec<String>,
    /// How often each child is looked at and reported.
    pub interval: Duration,
    /// The key that llama.cpp wants.
    pub api_key: Option<String>,
    /// What people call these instances.
    pub name: Option<String>,
    /// The program that becomes the child: the own binary, which calls [`super::guard::exec`] when it is started as
    /// `exec-child --parent PID -- COMMAND…`.
    pub guard: PathBuf,
    /// How long a child may take to end after SIGTERM; [`TERMINATE_GRACE`] unless a test is in a hurry.
    pub grace: Duration,
}

/// The handle of a fleet of processes. Dropped without a [`shutdown`](Self::shutdown), it kills its children.
#[derive(Debug)]
pub struct ProcessFleet {
    orders: mpsc::Sender<Order>,
}

impl ProcessFleet {
    /// Starts an empty fleet on the runtime that this is called in, and sends the first observation.
    #[must_use]
    pub fn start(config: ProcessConfig, clock: Clock, news: UnboundedSender<FleetNews>) -> Self {
        let (orders, queue) = mpsc::channel(ORDERS_MAX);
        let owner = Owner::new(config, clock, news);
        tokio::spawn(owner.run(queue));
        Self { orders }
    }

    /// See [`super::Fleet::wake`].
    ///
    /// A child that is being terminated counts until it is gone: its model still takes the memory.
    ///
    /// # Errors
    ///
    /// If a child cannot be started.
    pub async fn wake(&self, instances: u32) -> Result<Vec<InstanceId>, FleetError> {
        let (reply, launched) = oneshot::channel();
        self.order(Order::Wake { instances, reply }).await;
        launched.await.unwrap_or(Err(FleetError::ShutDown))
    }

    /// See [`super::Fleet::terminate`].
    pub async fn terminate(&self, instance: &InstanceId) {
        let (reply, signalled) = oneshot::channel();
        self.order(Order::Terminate { instance: instance.clone(), reply }).await;
        // No answer: there is no such child any more.
        let _ = signalled.await;
    }

    /// See [`super::Fleet::observe`].
    ///
    /// # Errors
    ///
    /// If the fleet has ended.
    pub async fn observe(&self) -> Result<(), FleetError> {
        let (reply, told) = oneshot::channel();
        self.order(Order::Observe { reply }).await;
        told.await.map_err(|_| FleetError::ShutDown)
    }

    /// Ends all children and waits until they are reaped. Nothing is started from then on.
    pub async fn shutdown(&self) {
        let (reply, over) = oneshot::channel();
        self.order(Order::Shutdown { reply }).await;
        // No answer: the owner is gone, and its children with it.
        let _ = over.await;
    }

    async fn order(&self, order: Order) {
        // Without an owner the order is dropped, and its answer with it.
        let _ = self.orders.send(order).await;
    }
}
