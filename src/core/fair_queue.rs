//! Who is next among tenants.
//!
//! Tenants take turns by what they were given so far (start-time fair queueing: a tenant that comes back from rest
//! starts level with the one that was given least, and cannot claim the past). Within a tenant the order is that of
//! arrival: a request that comes back after a failed attempt keeps its sequence number, so it stands at the head again.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{RequestId, TenantId};

/// The place of a request in its tenant's queue, and for how many slots it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tenant: TenantId,
    /// Given at arrival, kept over all attempts.
    pub(super) sequence: u64,
    pub(super) slots: u32,
}

/// How many slots a request waits for, as far as it decides what the request must wait behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Width {
    /// A server, but no slot: never waits while any server lives.
    None,
    /// One slot: any free slot will do.
    One,
    /// Several slots of one server.
    Many,
}

impl Width {
    pub(super) fn of(slots: u32) -> Self {
        match slots {
            0 => Self::None,
            1 => Self::One,
            2.. => Self::Many,
        }
    }
}

#[derive(Debug, Default)]
struct Line {
    /// Slots given, on a scale common to all tenants.
    given: u64,
    one: BTreeMap<u64, RequestId>,
    many: BTreeMap<u64, RequestId>,
}

/// A request that is the oldest of its kind, with its sequence.
pub(super) type Head = (u64, RequestId);

/// The waiting requests of one pool.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// Only tenants with a request that waits.
    lines: BTreeMap<TenantId, Line>,
    turns: BTreeSet<(u64, TenantId)>,
    /// Requests that need no slot. They take no turn, because they use up nothing.
    slotless: BTreeMap<u64, RequestId>,
    /// What the tenant whose turn was last had been given: where a new tenant starts.
    level: u64,
    slots: u64,
    len: usize,
}

impl FairQueue {
    pub(super) fn insert(&mut self, request: RequestId, place: Place) {
        self.len += 1;
        self.slots += u64::from(place.slots);
        let width = Width::of(place.slots);
        if width == Width::None {
            self.slotless.insert(place.sequence, request);
            return;
        }
        let level = self.level;
        let line = self.lines.entry(place.tenant).or_insert_with(|| Line { given: level, ..Line::default() });
        self.turns.insert((line.given, place.tenant));
        match width {
            Width::Many => line.many.insert(place.sequence, request),
            Width::None | Width::One => line.one.insert(place.sequence, request),
        };
    }

    /// Takes a request out without giving it anything. False if it was not there.
    pub(super) fn remove(&mut self, place: Place) -> bool {
        let width = Width::of(place.slots);
        let found = if width == Width::None {
            self.slotless.remove(&place.sequence).is_some()
        } else if let Some(line) = self.lines.get_mut(&place.tenant) {
            let found = match width {
                Width::Many => line.many.remove(&place.sequence).is_some(),
                Width::None | Width::One => line.one.remove(&place.sequence).is_some(),
            };
            if line.one.is_empty() && line.many.is_empty() {
                self.turns.remove(&(line.given, place.tenant));
                self.lines.remove(&place.tenant);
            }
            found
        } else {
            false
        };
        if found {
            self.len -= 1;
            self.slots -= u64::from(place.slots);
        }
        found
    }

    /// Takes out a request that was given its slots: its tenant's next turn comes later by as much.
    pub(super) fn give(&mut self, place: Place) -> bool {
        if let Some(line) = self.lines.get_mut(&place.tenant)
            && place.slots > 0
        {
            self.turns.remove(&(line.given, place.tenant));
            self.level = self.level.max(line.given);
            line.given += u64::from(place.slots);
            self.turns.insert((line.given, place.tenant));
        }
        self.remove(place)
    }

    /// The tenants that wait for slots, the one whose turn it is first.
    pub(super) fn turns(&self) -> impl Iterator<Item = TenantId> + '_ {
        self.turns.iter().map(|&(_, tenant)| tenant)
    }

    /// The oldest request of a tenant for one slot, and for many.
    pub(super) fn heads(&self, tenant: TenantId) -> (Option<Head>, Option<Head>) {
        let head = |line: &BTreeMap<u64, RequestId>| line.first_key_value().map(|(&at, &id)| (at, id));
        self.lines.get(&tenant).map_or((None, None), |line| (head(&line.one), head(&line.many)))
    }

    /// The oldest request that needs a server but no slot.
    pub(super) fn slotless(&self) -> Option<RequestId> {
        self.slotless.first_key_value().map(|(_, &id)| id)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many requests are served before one in this place, which may be queued or about to be, if each takes one slot.
    /// Counting ends beyond `most`.
    pub(super) fn ahead(&self, place: Place, most: usize) -> usize {
        if Width::of(place.slots) == Width::None {
            return before(&self.slotless, place.sequence, most);
        }
        let line = self.lines.get(&place.tenant);
        let own = line.map_or(0, |line| {
            before(&line.one, place.sequence, most) + before(&line.many, place.sequence, most)
        });
        let turn = line.map_or(self.level, |line| line.given).saturating_add(own as u64);
        let mut ahead = own;
        for &(given, tenant) in self.turns.iter().take_while(|(given, _)| *given <= turn) {
            if ahead > most {
                break;
            }
            if let Some(other) = self.lines.get(&tenant).filter(|_| tenant != place.tenant) {
                let turns = (turn - given).saturating_add(u64::from(tenant < place.tenant));
                let turns = usize::try_from(turns).unwrap_or(usize::MAX);
                ahead = ahead.saturating_add(turns.min(other.one.len() + other.many.len()));
            }
        }
        ahead
    }

    /// Slots that the waiting requests ask for.
    pub(super) fn slots(&self) -> u64 {
        self.slots
    }

    /// Every waiting request, in no meaningful order.
    pub(super) fn requests(&self) -> impl Iterator<Item = RequestId> + '_ {
        let lines = self.lines.values().flat_map(|line| line.one.values().chain(line.many.values()));
        self.slotless.values().chain(lines).copied()
    }
}

