// From zero: a server of the process fleet loads its model while a request is held.

import assert from 'node:assert/strict';

import { LLAMA } from './support/llama.mjs';
import { scene } from './support/scene.mjs';
import { until } from './support/wait.mjs';

scene('a cold start shows its phases and when it will be over', async (world) => {
  const load = world.load();
  const balancer = await world.balancer({ command: [process.execPath, LLAMA, '{port}', load.file, '2'] });
  const page = await world.page(balancer.page);
  await page.shows('#headline', 'At zero');
  const { answer } = world.ask(balancer);
  await page.shows('#headline', /Starting from zero: 1 request waits\. The first slot comes (in about|any moment)/);
  await page.shows('#starts', 'llama.cpp loads the model – process-1');
  await page.shows('#starts [aria-current="step"]', 'Loading the model');
  await page.shows('#starts .done', 'Asking');
  await page.shows('#cold-words', 'a guess: no boot was measured yet');
  await page.shows('#states', '1 booting');
  await page.shows('#agent-rows', 'Loading the model');
  assert.equal(await page.tab.title(), '(1) Paddock');
  const bar = page.tab.getByRole('progressbar', { name: 'Cold start' });
  assert.equal(await bar.getAttribute('aria-valuetext'), 'Step 5 of 6: Loading the model');
  await page.inspect('booting');

  load.end();
  assert.equal((await answer).status, 200);
  await page.shows('#headline', 'Ready: 2 slots, all free. Nothing waits.');
  await page.hides('#cold');
  await page.shows('#boots', /process-1\d.*Loading the model \d/);
  await page.shows('#boots-note', /The one boot took .*goes to: loading the model/);
  await page.shows('#happened', 'An instance was asked for');
  await page.shows('#happened', 'An instance is ready: process-1');
  await until('the title says that nothing waits', async () => (await page.tab.title()) === 'Paddock');
});

scene('a server that does not come up is told with its cause', async (world) => {
  const balancer = await world.balancer({ command: ['sh', '-c', 'echo no such model >&2; exit 7', '{port}'] });
  const page = await world.page(balancer.page);
  await page.shows('#headline', 'At zero');
  world.ask(balancer);
  await page.shows('#attention', /The last launch failed: .*exited with code 7: no such model/);
  await page.shows('#happened', /no such model/);
});
