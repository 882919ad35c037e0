// A llama.cpp that computes nothing: its health, its slots, and answers that are held until they are let go.
//
// `node llama.mjs PORT FILE SLOTS` is one that loads its model until this file is there, and says so at least twice; with `hold`
// as a last word it holds its answers until their clients leave.

import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

/** This file, for a fleet's command. */
export const LLAMA = fileURLToPath(import.meta.url);

/** A server with so many slots. */
export class Llama {
  constructor(slots, isLoaded = () => true) {
    this.busy = Array.from({ length: slots }, () => false);
    this.isLoaded = isLoaded;
    this.held = [];
    this.holds = false;
    this.server = createServer((request, response) => this.answer(request, response));
  }

  static async start(slots) {
    const llama = new Llama(slots);
    llama.server.listen(0, '127.0.0.1');
    await once(llama.server, 'listening');
    return llama;
  }

  get address() {
    return `127.0.0.1:${this.server.address().port}`;
  }

  answer(request, response) {
    response.setHeader('content-type', 'application/json');
    const say = (status, body) => response.writeHead(status).end(JSON.stringify(body));
    if (!this.isLoaded()) return say(503, { error: { code: 503, message: 'Loading model' } });
    const path = request.url.split('?')[0];
    if (path === '/health') return say(200, { status: 'ok' });
    if (path === '/slots')
      return say(
        200,
        this.busy.map((is_processing, id) => ({ id, is_processing })),
      );
    if (path === '/props') return say(200, { total_slots: this.busy.length });
    return this.compute(request, response, say);
  }

  compute(request, response, say) {
    const slot = this.busy.indexOf(false);
    this.busy[slot] = true;
    const done = () => (this.busy[slot] = false);
    request.resume();
    response.on('close', done);
    const finish = () => {
      done();
      say(200, { choices: [{ message: { role: 'assistant', content: 'Hello' } }] });
    };
    if (this.holds) this.held.push(finish);
    else finish();
  }

  /** Answers what is held, and holds nothing any more. */
  release() {
    this.holds = false;
    for (const finish of this.held.splice(0)) finish();
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

if (process.argv[1] === LLAMA) {
  const [, , port, file, slots, hold] = process.argv;
  let asked = 0;
  const llama = new Llama(Number(slots), () => existsSync(file) && ++asked > 2);
  llama.holds = hold === 'hold';
  llama.server.listen(Number(port), '127.0.0.1');
}
