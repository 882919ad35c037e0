// Waiting for what is to come, and no longer.

import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** The longest wait for anything, in milliseconds. */
const WAIT_MAX = 60_000;

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

// Below those that the kernel gives to connections, and beside those of the tests in Rust.
const [PORT_MIN, PORT_MAX] = [32_000, 32_700];

/** A port of the loopback that nobody listens on, and that no other run is given as long as this process lives. */
export async function freePort() {
  for (;;) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    // A name of the kernel's that one socket alone can have, and that is free again after any end of its process.
    const claim = await listening({ path: `\0paddock-port-${port}` });
    const free = claim && (await listening({ port, host: '127.0.0.1' }));
    if (free) {
      claim.unref();
      await new Promise((done) => free.close(done));
      return port;
    }
    claim?.close();
  }
}

/** Nothing where somebody listens already. */
async function listening(where) {
  const server = createServer();
  return new Promise((done, failed) => {
    server.once('error', (error) => (error.code === 'EADDRINUSE' ? done() : failed(error)));
    server.listen(where, () => done(server));
  });
}
