// Nothing runs.

import assert from 'node:assert/strict';

import { LLAMA } from './support/llama.mjs';
import { scene } from './support/scene.mjs';

const FLEET = ['node', 'no-such-file.mjs', '{port}'];

scene('at zero the page says so, and how to try', async (world) => {
  const balancer = await world.balancer({ command: FLEET });
  const page = await world.page(balancer.page);
  await page.shows('#headline', 'At zero: nothing runs, and nothing waits.');
  await page.shows('#zero', 'none costs anything now');
  await page.shows('#try', `curl http://127.0.0.1:${balancer.clients}/v1/chat/completions`);
  await page.shows('#link', 'Live');
  await page.shows('#today', 'No price configured');
  await page.shows('#today-note', '--price-per-hour');
  assert.equal(await page.tab.title(), 'Paddock');
  await page.storesNothing();
  await page.inspect('zero');
});

scene('without a fleet it says what to start', async (world) => {
  const balancer = await world.balancer({ options: ['--fleet', 'none'] });
  const page = await world.page(balancer.page);
  await page.shows('#zero-words', 'paddock agent');
});

scene('an agent that somebody else started, and that loads its model, is on its way', async (world) => {
  const balancer = await world.balancer({ options: ['--fleet', 'none'] });
  const page = await world.page(balancer.page);
  await page.shows('#headline', 'At zero');
  const loading = { is_slots_endpoint_enabled: null, phase: 'loading' };
  const agent = world.agent(balancer, 'one', await world.llama(2), loading);
  await page.shows('#headline', 'Starting from zero: nothing waits yet.');
  world.ask(balancer);
  await page.shows('#headline', 'Starting from zero: 1 request waits.');
  agent.say({ is_slots_endpoint_enabled: true, phase: 'ready' });
  await page.shows('#headline', 'Ready: 2 slots');
});

scene('the command to try is copied', async (world) => {
  const balancer = await world.balancer();
  const page = await world.page(balancer.page);
  await page.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.tab.locator('#copy').click();
  await page.shows('#copy', 'Copied');
  const copied = await page.tab.evaluate(() => navigator.clipboard.readText());
  assert.match(copied, /^curl http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions/);
});

scene('the command to try works', async (world) => {
  const load = world.load();
  load.end();
  const balancer = await world.balancer({ command: [process.execPath, LLAMA, '{port}', load.file, '1'] });
  const page = await world.page(balancer.page);
  await page.shows('#headline', 'At zero');
  const command = await page.text('#try');
  const [, url, type, body] = /^curl (\S+) -H '(.+)' \\\n {2}-d '(.+)'$/.exec(command);
  const [name, value] = type.split(': ');
  const answer = await fetch(url, { method: 'POST', headers: { [name]: value }, body });
  assert.equal(answer.status, 200, `${command}: ${await answer.text()}`);
});

scene('everything is reached by the keyboard, and nothing holds it', async (world) => {
  const balancer = await world.balancer();
  const page = await world.page(balancer.page);
  await page.shows('#headline', 'At zero');
  const walked = [];
  for (let step = 0; step < 12; step += 1) {
    await page.tab.keyboard.press('Tab');
    const seen = await page.tab.evaluate(() => {
      const { activeElement: at } = document;
      if (at === document.body) return null;
      const { outlineStyle, outlineWidth } = getComputedStyle(at);
      return {
        what: at.id || at.className || at.tagName,
        isSeen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2,
      };
    });
    if (!seen) break;
    assert.ok(seen.isSeen, `the focus on ${seen.what} is not seen`);
    walked.push(seen.what);
  }
  assert.deepEqual(walked, ['skip', 'PRE', 'copy', 'SUMMARY', 'wide']);

  await page.tab.keyboard.press('Tab');
  await page.tab.locator('.skip').focus();
  await page.tab.keyboard.press('Enter');
  assert.equal(await page.tab.evaluate(() => document.activeElement.id), 'main');
  await page.tab.locator('summary').focus();
  await page.tab.keyboard.press('Enter');
  await page.shows('#timeline-rows', /\d\d:\d\d/);
});
