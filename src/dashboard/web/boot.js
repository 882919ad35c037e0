// The cold start that is under way: its phases, and how much longer it takes.

import { attrs, byId, el, part, rows, show, text } from './dom.js';
import { count, duration, foretold, median } from './format.js';
import { PHASES, sentenceOf } from './words.js';

/** The part of its usual time after which a phase is not shown as further: it is over when it is over. */
const FULL = 0.97;

/** A phase that takes no time is still one to see, as a part of the whole. */
const WIDTH_MIN = 0.04;

/** Fills the card of the cold start; `elapsed` seconds ago the state was true. */
export function showStarts(state, elapsed) {
  const starts = [...state.booting.map((instance) => start(instance, elapsed)), ...asked(state)];
  show(byId('cold'), starts.length > 0);
  if (starts.length === 0) return;
  text(byId('cold-words'), whole(state, elapsed));
  const usual = usualPhases(state.boots);
  rows(byId('starts'), starts, { key: (start) => start.id, make, fill: (item, start) => fill(item, start, usual) });
}

function start(instance, elapsed) {
  const before = Object.values(instance.phase_seconds).reduce((a, b) => a + b, 0);
  const age = instance.age_seconds + elapsed;
  return {
    id: instance.id,
    title: [instance.id, instance.groupName].filter(Boolean).join(', '),
    age,
    phase: instance.boot_phase,
    took: instance.phase_seconds,
    inPhase: Math.max(age - before, 0),
  };
}

/** Those that were asked for, and that the fleet does not show yet. */
function asked({ states }) {
  if (states.launching === 0) return [];
  const title = `${count(states.launching, 'instance')} asked for`;
  return [{ id: ' asked', title, age: null, phase: 'call', took: {}, inPhase: 0 }];
}

function whole({ eta, boots, slots }, elapsed) {
  const what = slots.total > 0 ? 'The next slots come' : 'The first slot comes';
  const by = boots.length
    ? ` (by the last ${boots.length === 1 ? 'boot' : `${boots.length} boots`})`
    : ' (a guess: no boot was measured yet)';
  return `${what} ${foretold(eta - elapsed)}${by}.`;
}

/** How long each phase usually takes; none before a boot was measured. */
function usualPhases(boots) {
  if (boots.length === 0) return null;
  return Object.fromEntries(PHASES.map(({ id }) => [id, median(boots.map((boot) => boot.phase_seconds[id] ?? 0))]));
}

function make() {
  const bar = PHASES.map(({ id }) => el('span', { 'data-phase': id }, el('span')));
  const steps = PHASES.map(({ id, label }) =>
    el('li', { 'data-step': id }, el('span', {}, label), el('span', { 'data-part': id })),
  );
  return el(
    'li',
    {},
    el('p', { class: 'what' }, el('b', { 'data-part': 'title' }), el('span', { 'data-part': 'age' })),
    el(
      'div',
      {
        class: 'bar',
        role: 'progressbar',
        'aria-label': 'Cold start',
        'aria-valuemin': 0,
        'aria-valuemax': PHASES.length,
        'data-part': 'bar',
      },
      ...bar,
    ),
    el('ol', { class: 'steps' }, ...steps),
  );
}

function fill(item, start, usual) {
  // A later balancer may know more phases: of one that is not known here nothing is said to be over.
  const present = PHASES.findIndex(({ id }) => id === start.phase);
  text(part(item, 'title'), `${sentenceOf(start.phase)} – ${start.title}`);
  text(part(item, 'age'), start.age === null ? '' : `for ${duration(Math.floor(start.age))}`);
  const bar = part(item, 'bar');
  attrs(bar, {
    'aria-valuenow': present < 0 ? null : present,
    'aria-valuetext': present < 0 ? null : `Step ${present + 1} of ${PHASES.length}: ${PHASES[present].label}`,
  });
  const all = usual ? Object.values(usual).reduce((a, b) => a + b, 0) || 1 : PHASES.length;
  PHASES.forEach(({ id }, at) => {
    const segment = bar.children[at];
    segment.style.flex = `${Math.max((usual?.[id] ?? 1) / all, WIDTH_MIN)} 1 0`;
    segment.firstElementChild.style.width = `${100 * share(at, present, start, usual?.[id])}%`;
    const step = item.querySelector(`[data-step="${id}"]`);
    attrs(step, {
      class: at < present ? 'done' : at === present ? 'present' : null,
      'aria-current': at === present ? 'step' : null,
    });
    text(part(item, id), took(at, present, start, id));
  });
}

/** How much of a phase is over. */
function share(at, present, start, usual) {
  if (at !== present) return at < present ? 1 : 0;
  return usual ? Math.min(start.inPhase / usual, FULL) : 0.5;
}

function took(at, present, start, id) {
  if (at < present) return start.took[id] === undefined ? '' : ` ${duration(start.took[id])}`;
  return at === present && start.age !== null ? ` ${duration(Math.floor(start.inPhase))}` : '';
}
