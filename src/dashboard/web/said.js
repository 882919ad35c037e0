// What is said to those who listen: a screen reader reads it out.

import { byId, text } from './dom.js';

/** From one time to the next, at least, in milliseconds: a queue may come and go each second. */
const INTERVAL = 5000;

/** Of what kind the last headline was that was said; the titles of issues that were, for as long as these last. */
let kind = null;
let known = [];
let saidAt = -Infinity;

/** Says the headline if it is of another kind, and issues that are new. `news` is what does not wait for its time. */
export function say([ofKind, , sentence], issues, news = null) {
  const titles = issues.map(({ title }) => title);
  // What is over may come again.
  known = known.filter((title) => titles.includes(title));
  if (news === null && performance.now() - saidAt < INTERVAL) return;
  const words = [
    ...(news ? [news] : []),
    ...(ofKind === kind ? [] : [sentence]),
    ...titles.filter((title) => !known.includes(title)).map((title) => `${title}.`),
  ];
  if (words.length === 0) return;
  kind = ofKind;
  known = titles;
  saidAt = performance.now();
  text(byId('said'), words.join(' '));
}
