// States that are hard to bring about: a real one is changed on its way to the page.

import assert from 'node:assert/strict';

import { scene } from './support/scene.mjs';

/** A page that is told the balancer's state as `change` leaves it, once; then the stream ends. */
async function told(world, change) {
  const balancer = await world.balancer();
  const state = await balancer.state();
  change(state, state.pools[0]);
  const before = (page) =>
    page.tab.route('**/api/v1/events', (route) =>
      route.fulfill({ contentType: 'text/event-stream', body: `event: state\ndata: ${JSON.stringify(state)}\n\n` }),
    );
  return world.page(balancer.page, { before });
}

const USED = { instance_seconds: 7200, busy_seconds: 5400, idle_seconds: 1800, cost_usd: 1.5, always_on_usd: 12 };

scene('what it costs is told against always-on, as an estimate', async (world) => {
  const page = await told(world, (_, pool) => {
    pool.ledger = { today: USED, month: { ...USED, instance_seconds: 0, cost_usd: 0.012 }, groups: [], budget: null };
  });
  await page.shows('#today', '$1.50');
  await page.shows('#today-note', 'always-on: $12.00, so 88 % saved');
  await page.shows('#today-title', 'estimate');
  await page.shows('#cost-rows tr', /^Cost \(estimate\)\$1\.50\$0\.0120$/);
  await page.shows('#cost-rows tr', /^Saved \(estimate\)\$10\.50 \(88 %\)/);
  await page.shows('#cost-rows tr', /^of that busy1\.5 h/);
});

scene('a budget that is used up is told, with its end', async (world) => {
  const page = await told(world, (_, pool) => {
    const budget = { usd_per_day: 5, is_exhausted: true, ends_in_seconds: 7300 };
    pool.ledger = { today: USED, month: USED, groups: [], budget };
  });
  await page.shows(
    '#issues li',
    "Today's budget of $5.00 is used up: nothing is started for 2 h 1 min, until the UTC day ends; running work finishes",
  );
});

scene('a balancer that ends says so', async (world) => {
  const page = await told(world, (state) => (state.shutting_down = true));
  await page.shows('#headline', 'Shutting down: nothing new is started');
});

scene('requests that wait for nothing are told as such', async (world) => {
  const page = await told(world, (state, pool) => {
    state.requests_buffered = pool.requests_buffered = 2;
    pool.wake_wanted = true;
  });
  await page.shows('#headline', '2 requests wait, and no server is on its way.');
  await page.shows('#issues li', 'Requests wait, and no instance could be asked for here');
});

scene('groups that are left alone or shared are told by name', async (world) => {
  const group = { desired: 0, abandoned: 0, min: 0, max: 2, left_alone_seconds: null, cause: null, has_rival: false };
  const page = await told(world, (_, pool) => {
    pool.groups = [
      { ...group, group: 0, name: 'llama-spot', left_alone_seconds: 290, cause: 'no capacity' },
      { ...group, group: 1, name: 'llama-on-demand', has_rival: true },
    ];
    pool.happenings = [{ ago_seconds: 3, kind: 'wake_failed', group: 0, instance: null, cause: 'no capacity' }];
  });
  await page.shows('#issues li', /^llama-spot is left alone for 4 min \d+ s: no capacity$/);
  await page.shows('#issues li', 'Another balancer works on llama-on-demand');
  await page.shows('#happened li', /Asking for an instance failed: llama-spot.*no capacity/);
});

const INSTANCE = {
  group: 0,
  state: 'running',
  phase: 'ready',
  address: null,
  age_seconds: 60,
  registered: true,
  drain: null,
  boot_phase: null,
  phase_seconds: {},
};

const AGENT = {
  agent_id: 'one',
  agent_name: null,
  error: null,
  external_llamacpp_addr: '127.0.0.1:1',
  is_authorized: true,
  is_slots_endpoint_enabled: true,
  quarantined_until: null,
  slots_idle: 4,
  slots_processing: 0,
  slots_total: 4,
  slots_foreign: 0,
  slots_cooling: 0,
  leases: 0,
  phase: 'ready',
  instance: null,
  zone: null,
  group: null,
  notice: null,
  pool: 0,
  incarnation: 0,
  is_connected: true,
  is_eligible: true,
};

/** An agent that has just reported. */
function agentAt(state, of) {
  const now = { secs_since_epoch: Math.floor(state.at_seconds), nanos_since_epoch: 0 };
  return { ...AGENT, last_update: now, ...of };
}

