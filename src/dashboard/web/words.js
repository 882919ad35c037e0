// The state in words. Pure: state in, sentences out. A sentence has a level: good, busy, warn or bad.

import { ago, count, duration, foretold, timeOfDay } from './format.js';
import { seconds, since } from './model.js';

/** Phases of a boot, in their order: what is done, and what is said when it is the present one. */
export const PHASES = [
  ['call', 'Asking', 'The fleet is asked for an instance'],
  ['pending', 'Launching', 'The machine is being launched'],
  ['boot', 'Booting', 'The machine boots'],
  ['service', 'Starting llama.cpp', 'llama.cpp starts'],
  ['load', 'Loading the model', 'llama.cpp loads the model'],
  ['register', 'Registering', 'Its slots are being registered'],
].map(([id, label, sentence]) => ({ id, label, sentence }));

/** What is said of a phase; of one that a later balancer knows, that it boots. */
export function sentenceOf(phase) {
  return PHASES.find(({ id }) => id === phase)?.sentence ?? 'It boots';
}

/** An agent that gets nothing and has not reported for so long is called silent: others report each 2 s. In seconds. */
const SILENT_MIN = 3;

const NOTICES = {
  spot_interruption: 'the spot market takes its machine back',
  rebalance_recommendation: 'the spot market may take its machine back soon',
  lifecycle_termination: 'its fleet ends its machine',
};

const DRAINS = {
  idle: 'it was not needed any more',
  fault: 'it did not come up in time, or was not heard for long',
  notice: 'its fleet ends it',
  budget: 'the day has cost as much as it may',
};

/**
 * The one sentence at the top, and what kind it is of: only another kind is worth interrupting somebody who listens.
 *
 * 1. The gateway ends. 2. Something serves. 3. Something boots, loads or is asked for. 4. Requests wait for nothing.
 * 5. The last instance goes. 6. Agents or instances are there, and none can serve. 7. Instances stand by. 8. Nothing is
 * there.
 */
export function headline(state, elapsed = 0) {
  const { waiting, offered, states } = state;
  const requests = `${count(waiting, 'request')} ${waiting === 1 ? 'waits' : 'wait'}`;
  if (state.snapshot.shutting_down) {
    return ['ending', 'warn', 'Shutting down: nothing new is started, and answers that have begun go on.'];
  }
  if (offered.total > 0) {
    const use = `${offered.used} of ${count(offered.total, 'slot')} in use`;
    if (waiting > 0) return ['queue', 'busy', `${use}, and ${requests}.`];
    if (offered.used > 0) return ['serving', 'good', `${use}. Nothing waits.`];
    return ['ready', 'good', `Ready: ${count(offered.total, 'slot')}, all free. Nothing waits.`];
  }
  const heard = state.agents.filter((agent) => agent.is_connected);
  const staying = heard.filter((agent) => !isLeaving(state, agent));
  const isComing = staying.some((agent) => agent.phase === 'starting' || agent.phase === 'loading');
  if (states.launching + states.booting > 0 || isComing) {
    const left = state.eta === null ? '' : ` The first slot comes ${foretold(state.eta - elapsed)}.`;
    return ['booting', 'busy', `Starting from zero: ${waiting > 0 ? requests : 'nothing waits yet'}.${left}`];
  }
  const whys = [agentsWhy(heard.length), instancesWhy(states.unheard)].filter(Boolean).join(', and ');
  if (waiting > 0) return ['stuck', 'bad', whys ? `${requests}: ${whys}.` : `${requests}, and no server is on its way.`];
  const isGoing = state.instances.some((instance) => isLeft(instance) && !instance.state?.ended);
  if (isGoing && staying.length + states.unheard === 0) {
    return ['leaving', 'good', 'Going to zero: the last instance ends.'];
  }
  if (whys) return ['unfit', states.unheard > 0 ? 'bad' : 'warn', `Nothing can be served: ${whys}. Nothing waits.`];
  if (states.aside > 0) {
    const them = states.aside === 1 ? '1 instance that stands by' : `${states.aside} instances that stand by`;
    return ['aside', 'zero', `At zero, but for ${them} and may cost something. Nothing waits.`];
  }
  return ['zero', 'zero', 'At zero: nothing runs, and nothing waits.'];
}

function agentsWhy(heard) {
  if (heard === 0) return null;
  if (heard === 1) return '1 agent is connected, but it gets nothing new';
  return `${heard} agents are connected, but none gets anything new`;
}

function instancesWhy(unheard) {
  if (unheard === 0) return null;
  return unheard === 1 ? '1 instance is there, but is not heard' : `${unheard} instances are there, but are not heard`;
}

/** Whether the agent's instance leaves. */
function isLeaving({ instances }, agent) {
  return instances.some((instance) => instance.id === agent.instance && isLeft(instance));
}

function isLeft(instance) {
  return instance.is === 'draining' || instance.is === 'ending';
}

/** The slots that are not in use: which of them the next request may get. */
export function restWords({ total, used, idle }) {
  const withheld = total - used - idle;
  return withheld > 0 ? `${idle} free, ${withheld} not offered` : `${idle} free`;
}

