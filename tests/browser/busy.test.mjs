// Three agents serve, and there is a queue.

import assert from 'node:assert/strict';

import { LLAMA } from './support/llama.mjs';
import { scene } from './support/scene.mjs';
import { until } from './support/wait.mjs';

const ZONES = ['us-east-1a', 'us-east-1b', 'us-east-1c'];

/** Three agents with so many slots in all that so many requests of the same number are held, and more wait. */
async function crowd(world, { slots, requests }) {
  const balancer = await world.balancer();
  const llamas = await Promise.all(slots.map((number) => world.llama(number)));
  const agents = llamas.map((llama, at) =>
    world.agent(balancer, `gpu-${at + 1}`, llama, { availability_zone: ZONES[at], group: 'llama-spot' }),
  );
  await until('the agents are known', async () => (await balancer.state()).agents.length === slots.length);
  for (const llama of llamas) llama.holds = true;
  for (let number = 0; number < requests; number += 1) world.ask(balancer);
  return { balancer, llamas, agents };
}

scene('three agents and a queue', async (world) => {
  const load = world.load();
  const command = [process.execPath, LLAMA, '{port}', load.file, '4', 'hold'];
  const options = ['--max-instances', '3', '--slots-per-instance', '4', '--price-per-hour', '1.006'];
  const balancer = await world.balancer({ command, options });
  const page = await world.page(balancer.page);
  const requests = Array.from({ length: 17 }, () => world.ask(balancer));
  await page.shows('#agent-rows tr', /^process-1.*Loading the model/);
  load.end();
  await page.shows('#headline', '12 of 12 slots in use, and 5 requests wait.');
  await page.shows('#waiting', /^5$/);
  await page.shows('#slots-used', /^12$/);
  await page.shows('#states', '3 serving');
  assert.equal(await page.tab.title(), '(5) Paddock');
  for (const name of ['process-1', 'process-2', 'process-3']) {
    await page.shows('#agent-rows tr', new RegExp(`^${name}.*4 in use.*All slots in use`));
    await page.shows('#boots li', new RegExp(`^${name}.*Loading the model \\d`));
    await page.shows('#happened', `An instance is ready: ${name}`);
  }
  assert.equal(await page.tab.locator('#agent-rows .cell[data-use="ours"]').count(), 12);
  await page.shows('.charts [data-series="queue"]', 'now 5');
  await page.inspect('busy');

  for (const request of requests) request.leave();
  await page.shows('#headline', 'Ready: 12 slots, all free. Nothing waits.');
  await until(
    'all cells are free',
    async () => (await page.tab.locator('#agent-rows .cell[data-use="free"]').count()) === 12,
  );
});

scene('three agents that somebody else started', async (world) => {
  const { balancer, llamas } = await crowd(world, { slots: [4, 4, 2], requests: 14 });
  const page = await world.page(balancer.page);
  await page.shows('#headline', '10 of 10 slots in use, and 4 requests wait.');
  await page.shows('#states', '3 agents of no fleet');
  for (const name of ['gpu-1', 'gpu-2', 'gpu-3'])
    await page.shows('#agent-rows tr', new RegExp(`^${name}.*All slots in use`));
  await page.shows('#agent-rows tr', /llama-spot, us-east-1b/);
  assert.equal(await page.tab.locator('#agent-rows .cell[data-use="ours"]').count(), 10);
  for (const llama of llamas) llama.release();
  await page.shows('#headline', 'Ready: 10 slots, all free. Nothing waits.');
  await until(
    'all cells are free',
    async () => (await page.tab.locator('#agent-rows .cell[data-use="free"]').count()) === 10,
  );
});

scene("others' use of the slots looks different, and has words", async (world) => {
  const balancer = await world.balancer();
  const llama = await world.llama(4);
  world.agent(balancer, 'shared', llama);
  llama.busy[0] = true;
  const page = await world.page(balancer.page);
  await page.shows('#agent-rows', '1 used by others, 3 free');
  assert.equal(await page.tab.locator('#agent-rows .cell[data-use="foreign"]').count(), 1);
});

scene('a row is the same one after it was filled anew: focus and selection stay', async (world) => {
  const { balancer, llamas } = await crowd(world, { slots: [2, 2, 2], requests: 3 });
  const page = await world.page(balancer.page);
  await page.shows('#agent-rows', '1 in use, 1 free');
  await page.tab.evaluate(() => {
    const name = document.querySelector('#agent-rows [data-part="name"]');
    getSelection().selectAllChildren(name);
    window.rowBefore = name;
  });
  for (const llama of llamas) llama.release();
  await page.shows('#headline', 'Ready: 6 slots');
  const isSame = await page.tab.evaluate(
    () => window.rowBefore.isConnected && getSelection().toString() === window.rowBefore.textContent,
  );
  assert.ok(isSame);
});

scene('who listens is told of another kind of state, and not each second', async (world) => {
  const { balancer, llamas } = await crowd(world, { slots: [1, 1, 1], requests: 5 });
  const page = await world.page(balancer.page, { before: ({ tab }) => tab.clock.install() });
  await page.shows('#headline', 'and 2 requests wait');
  await page.tab.evaluate(() => {
    window.told = [];
    new MutationObserver(() => window.told.push(document.getElementById('said').textContent)).observe(
      document.getElementById('said'),
      { childList: true, characterData: true, subtree: true },
    );
  });
  // From one sentence to the next there are five seconds.
  const later = () => page.tab.clock.fastForward(6000);
  await later();
  const more = [world.ask(balancer), world.ask(balancer)];
  await page.shows('#headline', 'and 4 requests wait');
  await later();
  for (const request of more) request.leave();
  await page.shows('#headline', 'and 2 requests wait');
  for (const llama of llamas) llama.release();
  await page.shows('#headline', 'Ready: 3 slots');
  await later();
  const told = () => page.tab.evaluate(() => window.told);
  await until('it is said', async () => (await told()).at(-1)?.startsWith('Ready: 3 slots'));
  assert.ok(
    (await told()).every((words) => !words.includes('wait.')),
    (await told()).join(' | '),
  );

  // What comes and goes soon after is not said before its time.
  await later();
  for (const llama of llamas) llama.holds = true;
  world.ask(balancer);
  await page.shows('#said', '1 of 3 slots in use');
  for (const llama of llamas) llama.release();
  await page.shows('#headline', 'Ready: 3 slots');
  assert.match(await page.tab.textContent('#said'), /^1 of 3 slots in use/);
  await later();
  await page.shows('#said', 'Ready: 3 slots');
});
