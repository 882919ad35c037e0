// Waiting for what is to come, and no longer.

import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** The longest wait for anything, in milliseconds. */
const WAIT_MAX = 20_000;

/** Waits until `look` finds something, and hands it over. */
export async function until(what, look) {
  const end = Date.now() + WAIT_MAX;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${WAIT_MAX / 1000} s for this: ${what}`);
    await sleep(30);
  }
}

/** A port of the loopback that nobody listens on. */
export async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}
