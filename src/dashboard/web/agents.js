// Agents with their slots as cells, what is to be said of each in words, and instances that no agent speaks for.

import { attrs, byId, el, part, rows, show, text } from './dom.js';
import { ago, count, duration, timeOfDay } from './format.js';
import { since } from './model.js';
import { agentWords, instanceWords, restWords, timed } from './words.js';

/** With more slots than this, the cells of a kind become one. */
const CELLS_MAX = 64;

/** What a slot may be, and how that is told. */
const USES = {
  ours: 'in use',
  cooling: 'cancelled, not free yet',
  foreign: 'used by others',
  free: 'free',
  withheld: 'not offered',
};

/** Fills the table; `now` as the seconds since the epoch. */
export function showAgents(state, now) {
  const instances = new Map(state.instances.map((instance) => [instance.id, instance]));
  const agents = state.agents.map((agent) => agentRow(agent, instances.get(agent.instance) ?? null, now));
  const spoken = new Set(state.agents.map((agent) => agent.instance));
  const others = state.instances.filter((instance) => !spoken.has(instance.id)).map(instanceRow);
  const all = [...agents, ...others];
  show(byId('agents'), all.length > 0);
  show(
    byId('slots-legend'),
    agents.some((agent) => agent.total > 0),
  );
  text(byId('agents-note'), note(state));
  rows(byId('agent-rows'), all, { key: (row) => row.key, make, fill });
}

function note({ agents, slots }) {
  if (agents.length === 0) return 'None is connected.';
  const heard = agents.filter((agent) => agent.is_connected).length;
  return `${heard} connected, with ${count(slots.total, 'slot')}: ${slots.used} in use, ${restWords(slots)}.`;
}

function agentRow(agent, instance, now) {
  const heard = since(agent.last_update);
  const place = [instance?.groupName ?? agent.group, agent.zone].filter(Boolean).join(', ');
  const name = agent.agent_name ?? agent.agent_id;
  const ids = new Set([agent.agent_id, agent.instance]);
  return {
    key: `agent ${agent.agent_id} ${agent.incarnation}`,
    name,
    id: [...ids].filter((id) => id && id !== name),
    total: agent.slots_total,
    uses: slotUses(agent),
    words: agentWords(agent, instance, now),
    where: [agent.external_llamacpp_addr, place, `heard ${ago(now - heard)}`],
    heard: `last report at ${timeOfDay(heard, now)}`,
  };
}

function instanceRow(instance) {
  return {
    key: `instance ${instance.id}`,
    name: instance.id,
    id: [],
    total: 0,
    uses: null,
    words: instanceWords(instance),
    where: [instance.address, instance.groupName, `there for ${duration(Math.floor(instance.age_seconds))}`],
    heard: null,
  };
}

/** Those in use are of three kinds, and of an agent that gets nothing new none is free. */
function slotUses({ slots_total: total, slots_processing: used, slots_idle: free, ...agent }) {
  const foreign = Math.min(agent.slots_foreign, used);
  const cooling = Math.min(agent.slots_cooling ?? 0, used - foreign);
  return { ours: used - foreign - cooling, cooling, foreign, free, withheld: total - used - free };
}

function make() {
  return el(
    'tr',
    {},
    el('th', { scope: 'row' }, el('div', { 'data-part': 'name' }), el('div', { class: 'note', 'data-part': 'id' })),
    el(
      'td',
      {},
      el('div', { class: 'cells', 'aria-hidden': 'true', 'data-part': 'cells' }),
      el('div', { class: 'note', 'data-part': 'slots' }),
    ),
    el('td', { 'data-part': 'words' }),
    el('td', { class: 'note', 'data-part': 'where' }),
  );
}

function fill(row, { name, id, total, uses, words, where, heard }) {
  text(part(row, 'name'), name);
  text(part(row, 'id'), id.join(', '));
  text(part(row, 'slots'), uses && total > 0 ? told(uses) : 'no slots known');
  showCells(part(row, 'cells'), uses, total);
  rows(
    part(row, 'words'),
    words.map((word, at) => ({ ...word, at })),
    {
      key: (word) => String(word.at),
      make: () =>
        el('p', {}, el('span', { class: 'say', 'data-part': 'title' }), el('span', { 'data-part': 'detail' })),
      fill: (item, { level, detail, ...word }) => {
        attrs(part(item, 'title'), { 'data-level': level });
        text(part(item, 'title'), timed(word));
        text(part(item, 'detail'), detail ? `: ${detail}` : '');
      },
    },
  );
  rows(part(row, 'where'), where.filter(Boolean), {
    key: (line) => String(where.indexOf(line)),
    make: () => el('div'),
    fill: text,
  });
  attrs(part(row, 'where'), { title: heard });
}

function told(uses) {
  return Object.entries(USES)
    .filter(([use]) => uses[use] > 0)
    .map(([use, words]) => `${uses[use]} ${words}`)
    .join(', ');
}

function showCells(cells, uses, total) {
  const isMany = total > CELLS_MAX;
  cells.classList.toggle('many', isMany);
  const kinds = uses ? Object.keys(USES).filter((use) => uses[use] > 0) : [];
  const list = kinds.flatMap((use) =>
    isMany ? [{ use, size: uses[use] }] : Array.from({ length: uses[use] }, () => ({ use, size: 1 })),
  );
  rows(
    cells,
    list.map((cell, at) => ({ ...cell, at })),
    {
      key: (cell) => String(cell.at),
      make: () => el('i', { class: 'cell' }),
      fill: (cell, { use, size }) => {
        attrs(cell, { 'data-use': use });
        cell.style.flexGrow = isMany ? String(size) : '';
      },
    },
  );
}
