// At the top: what matters, and what is wrong.

import { attrs, byId, el, part, rows, show, text } from './dom.js';
import { dollars, duration } from './format.js';
import { STATES, groupName, saved, usage } from './model.js';
import { say } from './said.js';
import { agentWords, headline, instanceWords, restWords, timed } from './words.js';

/** Fills the top of the page; `elapsed` seconds ago the state was true. `news` is said beside it. */
export function showNow(state, elapsed, news) {
  const now = headline(state, elapsed);
  const [kind, level, sentence] = now;
  const issues = issuesOf(state, elapsed);
  text(byId('headline'), sentence);
  say(now, issues, news);
  attrs(byId('headline'), { 'data-kind': kind, 'data-level': level === 'bad' || level === 'warn' ? level : null });
  show(byId('now'), true);
  showTiles(state);
  showToday(state);
  showIssues(issues);
  showZero(state, kind);
}

function showTiles(state) {
  const { slots, waiting } = state;
  text(byId('waiting'), String(waiting));
  text(byId('waiting-note'), waitingNote(state));
  text(byId('slots-used'), String(slots.used));
  text(byId('slots-total'), String(slots.total));
  byId('slots-meter').firstElementChild.style.width = `${slots.total ? (100 * slots.used) / slots.total : 0}%`;
  text(byId('slots-note'), slots.total > 0 ? restWords(slots) : 'no server is up');
  text(byId('instances'), String(state.instanceCount));
  const parts = STATES.filter((name) => state.states[name] > 0).map((name) => [
    name === 'unheard' ? 'not heard' : name,
    state.states[name],
  ]);
  // Agents that speak for no instance of a fleet were started by other hands.
  const others = state.agents.filter((agent) => agent.is_connected && agent.instance === null).length;
  if (others > 0) parts.push([others === 1 ? 'agent of no fleet' : 'agents of no fleet', others]);
  if (parts.length === 0) parts.push(['is there or asked for', 'none']);
  rows(byId('states'), parts, {
    key: ([name]) => name,
    make: ([name]) => el('li', {}, el('b', { 'data-part': 'number' }), ` ${name}`),
    fill: (item, [, number]) => text(part(item, 'number'), String(number)),
  });
}

function waitingNote({ waiting }) {
  if (waiting === 0) return 'nothing is held';
  return waiting === 1 ? 'request, held until a slot is free' : 'requests, held until a slot is free';
}

function showToday({ snapshot }) {
  const today = usage(snapshot, 'today');
  const isPriced = today.cost_usd !== null;
  byId('today').classList.toggle('words', !isPriced);
  text(byId('today'), isPriced ? dollars(today.cost_usd) : 'No price configured');
  text(byId('today-note'), isPriced ? against(today) : 'set --price-per-hour to see it');
}

function against(today) {
  const { always_on_usd: alwaysOn } = today;
  if (alwaysOn === null) return 'today so far';
  const share = alwaysOn > 0 ? Math.round((100 * saved(today)) / alwaysOn) : 0;
  if (share === 0) return `always-on: ${dollars(alwaysOn)}`;
  return `always-on: ${dollars(alwaysOn)}, so ${Math.abs(share)} % ${share > 0 ? 'saved' : 'more'}`;
}

/** What somebody should look at, the worst first. */
function issuesOf(state, elapsed) {
  const issues = state.snapshot.pools.flatMap((pool) => poolIssues(pool, elapsed));
  const failing = state.snapshot.cloudwatch?.last_error;
  if (failing) issues.push({ level: 'warn', title: 'CloudWatch gets no metrics', detail: failing });
  for (const agent of state.agents) {
    const worst = agentWords(agent, null, state.at + elapsed)[0];
    if (worst.level !== 'bad') continue;
    issues.push({ ...worst, title: `${agent.agent_name ?? agent.agent_id}: ${worst.title}` });
  }
  // An agent that is gone, and whose answers still run, says it already.
  const spoken = new Set(state.agents.map((agent) => agent.instance));
  for (const instance of state.instances) {
    if (instance.is !== 'unheard' || spoken.has(instance.id)) continue;
    const [words] = instanceWords(instance);
    issues.push({ ...words, title: `${instance.id}: ${words.title}` });
  }
  return issues.sort((a, b) => Number(a.level === 'warn') - Number(b.level === 'warn'));
}

