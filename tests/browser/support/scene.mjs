// One test's own world: what is started in it ends with it, in the reverse order.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Agent } from './agent.mjs';
import { Llama } from './llama.mjs';
import { Page } from './page.mjs';
import { Balancer } from './paddock.mjs';
import { NEEDS } from './tools.mjs';

/** How long models load: until the test says that it is enough. */
class Load {
  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'paddock-load-'));
    this.file = join(this.folder, 'loaded');
  }

  end() {
    writeFileSync(this.file, '');
  }

  stop() {
    rmSync(this.folder, { recursive: true });
  }
}

/** A test that is given a scene. */
export function scene(name, play) {
  test(name, NEEDS, async () => {
    const ends = [];
    const ending = (thing, end) => {
      ends.push(() => end(thing));
      return thing;
    };
    const world = {
      balancer: async (how) => ending(await Balancer.start(how), (balancer) => balancer.stop()),
      load: () => ending(new Load(), (load) => load.stop()),
      llama: async (slots) => ending(await Llama.start(slots), (llama) => llama.stop()),
      agent: (balancer, id, llama, says) => ending(new Agent(balancer, id, llama, says), (agent) => agent.stop()),
      page: async (url, how) => ending(await Page.open(url, how), (page) => page.close()),
      ask: (balancer) => ending(balancer.ask(), (request) => request.leave()),
    };
    let failure = null;
    await play(world).catch((error) => (failure = error));
    for (const end of ends.reverse()) await Promise.resolve(end()).catch((error) => (failure ??= error));
    if (failure) throw failure;
  });
}
