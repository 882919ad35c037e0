// What a snapshot means: sums over the pools, and what each instance is good for. Pure.

/**
 * What instances are good for, in the order of their lives; the same words as the label `state` in /metrics, but for
 * those that nothing is expected of because they are not heard.
 */
export const STATES = ['launching', 'booting', 'serving', 'unheard', 'draining', 'ending', 'aside'];

/** The state of one instance; `isHeard` if an agent that speaks for it is connected. */
function stateOf(instance, isHeard) {
  switch (nameOf(instance.state)) {
    case 'aside':
      return 'aside';
    case 'terminating_wait':
    case 'terminating':
    case 'ended':
      return 'ending';
    default:
      if (instance.drain) return 'draining';
      // Of one that neither registered nor boots the time to boot is over.
      if (!isHeard && (instance.registered || !isBooting(instance))) return 'unheard';
      return instance.registered ? 'serving' : 'booting';
  }
}

function isBooting(instance) {
  return instance.boot_phase !== null;
}

/** A state with a cause travels as an object whose only field is its name. */
function nameOf(state) {
  return typeof state === 'string' ? state : Object.keys(state)[0];
}

/** A duration of the snapshot, in seconds; none stays none. */
export function seconds(duration) {
  return duration ? duration.secs + duration.nanos / 1e9 : null;
}

/** A time of the snapshot, in seconds since the epoch; none stays none. */
export function since(time) {
  return time ? time.secs_since_epoch + time.nanos_since_epoch / 1e9 : null;
}

/** The whole state, over all pools. */
export function read(snapshot) {
  const pools = snapshot.pools;
  const connected = snapshot.agents.filter((agent) => agent.is_connected);
  const heard = new Set(connected.map((agent) => agent.instance));
  const instances = pools.flatMap((pool) =>
    pool.instances.map((instance) => ({
      ...instance,
      is: stateOf(instance, heard.has(instance.id)),
      groupName: groupName(pool, instance.group),
    })),
  );
  const launching = sum(pools, (pool) => Math.max(pool.pending - pool.instances.filter(isBooting).length, 0));
  const states = Object.fromEntries(STATES.map((state) => [state, 0]));
  states.launching = launching;
  for (const instance of instances) states[instance.is] += 1;
  const starting = pools.filter((pool) => pool.pending > 0);
  const eligible = snapshot.agents.filter((agent) => agent.is_eligible);
  return {
    snapshot,
    at: snapshot.at_seconds,
    waiting: snapshot.requests_buffered,
    slots: {
      total: sum(pools, (pool) => pool.slots_total),
      idle: sum(pools, (pool) => pool.slots_idle),
      used: sum(pools, (pool) => pool.slots_processing),
    },
    // Slots of agents that get something new: nothing is served on those of the others.
    offered: {
      total: sum(eligible, (agent) => agent.slots_total),
      used: sum(eligible, (agent) => agent.slots_processing),
    },
    instances,
    booting: instances.filter(isBooting),
    states,
    // Not those that stand aside: they are no part of the fleet's number.
    instanceCount: STATES.slice(0, -1).reduce((all, state) => all + states[state], 0),
    eta: starting.length ? Math.min(...starting.map((pool) => pool.boot_eta_seconds)) : null,
    agents: snapshot.agents,
    boots: pools.flatMap((pool) => pool.boots),
    happenings: pools.flatMap((pool) =>
      pool.happenings.map((happening) => ({ ...happening, groupName: groupName(pool, happening.group) })),
    ),
  };
}

/** What people call a group, if there is more than one or it has a name. */
export function groupName(pool, group) {
  if (group === null || group === undefined) return null;
  const name = pool.groups.find((other) => other.group === group)?.name;
  return name ?? (pool.groups.length > 1 ? `group ${group}` : null);
}

function sum(items, of) {
  return items.reduce((all, item) => all + of(item), 0);
}

/** Usage over the pools; what no pool knows stays none. */
export function usage(snapshot, span) {
  const parts = snapshot.pools.map((pool) => pool.ledger[span]);
  const known = (field) => {
    const values = parts.map((one) => one[field]).filter((value) => value !== null);
    return values.length ? values.reduce((a, b) => a + b, 0) : null;
  };
  return Object.fromEntries(
    ['instance_seconds', 'busy_seconds', 'idle_seconds', 'cost_usd', 'always_on_usd'].map((field) => [
      field,
      known(field),
    ]),
  );
}

/** What of always-on was not spent, in USD; none without a price. */
export function saved({ cost_usd: cost, always_on_usd: alwaysOn }) {
  return cost === null || alwaysOn === null ? null : alwaysOn - cost;
}

/** A point of the timeline, as the balancer makes them. */
export function point(state) {
  return {
    at_seconds: state.at,
    requests_buffered: state.waiting,
    slots_total: state.slots.total,
    slots_processing: state.slots.used,
    instances: state.instanceCount,
  };
}
