//! What a client's connection is doing, as far as its time limits and a drain care.
//!
//! A connection has no timer and waits for no signal of its own: once in [`LOOK_INTERVAL`] its worker looks at all of
//! them ([`Roll::look`]), leaves an order with whichever needs one, and wakes its task.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Clock;
use crate::core::Mono;
use crate::proxy::Limits;

/// How often connections are looked at: the time limits of connections are kept to this.
pub(in crate::proxy) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How long a connection on which nothing was asked may still begin its first request once a drain began: its client may
/// have sent it already.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(1);

/// Where a connection stands between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked yet.
    New,
    /// The head of a request has begun.
    Head,
    /// Answers are on their way, so many.
    Answering(u32),
    /// The last answer is over.
    Idle,
}

/// What its worker wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Order {
    /// The answers that run are the last.
    Drain,
    /// The head of a request takes too long: say so and end.
    EndSlowHead,
    /// Nothing was asked for too long: end.
    EndIdle,
}

/// One connection's state, shared between its task and its worker.
#[derive(Debug)]
pub(in crate::proxy) struct Activity {
    /// The worker's time of the last look: a request costs no reading of the clock.
    now: Rc<Cell<Mono>>,
    stage: Cell<Stage>,
    since: Cell<Mono>,
    order: Cell<Option<Order>>,
    /// A drain began before anything was asked: the first request is the last.
    is_first_last: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Activity {
    fn new(now: Rc<Cell<Mono>>) -> Rc<Self> {
        Rc::new(Self {
            stage: Cell::new(Stage::New),
            since: Cell::new(now.get()),
            now,
            order: Cell::default(),
            is_first_last: Cell::default(),
            waker: RefCell::default(),
        })
    }

    fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.since.set(self.now.get());
    }

    /// Bytes came in.
    pub(super) fn saw_bytes(&self) {
        if matches!(self.stage.get(), Stage::New | Stage::Idle) {
            self.enter(Stage::Head);
            if self.is_first_last.take() {
                self.give(Order::Drain);
            }
        }
    }

    /// Bytes went out: the end of an answer may leave long after its last byte was handed over.
    pub(super) fn sent_bytes(&self) {
        if self.stage.get() == Stage::Idle {
            self.since.set(self.now.get());
        }
    }

    /// A request came. It is being answered until the guard is dropped.
    pub(super) fn answering(self: &Rc<Self>) -> Answering {
        let before = match self.stage.get() {
            Stage::Answering(count) => count,
            Stage::New | Stage::Head | Stage::Idle => 0,
        };
        self.stage.set(Stage::Answering(before + 1));
        // HTTP/2's heads are not seen to begin.
        if self.is_first_last.take() {
            self.give(Order::Drain);
        }
        Answering(self.clone())
    }

    fn overdue(&self, now: Mono, limits: &Limits) -> Option<Order> {
        let (most, order) = match self.stage.get() {
            Stage::Answering(_) => return None,
            Stage::New if self.is_first_last.get() => (FIRST_REQUEST_MAX, Order::EndIdle),
            Stage::New => (limits.head_read_max, Order::EndIdle),
            Stage::Head => (limits.head_read_max, Order::EndSlowHead),
            Stage::Idle => (limits.client_idle_max, Order::EndIdle),
        };
        (now.since(self.since.get()) >= most).then_some(order)
    }

    /// The answers that run are the last. Without any, the first.
    fn drain(&self) {
        if self.stage.get() == Stage::New {
            self.is_first_last.set(true);
            self.enter(Stage::New);
        } else {
            self.give(Order::Drain);
        }
    }