/** A trouble's title with since when it lasts, or until when: the title alone stays the same meanwhile. */
export function timed({ title, when }) {
  return when ? `${title} ${when}` : title;
}

/** All that is to be said of an agent, the worst first; `now` as the seconds since the epoch. */
export function agentWords(agent, instance, now) {
  const said = [...agentTroubles(agent, now), ...agentEnds(agent, instance)];
  if (said.length === 0) said.push(agentStanding(agent, now));
  const order = { bad: 0, warn: 1, busy: 2, good: 3 };
  return said.sort((a, b) => order[a.level] - order[b.level]);
}

function agentTroubles(agent, now) {
  const said = [];
  const heard = since(agent.last_update);
  const add = (level, title, detail = null, when = null) => said.push({ level, title, detail, when });
  if (!agent.is_connected) {
    const left = agent.leases > 0 ? `${count(agent.leases, 'answer')} of its server still under way` : null;
    add('bad', 'Not connected', left, `since ${timeOfDay(heard, now)}`);
  }
  let error = agent.error;
  const take = () => [error, (error = null)][0];
  if (agent.is_authorized === false) add('bad', 'Unauthorised', take());
  else if (agent.is_slots_endpoint_enabled === false) add('bad', 'Slots endpoint disabled', take());
  const until = since(agent.quarantined_until);
  if (until !== null) {
    const left = duration(Math.max(until - now, 0));
    add('bad', 'Quarantined', take(), `until ${timeOfDay(until, now)} (${left} left)`);
  }
  const isSilent = agent.phase === 'ready' && !agent.is_eligible && now - heard >= SILENT_MIN;
  if (agent.is_connected && isSilent && until === null) {
    add('bad', 'Silent', null, `since ${timeOfDay(heard, now)} (${duration(now - heard)})`);
  }
  if (error && agent.phase === 'failing') add('bad', 'Failing', take());
  if (error) add('warn', 'Something is wrong', take());
  return said;
}

function agentEnds(agent, instance) {
  const { notice } = agent;
  if (notice) {
    const left = seconds(notice.left);
    const detail = left === null ? null : `it told of ${duration(left)} left`;
    return [{ level: 'warn', title: `Draining because ${NOTICES[notice.reason] ?? 'its machine will end'}`, detail }];
  }
  return instance?.drain ? [{ level: 'warn', title: drainTitle(instance), detail: null }] : [];
}

/** A later balancer may know more reasons. */
function drainTitle({ drain }) {
  return DRAINS[drain] ? `Draining because ${DRAINS[drain]}` : 'Draining';
}

function agentStanding(agent, now) {
  const one = (level, title, detail = null) => ({ level, title, detail });
  if (agent.phase === 'starting') return one('busy', 'Starting', 'nothing answers on its port yet');
  if (agent.phase === 'loading') return one('busy', 'Loading the model');
  if (agent.phase === 'failing') return one('bad', 'Failing', 'llama.cpp answers, but not in a way that can be used');
  if (!agent.is_eligible) {
    return one('warn', 'Gets nothing new', `last heard ${ago(now - since(agent.last_update))}`);
  }
  if (agent.slots_total === 0) return one('warn', 'Has no slots');
  if (agent.slots_idle === 0) return one('busy', 'All slots in use');
  return one('good', agent.slots_idle === agent.slots_total ? 'Ready' : 'Serving');
}

/** What is to be said of an instance that no agent speaks for. */
export function instanceWords(instance) {
  const one = (level, title, detail = null) => [{ level, title, detail }];
  switch (instance.is) {
    case 'booting':
      return one('busy', sentenceOf(instance.boot_phase), 'no agent speaks for it yet');
    case 'draining':
      return one('warn', drainTitle(instance));
    case 'ending':
      return one('warn', instance.state?.ended ? 'Ended' : 'Ending', instance.state?.ended?.cause ?? null);
    case 'aside':
      return one('good', 'Standing by', 'not in service, and not part of the fleet');
    default:
      return one(
        'bad',
        'Not heard',
        instance.registered
          ? 'its agent is gone; it may run and cost all the same'
          : 'its time to boot is over, and nothing is expected of it: see whether its agent runs and reaches this address',
      );
  }
}

const HAPPENED = {
  wake_asked: ['busy', 'An instance was asked for'],
  wake_failed: ['bad', 'Asking for an instance failed'],
  wake_unknown: ['warn', 'The answer to asking for an instance was lost'],
  launch_failed: ['bad', 'A launch failed'],
  boot_failed: ['bad', 'An instance did not come up'],
  registered: ['good', 'An instance is ready'],
  drain_began: ['warn', 'An instance is being drained'],
  lost: ['bad', 'An instance was lost'],
  ended: ['good', 'An instance ended'],
};

/** What happened, in words; of a kind that a later balancer knows, its name. */
export function happened(kind) {
  const [level, title] = HAPPENED[kind] ?? ['warn', kind.replaceAll('_', ' ')];
  return { level, title };
}
