// The connection to the balancer. It is always either live or being made anew.

const TIMELINE = '/api/v1/timeline';
const EVENTS = '/api/v1/events';

/** The balancer speaks once a second: after so long without a word the connection is dead, in milliseconds. */
const SILENCE_MAX = 10_000;

/**
 * A page that nobody sees lets its connection go after so long, in milliseconds: over HTTP/1.1 browsers open six to a
 * host, and each page keeps one.
 */
const UNSEEN_MAX = 60_000;

/** From a failure to the next attempt, in milliseconds: soon at first, and never more rarely than the last. */
const PAUSES = [500, 1000, 2000, 4000, 5000];

/**
 * Watches the balancer for ever.
 *
 * 1. The last hour is fetched. That tells a session that is over from a balancer that is away: an event stream does not.
 * 2. The stream is opened, and every state is handed on.
 * 3. When it breaks or falls silent, all begins anew after a pause; when nobody sees the page, once somebody does.
 *
 * `on.timeline(timeline)`, `on.state(snapshot)`, `on.session()` when it is one, `on.lost()` when the connection was lost,
 * `on.unseen()` when it was let go, `on.locked()` when one has to log in.
 */
export async function watch(on) {
  for (let failures = 0; ;) {
    // The limit is for the body, too.
    const signal = AbortSignal.timeout(SILENCE_MAX);
    const answer = await fetch(TIMELINE, { cache: 'no-store', signal }).catch(() => null);
    if (answer?.status === 401) return on.locked();
    const timeline = answer?.ok ? await answer.json().catch(() => null) : null;
    if (timeline) {
      if (answer.headers.has('x-paddock-session')) on.session();
      // What cannot be shown is told, and is no reason to hear nothing more.
      try {
        on.timeline(timeline);
      } catch (error) {
        reportError(error);
      }
      const { isAnyHeard, isUnseen } = await stream(on);
      if (isAnyHeard) failures = 0;
      if (isUnseen) {
        on.unseen();
        await seen();
        continue;
      }
    }
    on.lost();
    await pause(PAUSES[Math.min(failures, PAUSES.length - 1)]);
    failures += 1;
  }
}

/** One stream to its end: whether it told anything, and whether it ended because nobody sees the page. */
function stream(on) {
  return new Promise((resolve) => {
    let isAnyHeard = false;
    let [silence, unseen] = [];
    const source = new EventSource(EVENTS);
    const end = (isUnseen) => {
      clearTimeout(silence);
      clearTimeout(unseen);
      document.removeEventListener('visibilitychange', look);
      source.close();
      resolve({ isAnyHeard, isUnseen });
    };
    const look = () => {
      clearTimeout(unseen);
      if (document.visibilityState === 'hidden') unseen = setTimeout(end, UNSEEN_MAX, true);
    };
    document.addEventListener('visibilitychange', look);
    look();
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(end, SILENCE_MAX, false);
    };
    heard();
    source.addEventListener('state', (event) => {
      isAnyHeard = true;
      heard();
      on.state(JSON.parse(event.data));
    });
    // The browser would come again by itself, but not after every kind of failure.
    source.addEventListener('error', () => end(false));
  });
}

/** Until somebody sees the page. */
function seen() {
  return new Promise((resolve) => {
    const look = () => {
      if (document.visibilityState === 'hidden') return;
      document.removeEventListener('visibilitychange', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    look();
  });
}

/** A pause that ends at once when there is a network again, or somebody looks again. */
function pause(milliseconds) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener('online', done);
      document.removeEventListener('visibilitychange', seen);
      resolve();
    };
    const seen = () => {
      if (document.visibilityState === 'visible') done();
    };
    const timer = setTimeout(done, milliseconds);
    addEventListener('online', done);
    document.addEventListener('visibilitychange', seen);
  });
}
