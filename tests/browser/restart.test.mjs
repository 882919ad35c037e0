// The balancer goes away and comes back, on the same ports.

import assert from 'node:assert/strict';

import { once } from 'node:events';
import { createServer } from 'node:net';

import { scene } from './support/scene.mjs';
import { until } from './support/wait.mjs';

/** What the browser says of a balancer that is away. */
const AWAY = [
  'net::ERR_CONNECTION_REFUSED',
  'net::ERR_CONNECTION_RESET',
  'net::ERR_INCOMPLETE_CHUNKED_ENCODING',
  'net::ERR_EMPTY_RESPONSE',
];

scene('a lost connection is said, and the page comes back by itself', async (world) => {
  const balancer = await world.balancer();
  const [first, second] = [await world.llama(2), await world.llama(3)];
  world.agent(balancer, 'one', first);
  const page = await world.page(balancer.page, { expects: AWAY });
  await page.shows('#headline', 'Ready: 2 slots');

  await balancer.kill();
  await page.shows('#lost', /Connection lost at \d\d:\d\d:\d\d: trying again/);
  await page.shows('#link', 'Not connected');
  assert.ok(await page.tab.locator('main.stale').count());
  await page.inspect('lost');

  await balancer.begin();
  world.agent(balancer, 'two', second);
  await page.hides('#lost');
  await page.shows('#link', 'Live');
  await page.shows('#said', /^Connected again at \d\d:\d\d:\d\d\./);
  await page.shows('#headline', 'Ready: 5 slots');
  await page.shows('#agent-rows', 'two');
  assert.equal(await page.tab.locator('main.stale').count(), 0);
});

scene('a balancer that hangs is given up, and tried again', async (world) => {
  const balancer = await world.balancer();
  const page = await world.page(balancer.page, { expects: AWAY });
  await page.shows('#headline', 'At zero');

  await balancer.kill();
  const hung = [];
  const server = createServer((socket) => {
    // The browser also opens connections that it asks nothing on.
    socket.on('data', () => hung.push(socket)).on('error', () => {});
  });
  server.listen(balancer.management, '127.0.0.1');
  await once(server, 'listening');
  await until('the page asks', () => hung.length > 0);
  // Its connection stays as it is: nobody will ever answer there.
  server.close();
  await balancer.begin();
  await page.shows('#link', 'Live');
  await page.shows('#headline', 'At zero');
  for (const socket of hung) socket.destroy();
});

scene('a page that nobody sees lets its connection go until somebody does', async (world) => {
  const balancer = await world.balancer();
  const { tab } = await world.page(balancer.page, {
    before: async (page) => {
      await page.tab.clock.install();
      await page.tab.addInitScript(() => {
        window.events = 0;
        window.EventSource = class extends EventSource {
          constructor(url) {
            super(url);
            window.source = this;
            this.addEventListener('state', () => (window.events += 1));
          }
        };
      });
    },
  });
  const see = (state) =>
    tab.evaluate((state) => {
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state });
      document.dispatchEvent(new Event('visibilitychange'));
    }, state);
  const isOpen = () => tab.evaluate(() => window.source?.readyState === EventSource.OPEN);
  /** So much time passes, during which the balancer speaks. */
  const pass = async (seconds) => {
    for (let left = seconds; left > 0; left -= 8) {
      await tab.clock.fastForward(Math.min(left, 8) * 1000);
      const before = await tab.evaluate(() => window.events);
      await until('the next event, or the end', async () => {
        const events = await tab.evaluate(() => window.events);
        return events > before || !(await isOpen());
      });
    }
  };
  await until('it watches', isOpen);
  await see('hidden');
  await pass(16);
  assert.ok(await isOpen(), 'not at once');
  await pass(56);
  assert.ok(!(await isOpen()));
  assert.equal(await tab.locator('#lost').isHidden(), true);
  await see('visible');
  await until('it watches again', isOpen);
  assert.equal(await tab.textContent('#link'), 'Live');
});