    fn give(&self, order: Order) {
        self.order.set(Some(order));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Ready with an order. Only one task asks.
    pub(super) fn poll_order(&self, context: &Context<'_>) -> Poll<Order> {
        if let Some(order) = self.order.take() {
            return Poll::Ready(order);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Rc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        match self.0.stage.get() {
            Stage::Answering(count @ 2..) => self.0.stage.set(Stage::Answering(count - 1)),
            Stage::Answering(_) | Stage::New | Stage::Head | Stage::Idle => self.0.enter(Stage::Idle),
        }
    }
}

/// The connections of one worker.
#[derive(Debug)]
pub(in crate::proxy) struct Roll {
    clock: Clock,
    now: Rc<Cell<Mono>>,
    number_next: Cell<u64>,
    activities: RefCell<BTreeMap<u64, Rc<Activity>>>,
    is_draining: Cell<bool>,
}

impl Roll {
    pub(in crate::proxy) fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            clock,
            now: Rc::new(Cell::new(clock.mono())),
            number_next: Cell::default(),
            activities: RefCell::default(),
            is_draining: Cell::default(),
        })
    }

    /// A new connection.
    pub(in crate::proxy) fn enrol(self: &Rc<Self>) -> Enrolled {
        self.now.set(self.clock.mono());
        let activity = Activity::new(self.now.clone());
        if self.is_draining.get() {
            activity.drain();
        }
        let number = self.number_next.get();
        self.number_next.set(number + 1);
        self.activities.borrow_mut().insert(number, activity.clone());
        Enrolled { roll: self.clone(), number, activity }
    }

    /// Ends what is overdue.
    pub(in crate::proxy) fn look(&self, limits: &Limits) {
        let now = self.clock.mono();
        self.now.set(now);
        for activity in self.activities.borrow().values() {
            if let Some(order) = activity.overdue(now, limits) {
                activity.give(order);
            }
        }
    }

    /// From now on the answers that run are the last of each connection. One that was accepted and has not asked yet has
    /// its first request answered.
    pub(in crate::proxy) fn drain(&self) {
        self.is_draining.set(true);
        for activity in self.activities.borrow().values() {
            activity.drain();
        }
    }
}

/// A connection on its worker's roll, until dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Enrolled {
    roll: Rc<Roll>,
    number: u64,
    pub(in crate::proxy) activity: Rc<Activity>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.roll.activities.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let (head_read_max, client_idle_max) = (Duration::from_secs(3), Duration::from_secs(10));
        Limits { head_read_max, client_idle_max, ..Limits::default() }
    }

    async fn after(seconds: u64, enrolled: &Enrolled) -> Option<Order> {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        enrolled.roll.look(&limits());
        enrolled.activity.order.take()
    }

    #[tokio::test(start_paused = true)]
    async fn each_stage_has_its_limit() {
        let roll = Roll::new(Clock::start());
        let silent = roll.enrol();
        assert_eq!(after(2, &silent).await, None);
        assert_eq!(after(1, &silent).await, Some(Order::EndIdle), "nothing was asked");

        let slow = roll.enrol();
        assert_eq!(after(2, &slow).await, None);
        slow.activity.saw_bytes();
        assert_eq!(after(2, &slow).await, None, "the head's own time counts from its first byte");
        slow.activity.saw_bytes();
        assert_eq!(after(1, &slow).await, Some(Order::EndSlowHead), "more bytes do not buy more time");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_may_take_as_long_as_they_like() {
        let roll = Roll::new(Clock::start());
        let busy = roll.enrol();
        busy.activity.saw_bytes();
        let (one, two) = (busy.activity.answering(), busy.activity.answering());
        assert_eq!(after(1000, &busy).await, None);
        drop(one);
        busy.activity.saw_bytes();
        assert_eq!(after(1000, &busy).await, None, "one of two still runs");
        drop(two);
        assert_eq!(after(9, &busy).await, None);
        busy.activity.sent_bytes();
        assert_eq!(after(9, &busy).await, None, "its last bytes leave only now");
        assert_eq!(after(1, &busy).await, Some(Order::EndIdle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_reaches_those_that_come_later_too() {
        let roll = Roll::new(Clock::start());
        let (asked, silent) = (roll.enrol(), roll.enrol());
        asked.activity.saw_bytes();
        roll.drain();
        let late = roll.enrol();
        assert_eq!(asked.activity.order.take(), Some(Order::Drain));
        assert_eq!((silent.activity.order.take(), late.activity.order.take()), (None, None));
        late.activity.saw_bytes();
        assert_eq!(late.activity.order.take(), Some(Order::Drain), "its first request is the last");
        assert_eq!(after(1, &silent).await, Some(Order::EndIdle), "it asks nothing");
        let stream = roll.enrol();
        let answering = stream.activity.answering();
        assert_eq!(stream.activity.order.take(), Some(Order::Drain), "a stream began");
        drop((asked, silent, late, answering, stream));
        assert!(roll.activities.borrow().is_empty());
    }
}
