// What is wrong with agents, in words; and names that are no words.

import assert from 'node:assert/strict';

import { scene } from './support/scene.mjs';

/** The row of this agent says this, and so do its words at the top if they matter. */
async function says(page, id, words, isUrgent = true) {
  await page.shows('#agent-rows tr', new RegExp(`^${id}.*${words}`));
  if (isUrgent) await page.shows('#issues li', new RegExp(`^${id}: ${words}`));
}

scene('what is wrong with an agent is said, with the mend', async (world) => {
  const balancer = await world.balancer();
  const llama = () => world.llama(2);
  const refused = { is_authorized: false, is_slots_endpoint_enabled: null, phase: 'failing' };
  world.agent(balancer, 'wrong-key', await llama(), refused);
  world.agent(balancer, 'no-slots', await llama(), { is_slots_endpoint_enabled: false, phase: 'failing' });
  world.agent(balancer, 'loading', await llama(), { is_slots_endpoint_enabled: null, phase: 'loading' });
  world.agent(balancer, 'spot', await llama(), { drain_reason: 'spot_interruption', drain_left_ms: 90_000 });
  const silent = world.agent(balancer, 'silent', await llama());
  const page = await world.page(balancer.page);
  await says(page, 'wrong-key', 'Unauthorised: llama\\.cpp refuses the agent.s key: set --llamacpp-api-key');
  await says(
    page,
    'no-slots',
    'Slots endpoint disabled: llama\\.cpp.s /slots is off: start llama-server without --no-slots',
  );
  await says(page, 'loading', 'Loading the model', false);
  await says(page, 'spot', 'Draining because the spot market takes its machine back: it told of 1 min', false);
  silent.mute();
  await says(page, 'silent', 'Silent since \\d\\d:\\d\\d:\\d\\d');
  await page.inspect('trouble');
});

scene('an agent that gets nothing new is not said to be ready', async (world) => {
  const balancer = await world.balancer();
  const llama = await world.llama(4);
  const agent = world.agent(balancer, 'one', llama);
  const page = await world.page(balancer.page);
  await page.shows('#headline', 'Ready: 4 slots, all free. Nothing waits.');
  const isWithheld = async () => {
    await page.shows('#agent-rows', '4 not offered');
    await page.shows('#slots-note', '0 free, 4 not offered');
    await page.shows('#agents-note', '1 connected, with 4 slots: 0 in use, 0 free, 4 not offered.');
    const cells = page.tab.locator('#agent-rows .cell');
    assert.deepEqual([await cells.count(), await cells.first().getAttribute('data-use')], [4, 'withheld']);
  };

  agent.say({ drain_reason: 'spot_interruption', drain_left_ms: 90_000 });
  await page.shows('#headline', 'Nothing can be served: 1 agent is connected, but it gets nothing new. Nothing waits.');
  await isWithheld();
  const requests = Array.from({ length: 3 }, () => world.ask(balancer));
  await page.shows('#headline', '3 requests wait: 1 agent is connected, but it gets nothing new.');
  await isWithheld();
  for (const request of requests) request.leave();

  agent.say({ drain_reason: null, drain_left_ms: null });
  await page.shows('#headline', 'Ready: 4 slots, all free. Nothing waits.');
  agent.mute();
  await page.shows('#headline', 'Nothing can be served: 1 agent is connected, but it gets nothing new. Nothing waits.');
  await isWithheld();
});

scene('a server that cannot be reached is quarantined, and that is said', async (world) => {
  const balancer = await world.balancer({ options: ['--buffered-request-timeout', '30s'] });
  const llama = await world.llama(1);
  world.agent(balancer, 'gone', llama);
  const page = await world.page(balancer.page);
  await page.shows('#agent-rows', 'Ready');
  const { address } = llama;
  Object.defineProperty(llama, 'address', { value: address });
  llama.stop();
  // A quarantine is soon over: requests that come again and again make the next one.
  const asking = setInterval(() => world.ask(balancer), 500);
  const words = 'Quarantined until \\d\\d:\\d\\d:\\d\\d \\(.* left\\)';
  await says(page, 'gone', words).finally(() => clearInterval(asking));
});

scene('a name from outside is shown as text', async (world) => {
  const balancer = await world.balancer();
  const name = '<img src=x onerror="window.wasRun=1">';
  const says = {
    agent_name: name,
    error: '<script>window.wasRun=1</script>',
    availability_zone: '<b>zone</b>',
    phase: 'failing',
    is_slots_endpoint_enabled: null,
  };
  world.agent(balancer, 'evil', await world.llama(1), says);
  const page = await world.page(balancer.page);
  await page.shows('#agent-rows', name);
  await page.shows('#agent-rows', '<script>window.wasRun=1</script>');
  await page.shows('#agent-rows', '<b>zone</b>');
  await page.shows('#issues', name);
  const made = await page.tab.evaluate(() => [
    window.wasRun ?? null,
    document.querySelectorAll('main img, main script, main td b').length,
  ]);
  assert.deepEqual(made, [null, 0]);
});