function poolIssues(pool, elapsed) {
  const issues = [];
  const add = (level, title, detail = null, when = null) => issues.push({ level, title, detail, when });
  const { budget } = pool.ledger;
  if (budget?.is_exhausted) {
    const left = duration(Math.max(budget.ends_in_seconds - elapsed, 0));
    add(
      'bad',
      `Today's budget of ${dollars(budget.usd_per_day)} is used up`,
      `nothing is started for ${left}, until the UTC day ends; running work finishes`,
    );
  }
  if (pool.trouble) add('bad', 'The last launch failed', pool.trouble);
  if (pool.wake_wanted) {
    add(
      'bad',
      'Requests wait, and no instance could be asked for here',
      'somebody else should start one, such as an alarm on wake_wanted',
    );
  }
  for (const group of pool.groups) {
    const name = groupName(pool, group.group) ?? 'The group';
    if (group.left_alone_seconds !== null) {
      const left = duration(Math.max(group.left_alone_seconds - elapsed, 0));
      add('warn', `${name} is left alone`, group.cause, `for ${left}`);
    }
    if (group.has_rival) {
      add('warn', `Another balancer works on ${name}`, 'nothing is ended for not being heard of');
    }
  }
  return issues;
}

function showIssues(issues) {
  show(byId('attention'), issues.length > 0);
  rows(
    byId('issues'),
    issues.map((issue, at) => ({ ...issue, at })),
    {
      key: (issue) => String(issue.at),
      make: () => el('li', {}, el('b', { 'data-part': 'title' }), el('span', { 'data-part': 'detail' })),
      fill: (item, { level, detail, ...issue }) => {
        attrs(item, { 'data-level': level });
        text(part(item, 'title'), timed(issue));
        text(part(item, 'detail'), detail ? `: ${detail}` : '');
      },
    },
  );
}

/** A request to where clients call. Where that is every address of the machine, it is asked for as this page is. */
function tryWords({ clients }) {
  // A balancer of before does not say it.
  const { address, is_tls: isTls } = clients ?? { address: '0.0.0.0:8080', is_tls: false };
  const at = new URL(`${isTls ? 'https' : 'http'}://${address}/v1/chat/completions`);
  if (['0.0.0.0', '[::]'].includes(at.hostname)) at.hostname = location.hostname;
  return `curl ${at} -H 'Content-Type: application/json' \\
  -d '{"model": "any", "messages": [{"role": "user", "content": "Hello"}]}'`;
}

/** At zero: that it is meant, and how to try. */
function showZero(state, kind) {
  const isZero = kind === 'zero' || kind === 'aside';
  show(byId('zero'), isZero);
  if (!isZero) return;
  text(byId('zero-words'), zeroWords(state));
  text(byId('try'), tryWords(state.snapshot));
  show(byId('copy'), Boolean(navigator.clipboard));
}

function zeroWords({ snapshot, boots, states }) {
  const hasFleet = snapshot.pools.some((pool) => pool.groups.length > 0);
  if (!hasFleet) {
    return 'No agent is connected. The next request waits until one registers: start one with `paddock agent`.';
  }
  const last = boots.at(-1);
  const took = last ? ` The last start took ${duration(last.total_seconds)}.` : '';
  const there =
    states.aside > 0
      ? 'What stands by is not in service, and is billed for as long as its machine runs.'
      : 'No instance is there, so none costs anything now.';
  return `${there} The next request starts one, and waits for it.${took}`;
}

byId('copy').addEventListener('click', async () => {
  const isCopied = await navigator.clipboard.writeText(byId('try').textContent).then(
    () => true,
    () => false,
  );
  text(byId('copy'), isCopied ? 'Copied' : 'Not copied');
  setTimeout(() => text(byId('copy'), 'Copy'), 2000);
});