scene('instances are counted by what they are good for', async (world) => {
  const page = await told(world, (state, pool) => {
    pool.pending = 3;
    pool.instances = [
      { ...INSTANCE, id: 'serves' },
      { ...INSTANCE, id: 'boots', registered: false, state: 'pending', boot_phase: 'pending' },
      { ...INSTANCE, id: 'drains', drain: 'idle' },
      { ...INSTANCE, id: 'ends', state: 'terminating_wait', drain: 'notice' },
      { ...INSTANCE, id: 'ended', state: { ended: { cause: 'exited with code 1' } } },
      { ...INSTANCE, id: 'aside', state: 'aside' },
      { ...INSTANCE, id: 'lost' },
    ];
    state.agents = [agentAt(state, { instance: 'serves' })];
  });
  await page.shows('#states', /2 launching\s*1 booting\s*1 serving\s*1 not heard\s*1 draining\s*2 ending\s*1 aside/);
  await page.shows('#instances', /^8$/);
  await page.shows('#agent-rows tr', /^drains.*Draining because it was not needed any more/);
  await page.shows('#agent-rows tr', /^ended.*Ended: exited with code 1/);
  await page.shows('#starts', '2 instances asked for');
  await page.shows('#starts', 'The machine is being launched – boots');
});

scene('an instance whose agent is gone is there, and needs attention', async (world) => {
  const page = await told(world, (_, pool) => (pool.instances = [{ ...INSTANCE, id: 'i-1' }]));
  await page.shows('#headline', 'Nothing can be served: 1 instance is there, but is not heard. Nothing waits.');
  await page.shows('#issues li', 'i-1: Not heard: its agent is gone; it may run and cost all the same');
  await page.shows('#agent-rows tr', /^i-1.*Not heard/);
  await page.shows('#states', '1 not heard');
  assert.ok(await page.tab.locator('#zero').isHidden());
});

scene('nothing is expected of an instance whose time to boot is over', async (world) => {
  const overdue = { ...INSTANCE, id: 'i-1', registered: false, phase: 'starting' };
  const page = await told(world, (state, pool) => {
    pool.instances = [overdue];
    state.requests_buffered = pool.requests_buffered = 3;
  });
  await page.shows('#headline', '3 requests wait: 1 instance is there, but is not heard.');
  await page.shows('#issues li', 'i-1: Not heard: its time to boot is over');
  await page.shows('#states', '1 not heard');
});

scene('an instance that stands by is told where all else is at zero', async (world) => {
  const page = await told(world, (_, pool) => (pool.instances = [{ ...INSTANCE, id: 'i-1', state: 'aside' }]));
  await page.shows('#headline', 'At zero, but for 1 instance that stands by and may cost something. Nothing waits.');
  assert.ok(!(await page.text('#zero')).includes('none costs anything'));
});

scene('what is left of the last instance is no server, and no trouble', async (world) => {
  const page = await told(world, (state, pool) => {
    pool.instances = [{ ...INSTANCE, id: 'i-1', drain: 'idle' }];
    state.agents = [agentAt(state, { instance: 'i-1', is_eligible: false, slots_idle: 0 })];
  });
  await page.shows('#headline', 'Going to zero: the last instance ends.');
  assert.ok(await page.tab.locator('#attention').isHidden());
});

scene('what a later balancer calls by other names is shown all the same', async (world) => {
  const page = await told(world, (state, pool) => {
    pool.pending = 1;
    pool.instances = [
      { ...INSTANCE, id: 'boots', registered: false, boot_phase: 'quantise' },
      { ...INSTANCE, id: 'drains', drain: 'whim' },
      { ...INSTANCE, id: 'odd', state: 'hibernating', drain: null },
    ];
    const notice = { reason: 'eclipse', left: null };
    state.agents = [agentAt(state, { agent_id: 'noticed', instance: 'odd', phase: 'pondering', notice })];
    pool.happenings = [{ ago_seconds: 1, kind: 'model_swapped', group: 0, instance: 'odd', cause: null }];
  });
  await page.shows('#starts', 'It boots – boots');
  await page.shows('#agent-rows tr', /^boots.*It boots/);
  await page.shows('#agent-rows tr', /^drains.*Draining(?! because)/);
  await page.shows('#agent-rows tr', /^noticed.*Draining because its machine will end/);
  await page.shows('#happened', 'model swapped');
});

