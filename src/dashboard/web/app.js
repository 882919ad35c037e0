// The page: it listens to the balancer and hands each state to the parts that show it.

import { showAgents } from './agents.js';
import { showBoots } from './boots.js';
import { showStarts } from './boot.js';
import { showCosts } from './cost.js';
import { attrs, byId, show, text } from './dom.js';
import { timeOfDay } from './format.js';
import { showHappened } from './happened.js';
import { watch } from './live.js';
import { read } from './model.js';
import { showNow } from './now.js';
import { showTimeline, takeState, takeTimeline } from './timeline.js';

/** How often times that pass are shown anew, in milliseconds: the balancer speaks about as often. */
const TICK = 1000;

/** The latest state, and when it came by this machine's monotonic clock, in milliseconds. */
let state = null;
let cameAt = 0;
/** Since when the connection is lost, in milliseconds of this machine's wall clock. */
let lostAt = null;
/** The first balancer's version: this page is that one's. */
let version = null;
/** What went wrong in the page itself, since the last state that was shown. */
let fault = null;

addEventListener('error', ({ message }) => broke(message));
addEventListener('unhandledrejection', ({ reason }) => broke(String(reason)));

/** Tells this browser's other pages that somebody logged out: their streams would go on to the session's end. */
const logouts = new BroadcastChannel('paddock-logout');
// The same address now answers with the log-in form.
const leave = () => location.assign('/dashboard');
logouts.addEventListener('message', leave);

byId('logout').addEventListener('submit', async (event) => {
  event.preventDefault();
  // The others are told once the cookie is gone.
  const { action, method } = event.target;
  const answer = await fetch(action, { method, redirect: 'manual' }).catch(() => null);
  // Then the browser says what is wrong.
  if (!answer) return event.target.submit();
  logouts.postMessage(null);
  leave();
});

watch({
  timeline: (timeline) => {
    takeTimeline(timeline);
    showTimeline();
  },
  state: (snapshot) => {
    version ??= snapshot.version;
    // What another version says, its own page can show.
    if (snapshot.version !== version) return location.reload();
    const isBack = lostAt !== null && state !== null;
    lostAt = null;
    state = read(snapshot);
    cameAt = performance.now();
    takeState(state);
    showAll(isBack ? `Connected again at ${timeOfDay(state.at)}.` : null);
    fault = null;
    showLink();
  },
  session: () => show(byId('logout'), true),
  lost: () => {
    lostAt ??= Date.now();
    showLink();
  },
  // What its title says would soon be old.
  unseen: () => (document.title = 'Paddock'),
  locked: leave,
});

setInterval(() => {
  if (!state || lostAt !== null || fault !== null) return;
  showPassing();
}, TICK);

/** What only changes with a new state; `news` is said to those who listen. */
function showAll(news) {
  showPassing(news);
  showBoots(state);
  showCosts(state);
  showTimeline();
  text(byId('version'), `${state.snapshot.version} on ${location.host}`);
  document.title = state.waiting > 0 ? `(${state.waiting}) Paddock` : 'Paddock';
  attrs(byId('main'), { 'aria-busy': null });
}

/** What changes with time, too: it is told as of now, by the balancer's clock. */
function showPassing(news = null) {
  const elapsed = (performance.now() - cameAt) / 1000;
  const now = state.at + elapsed;
  showNow(state, elapsed, news);
  showStarts(state, elapsed);
  showAgents(state, now);
  showHappened(state, now);
}

function broke(message) {
  fault = message;
  showLink();
}

function showLink() {
  const isLost = lostAt !== null;
  const isOld = isLost || fault !== null;
  attrs(byId('link'), { 'data-level': isOld ? 'bad' : 'good' });
  text(byId('link'), isLost ? 'Not connected' : isOld ? 'Not shown' : 'Live');
  show(byId('lost'), isOld);
  byId('main').classList.toggle('stale', isOld && state !== null);
  if (!isOld) return;
  const old = state ? ` What is shown is from ${timeOfDay(state.at)}.` : '';
  text(
    byId('lost'),
    isLost
      ? `Connection lost at ${timeOfDay(lostAt / 1000)}: trying again…${old}`
      : `This page fails to show what the balancer says: ${fault}. Load it again, or see it with: paddock dashboard`,
  );
}
