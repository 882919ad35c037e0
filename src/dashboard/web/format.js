// Numbers and times as people read them. Times of day are local; only days of the ledger are UTC.

/** "0.4 s", "12 s", "2 min 5 s", "3 h 20 min", "4 d 2 h". */
export function duration(seconds) {
  if (seconds < 0.05) return '0 s';
  if (seconds < 9.95) return `${trimmed(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(whole, 60, 'min', 1, 's');
  if (whole < 86400) return pair(whole, 3600, 'h', 60, 'min');
  return pair(whole, 86400, 'd', 3600, 'h');
}

function trimmed(seconds) {
  return seconds.toFixed(1).replace(/\.0$/, '');
}

function pair(whole, big, bigName, small, smallName) {
  const rest = Math.floor((whole % big) / small);
  return `${Math.floor(whole / big)} ${bigName}${rest ? ` ${rest} ${smallName}` : ''}`;
}

/** A time that is only foretold, and so is not told to the second: "in about 40 s", "in about 3 min". */
export function foretold(seconds) {
  if (seconds <= 1.5) return 'any moment now';
  if (seconds < 20) return `in about ${Math.round(seconds)} s`;
  if (seconds < 120) return `in about ${Math.round(seconds / 5) * 5} s`;
  return `in about ${Math.round(seconds / 60)} min`;
}

const TIME = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hour12: false,
});
const MINUTE = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });

/** The local time of day, to the second; with its date if that is not today's. */
export function timeOfDay(at, now = at) {
  const [time, today] = [new Date(at * 1000), new Date(now * 1000)];
  const clock = TIME.format(time);
  return time.toDateString() === today.toDateString() ? clock : `${DAY.format(time)}, ${clock}`;
}

/** The local time of day, to the minute. */
export function minuteOfDay(at) {
  return MINUTE.format(new Date(at * 1000));
}

/** "2 requests", "1 request". */
export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

/** US dollars; small sums keep two digits that say something. */
export function dollars(sum) {
  if (sum === 0 || sum >= 0.995) return `$${sum.toFixed(2)}`;
  return `$${sum.toFixed(sum < 0.0995 ? 4 : 3)}`;
}

/** "just now", "12 s ago". */
export function ago(seconds) {
  return seconds < 2 ? 'just now' : `${duration(Math.floor(seconds))} ago`;
}

/** Hours of use: "0 h", "12 min", "3.5 h". */
export function hours(seconds) {
  if (seconds === 0) return '0 h';
  return seconds < 3600 ? duration(seconds) : `${(seconds / 3600).toFixed(1)} h`;
}

/** The middle one, or none of none. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length / 2) - 1] ?? null;
}
