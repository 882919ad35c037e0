// The balancer goes away and comes back, on the same ports.

import assert from 'node:assert/strict';

import { scene } from './support/scene.mjs';

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
  await page.shows('#headline', 'Ready: 5 slots');
  await page.shows('#agent-rows', 'two');
  assert.equal(await page.tab.locator('main.stale').count(), 0);
});
