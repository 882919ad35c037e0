// Where the cold start goes: the last boots, phase by phase.

import { byId, el, part, rows, show, text } from './dom.js';
import { count, duration, median } from './format.js';
import { PHASES } from './words.js';

/** The balancer remembers more; these are enough to see what is usual. */
const SHOWN = 8;

/** A phase shorter than this share of a boot is not named in words. */
const SHARE_MIN = 0.005;

/** Fills the list, the latest boot first. */
export function showBoots({ boots }) {
  const last = boots.slice(-SHOWN).reverse();
  text(byId('boots-note'), summary(boots));
  show(byId('phases'), last.length > 0);
  rows(byId('phases'), last.length ? PHASES : [], {
    key: ({ id }) => id,
    make: ({ id, label }) => el('li', {}, el('i', { class: 'swatch', 'data-phase': id }), label),
    fill: () => {},
  });
  const longest = Math.max(...last.map((boot) => boot.total_seconds));
  rows(byId('boots'), last, {
    key: (boot) => `${boot.instance} ${boot.total_seconds}`,
    make,
    fill: (item, boot) => fill(item, boot, longest),
  });
}

/** The phase that takes most of the time is the one to mend. */
function summary(boots) {
  if (boots.length === 0) return 'No boot was measured yet.';
  const usual = median(boots.map((boot) => boot.total_seconds));
  const whole =
    boots.length === 1
      ? `The one boot took ${duration(usual)}`
      : `The middle one of ${count(boots.length, 'boot')} took ${duration(usual)}`;
  const sums = PHASES.map(({ id, label }) => ({
    label,
    sum: boots.reduce((all, boot) => all + (boot.phase_seconds[id] ?? 0), 0),
  }));
  const all = sums.reduce((total, { sum }) => total + sum, 0);
  const most = sums.reduce((best, one) => (one.sum > best.sum ? one : best));
  if (all === 0) return `${whole}.`;
  return `${whole}; ${Math.round((100 * most.sum) / all)} % of it goes to: ${most.label.toLowerCase()}.`;
}

function make(boot) {
  const bar = PHASES.map(({ id }) => el('span', { 'data-phase': id }));
  return el(
    'li',
    {},
    el('p', { class: 'what' }, el('b', {}, boot.instance), el('span', { 'data-part': 'total' })),
    el('div', { class: 'track', 'aria-hidden': 'true', 'data-part': 'track' }, el('div', { class: 'bar' }, ...bar)),
    el('p', { class: 'note', 'data-part': 'phases' }),
  );
}

function fill(item, boot, longest) {
  text(part(item, 'total'), duration(boot.total_seconds));
  const track = part(item, 'track');
  track.style.width = `${longest ? (100 * boot.total_seconds) / longest : 100}%`;
  const took = PHASES.map(({ id, label }) => ({ label, seconds: boot.phase_seconds[id] ?? 0 }));
  took.forEach(({ label, seconds }, at) => {
    const segment = track.firstElementChild.children[at];
    segment.style.flex = `${seconds} 1 0`;
    segment.hidden = seconds === 0;
    segment.title = `${label}: ${duration(seconds)}`;
  });
  const named = took.filter(({ seconds }) => seconds >= boot.total_seconds * SHARE_MIN);
  text(part(item, 'phases'), named.map(({ label, seconds }) => `${label} ${duration(seconds)}`).join(' · '));
}