/** A page that is told nothing but what `tell` tells it; and the balancer's state. */
async function toldByHand(world, expects = [], first = () => {}) {
  const balancer = await world.balancer();
  const before = async (page) => {
    await first(page);
    await page.tab.addInitScript(() => {
      window.EventSource = class extends EventTarget {
        constructor() {
          super();
          window.source = this;
        }
        close() {}
      };
    });
  };
  const page = await world.page(balancer.page, { before, expects });
  const tell = async (state) => {
    await page.tab.waitForFunction(() => window.source);
    const data = JSON.stringify(state);
    await page.tab.evaluate((data) => window.source.dispatchEvent(new MessageEvent('state', { data })), data);
  };
  return { page, tell, state: await balancer.state() };
}

scene('what the page cannot show is said, until it shows a state again', async (world) => {
  const { page, tell, state } = await toldByHand(world, ['TypeError']);
  await tell(state);
  await page.shows('#link', 'Live');
  await tell({ ...state, pools: null });
  await page.shows('#lost', /This page fails to show what the balancer says: .*TypeError.*Load it again/);
  await page.shows('#link', 'Not shown');
  assert.equal(await page.tab.locator('main.stale').count(), 1);
  await tell(state);
  await page.shows('#link', 'Live');
  await page.hides('#lost');
});

scene('a balancer of another version has a page of its own, which is loaded', async (world) => {
  const { page, tell, state } = await toldByHand(world);
  await tell(state);
  await page.shows('#version', state.version);
  const loaded = page.tab.waitForEvent('load');
  await tell({ ...state, version: '99.0.0' });
  await loaded;
  await tell({ ...state, version: '99.0.0' });
  await page.shows('#version', '99.0.0');
});

scene('the command to try asks where clients call', async (world) => {
  const { page, tell, state } = await toldByHand(world);
  for (const [address, isTls, url] of [
    ['0.0.0.0:443', true, 'https://127.0.0.1/v1/'],
    ['0.0.0.0:8443', true, 'https://127.0.0.1:8443/v1/'],
    ['[::]:8000', false, 'http://127.0.0.1:8000/v1/'],
    ['10.0.0.5:80', false, 'http://10.0.0.5/v1/'],
    ['[fd00::5]:8080', false, 'http://[fd00::5]:8080/v1/'],
  ]) {
    await tell({ ...state, clients: { address, is_tls: isTls } });
    await page.shows('#try', `curl ${url}`);
  }
});

scene('who listens is told of a trouble once, for as long as it lasts', async (world) => {
  const { page, tell, state } = await toldByHand(world, [], ({ tab }) => tab.clock.install());
  const later = () => page.tab.clock.fastForward(6000);
  const said = () => page.tab.textContent('#said');
  const agents = (...silent) => ({
    ...state,
    agents: ['one', 'two'].map((id) => {
      const long = { ...state, at_seconds: state.at_seconds - (silent.includes(id) ? 20 : 0) };
      return agentAt(long, { agent_id: id, is_eligible: !silent.includes(id) });
    }),
  });
  await tell(agents());
  await page.shows('#said', /^Ready: 8 slots, all free\. Nothing waits\.$/);
  await tell(agents('two'));
  await page.shows('#issues', 'two: Silent since');
  assert.match(await said(), /^Ready: 8/, 'not before its time');
  await later();
  await tell(agents('two'));
  await page.shows('#said', /^two: Silent\.$/);
  await later();
  await tell(agents('one', 'two'));
  await page.shows('#said', /^Nothing can be served: 2 agents are connected.* one: Silent\.$/);
  await later();
  await tell(agents());
  await page.shows('#said', /^Ready: 8/);
  await later();
  await tell(agents('two'));
  await page.shows('#said', /^two: Silent\.$/);
});

scene('an agent with a great many slots fits', async (world) => {
  const many = { slots_idle: 1000, slots_processing: 24, slots_total: 1024, slots_foreign: 4, slots_cooling: 3 };
  const page = await told(world, (state) => (state.agents = [agentAt(state, { agent_id: 'big', ...many })]));
  await page.shows('#agent-rows tr', '17 in use, 3 cancelled, not free yet, 4 used by others, 1000 free');
  assert.equal(await page.tab.locator('#agent-rows .cell').count(), 4);
  await page.fits('many slots');
});
