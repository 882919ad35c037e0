// The last hour: what the balancer remembers of it, and what came since.

import { chart } from './chart.js';
import { byId, el, rows, text } from './dom.js';
import { count, minuteOfDay, timeOfDay } from './format.js';
import { point } from './model.js';

/** What is shown, in seconds; of a balancer that began a while ago less, but never less than a few minutes. */
const SPAN = 3600;
const SPAN_MIN = 120;

/** Rows of the table, of equal parts of the span. */
const PARTS = 12;

const CHARTS = [
  {
    id: 'queue',
    label: 'Requests that wait',
    value: (point) => point.requests_buffered,
    tell: (point) => String(point.requests_buffered),
  },
  {
    id: 'slots',
    label: 'Slots in use, and in all (dashed)',
    value: (point) => point.slots_processing,
    limit: (point) => point.slots_total,
    tell: (point) => `${point.slots_processing} of ${point.slots_total}`,
  },
  {
    id: 'instances',
    label: 'Instances',
    value: (point) => point.instances,
    tell: (point) => String(point.instances),
  },
].map((of) => ({ ...of, drawn: null }));

/** From one point to the next, in seconds. */
let step = 10;
/** Steps that are over, and the one that is not: each with when it ends. */
let points = [];
let present = null;
/** When the latest state was, and the moment that the pointer is at, both as seconds since the epoch. */
let now = 0;
let cursor = null;

/**
 * The balancer's own memory is taken over where it goes. What was before that is kept: a balancer that was restarted
 * has forgotten it.
 */
export function takeTimeline(timeline) {
  step = timeline.step_seconds || step;
  const known = timeline.points;
  const before = known.length ? known[0].at_seconds - step / 2 : Infinity;
  const kept = [...points, ...(present ? [present] : [])].filter((point) => point.at_seconds < before);
  points = [...kept, ...known];
  present = null;
}

/** A new state: part of the present step, or the begin of the next. */
export function takeState(state) {
  const seen = point(state);
  now = state.at;
  if (present && now <= present.at_seconds) {
    present = {
      ...seen,
      at_seconds: present.at_seconds,
      requests_buffered: Math.max(present.requests_buffered, seen.requests_buffered),
      slots_processing: Math.max(present.slots_processing, seen.slots_processing),
    };
    return;
  }
  if (present) points.push(present);
  points = points.filter((point) => point.at_seconds > now - SPAN - step);
  const last = points.at(-1)?.at_seconds ?? now;
  const steps = Math.max(Math.ceil((now - last) / step), 1);
  present = { ...seen, at_seconds: last + steps * step };
}

/** Draws it. */
export function showTimeline() {
  if (!present) return;
  const all = [...points, present];
  text(byId('timeline-note'), summary(all));
  const begin = Math.min(all[0].at_seconds - step, now - SPAN_MIN);
  const view = { from: Math.max(begin, now - SPAN), to: now, step, cursor };
  const at =
    cursor === null ? null : all.find((point) => point.at_seconds >= cursor && point.at_seconds - step <= cursor);
  for (const one of CHARTS) {
    one.drawn ??= chart(byId('charts'), one, pointAt);
    one.drawn.draw(all, view, told(one, at));
  }
  if (byId('timeline-details').open) showTable(all);
}

/** The pointer is at this moment of a chart: all of them tell what was then. */
function pointAt(moment) {
  cursor = moment;
  showTimeline();
}

function told(one, at) {
  if (cursor === null) return `now ${one.tell(present)}`;
  const when = timeOfDay(cursor);
  return at ? `${when}: ${one.tell(at)}` : `${when}: not recorded`;
}

function summary(all) {
  const most = (of) => all.reduce((best, point) => (of(point) > of(best) ? point : best));
  const queue = most((point) => point.requests_buffered);
  const slots = most((point) => point.slots_processing);
  const instances = most((point) => point.instances).instances;
  const { requests_buffered: waited } = queue;
  const wait = waited
    ? `At most ${count(waited, 'request')} waited, at ${minuteOfDay(queue.at_seconds)}`
    : 'Nothing waited';
  const used = slots.slots_processing
    ? `at most ${count(slots.slots_processing, 'slot')} in use`
    : 'no slot was in use';
  return `${wait}; ${used}; ${instances ? `at most ${count(instances, 'instance')}` : 'no instance'}.`;
}

function showTable(all) {
  const length = SPAN / PARTS;
  const first = Math.floor(all[0].at_seconds / length);
  const parts = [];
  for (let part = Math.floor(now / length); part >= first && parts.length < PARTS; part -= 1) {
    const within = all.filter((point) => Math.floor((point.at_seconds - step / 2) / length) === part);
    parts.push({ until: Math.min((part + 1) * length, now), within, part });
  }
  rows(byId('timeline-rows'), parts, {
    key: ({ part }) => String(part),
    make: () => el('tr', {}, el('th', { scope: 'row' }), ...Array.from({ length: 4 }, () => el('td'))),
    fill: (row, { until, within }) => {
      const most = (of) => (within.length ? String(Math.max(...within.map(of))) : '–');
      const cells = [
        minuteOfDay(until),
        most((point) => point.requests_buffered),
        most((point) => point.slots_processing),
        most((point) => point.slots_total),
        most((point) => point.instances),
      ];
      cells.forEach((cell, at) => text(row.children[at], cell));
    },
  });
}

byId('timeline-details').addEventListener('toggle', showTimeline);
new ResizeObserver(showTimeline).observe(byId('charts'));
