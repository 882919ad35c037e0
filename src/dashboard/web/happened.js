// What happened: the last wakes, ends and failures, with their causes.

import { attrs, byId, el, part, rows, show, text } from './dom.js';
import { timeOfDay } from './format.js';
import { happened } from './words.js';

/** The balancer remembers more; the log has all. */
const SHOWN = 15;

/** Fills the list, the latest first; `now` as the seconds since the epoch. */
export function showHappened({ happenings, at }, now) {
  const latest = [...happenings].sort((a, b) => a.ago_seconds - b.ago_seconds).slice(0, SHOWN);
  show(byId('happened-note'), latest.length === 0);
  rows(byId('happened'), keyed(latest, at), { key: ({ key }) => key, make, fill: (item, one) => fill(item, one, now) });
}

/** What happened has no number of its own: the same kind, instance and second, and which of these it is. */
function keyed(latest, at) {
  const seen = new Map();
  return latest.map((one) => {
    const when = at - one.ago_seconds;
    const name = `${one.kind} ${one.instance ?? ''} ${one.cause ?? ''} ${Math.round(when)}`;
    const times = (seen.get(name) ?? 0) + 1;
    seen.set(name, times);
    return { ...one, when, key: `${name} ${times}` };
  });
}

function make() {
  return el(
    'li',
    {},
    el('time', { class: 'note', 'data-part': 'time' }),
    el('p', { class: 'say', 'data-part': 'say' }, el('span', { 'data-part': 'title' })),
    el('p', { class: 'note cause', 'data-part': 'cause' }),
  );
}

function fill(item, one, now) {
  const { level, title } = happened(one.kind);
  text(part(item, 'time'), timeOfDay(one.when, now));
  attrs(part(item, 'time'), { datetime: new Date(Math.round(one.when) * 1000).toISOString() });
  attrs(part(item, 'say'), { 'data-level': level });
  const where = [one.instance, one.groupName].filter(Boolean).join(', ');
  text(part(item, 'title'), where ? `${title}: ${where}` : title);
  text(part(item, 'cause'), one.cause ?? '');
  show(part(item, 'cause'), Boolean(one.cause));
}
