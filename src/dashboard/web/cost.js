// What it costs, and what an instance that never ends would have cost. Every sum is an estimate.

import { byId, el, rows, text } from './dom.js';
import { dollars, duration, hours } from './format.js';
import { saved, usage } from './model.js';

const SPANS = ['today', 'month'];

/** Fills the table. */
export function showCosts({ snapshot }) {
  const used = SPANS.map((span) => usage(snapshot, span));
  const isPriced = used.some((one) => one.cost_usd !== null);
  text(byId('costs-note'), note(snapshot, isPriced));
  const money = (value) => (value === null ? '–' : dollars(value));
  const lines = [
    ['Instances ran', (one) => hours(one.instance_seconds)],
    ['of that busy', (one) => hours(one.busy_seconds)],
    ['of that booting or idle', (one) => hours(one.idle_seconds)],
    ...(isPriced
      ? [
          ['Cost (estimate)', (one) => money(one.cost_usd)],
          ['Always-on (estimate)', (one) => money(one.always_on_usd)],
          ['Saved (estimate)', (one) => savedWords(one)],
        ]
      : []),
  ];
  rows(byId('cost-rows'), lines, {
    key: ([label]) => label,
    make: ([label]) => el('tr', {}, el('th', { scope: 'row' }, label), ...SPANS.map(() => el('td'))),
    fill: (row, [, tell]) => used.forEach((one, at) => text(row.children[at + 1], tell(one))),
  });
}

function note({ pools }, isPriced) {
  if (!isPriced) {
    return 'No price is configured: start the balancer with --price-per-hour PRICE, in US dollars, or with an instance type.';
  }
  const budget = pools.map((pool) => pool.ledger.budget).find(Boolean);
  const limit = budget
    ? ` A day may cost ${dollars(budget.usd_per_day)} at most; the next one begins in ${duration(budget.ends_in_seconds)}.`
    : '';
  return `Estimates in US dollars, by the configured prices. Always-on is one instance that never ends.${limit}`;
}

function savedWords(one) {
  const sum = saved(one);
  if (sum === null) return '–';
  const share = one.always_on_usd > 0 ? ` (${Math.round((100 * sum) / one.always_on_usd)} %)` : '';
  return sum < 0 ? `–${dollars(-sum)}` : `${dollars(sum)}${share}`;
}