/// How many requests of a line come before this sequence, counted up to `most`; of one that ends before it, all.
fn before(line: &BTreeMap<u64, RequestId>, sequence: u64, most: usize) -> usize {
    if line.last_key_value().is_none_or(|(&last, _)| last < sequence) {
        return line.len();
    }
    line.range(..sequence).take(most).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(tenant: u32, sequence: u64, slots: u32) -> Place {
        Place { tenant: TenantId(tenant), sequence, slots }
    }

    /// Serves everything, one slot after another, and names the tenants in the order of their turns.
    fn order(queue: &mut FairQueue) -> Vec<u32> {
        let mut order = Vec::new();
        loop {
            let Some(tenant) = queue.turns().next() else { return order };
            let (one, many) = queue.heads(tenant);
            let (sequence, slots) = match (one, many) {
                (Some((at, _)), _) => (at, 1),
                (None, Some((at, _))) => (at, 2),
                (None, None) => unreachable!("a tenant with a turn has a request"),
            };
            assert!(queue.give(Place { tenant, sequence, slots }));
            order.push(tenant.0);
        }
    }

    #[test]
    fn tenants_take_turns_whatever_their_number_of_requests() {
        let mut queue = FairQueue::default();
        for sequence in 0..4 {
            queue.insert(RequestId(sequence), place(1, sequence, 1));
        }
        for sequence in 4..6 {
            queue.insert(RequestId(sequence), place(2, sequence, 1));
        }
        assert_eq!(order(&mut queue), [1, 2, 1, 2, 1, 1]);
        assert!(queue.is_empty());
        assert_eq!((queue.len(), queue.slots()), (0, 0));
    }

    #[test]
    fn a_tenant_back_from_rest_does_not_claim_the_past() {
        let mut queue = FairQueue::default();
        for sequence in 0..10 {
            queue.insert(RequestId(sequence), place(1, sequence, 1));
        }
        for sequence in 0..5 {
            assert!(queue.give(place(1, sequence, 1)));
        }
        queue.insert(RequestId(20), place(2, 20, 1));
        queue.insert(RequestId(21), place(2, 21, 1));
        let order = order(&mut queue);
        assert!(order[..3].contains(&1), "tenant 2 does not take all turns: {order:?}");
    }

    #[test]
    fn a_request_that_comes_back_stands_at_the_head() {
        let mut queue = FairQueue::default();
        queue.insert(RequestId(5), place(1, 5, 1));
        queue.insert(RequestId(2), place(1, 2, 1));
        assert_eq!(queue.heads(TenantId(1)).0, Some((2, RequestId(2))));
    }

    #[test]
    fn whoever_is_ahead_is_served_before() {
        let tenants = [1, 1, 2, 1, 3, 3, 2, 1, 1, 3, 1];
        let mut queue = FairQueue::default();
        let mut places = Vec::new();
        for (sequence, tenant) in (0..).zip(tenants) {
            queue.insert(RequestId(sequence), place(tenant, sequence, 1));
            places.push(place(tenant, sequence, 1));
        }
        let waiting = |queue: &FairQueue, place: &Place| queue.requests().any(|id| id.0 == place.sequence);
        for served in 0..tenants.len() {
            let left: Vec<Place> = places.iter().copied().filter(|place| waiting(&queue, place)).collect();
            let mut ahead: Vec<usize> = left.iter().map(|&place| queue.ahead(place, 100)).collect();
            let tenant = queue.turns().next().unwrap();
            let head = left.iter().position(|place| place.tenant == tenant).unwrap();
            assert_eq!(ahead[head], 0, "the next one has nobody ahead, after {served}");
            assert!(queue.give(left[head]));
            ahead.sort_unstable();
            assert_eq!(ahead, (0..left.len()).collect::<Vec<_>>(), "each has a place of its own");
        }
    }

    #[test]
    fn an_arrival_is_behind_its_own_and_between_the_others() {
        let mut queue = FairQueue::default();
        for sequence in 0..10 {
            queue.insert(RequestId(sequence), place(1, sequence, 1));
        }
        assert_eq!(queue.ahead(place(1, 10, 1), 3), 10, "its own line's length is known");
        assert_eq!(queue.ahead(place(1, 8, 1), 3), 3, "counted no further than asked");
        assert_eq!(queue.ahead(place(2, 10, 1), 100), 1, "a new tenant's turn is next but one");
        assert_eq!(queue.ahead(place(2, 10, 0), 100), 0, "no slot, no turn");
    }

    #[test]
    fn removing_twice_takes_out_once() {
        let mut queue = FairQueue::default();
        queue.insert(RequestId(1), place(1, 1, 3));
        queue.insert(RequestId(2), place(1, 2, 0));
        assert_eq!((queue.len(), queue.slots()), (2, 3));
        assert!(queue.remove(place(1, 1, 3)));
        assert!(!queue.remove(place(1, 1, 3)));
        assert_eq!((queue.len(), queue.slots()), (1, 0));
        assert_eq!(queue.slotless(), Some(RequestId(2)));
    }
}
