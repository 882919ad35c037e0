// The program itself, as a process.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { PADDOCK } from './tools.mjs';
import { freePort, until } from './wait.mjs';

/** Balancers that run: none outlives the tests, however these end. */
const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A balancer with its page on free ports. `stop` ends it. */
export class Balancer {
  constructor(options, command, token) {
    this.options = options;
    this.command = command;
    this.token = token;
  }

  static async start({ options = [], command = [], token = null } = {}) {
    const balancer = new Balancer(options, command, token);
    balancer.clients = await freePort();
    balancer.management = await freePort();
    await balancer.begin();
    return balancer;
  }

  get page() {
    return `http://127.0.0.1:${this.management}/dashboard`;
  }

  /** Starts it, again on the same ports. */
  async begin() {
    const addresses = [
      '--reverseproxy-addr',
      `127.0.0.1:${this.clients}`,
      '--management-addr',
      `127.0.0.1:${this.management}`,
    ];
    const token = this.token ? ['--management-token', this.token] : [];
    const server = this.command.length ? ['--', ...this.command] : [];
    const words = ['balancer', ...addresses, '--management-dashboard-enable', ...token, ...this.options, ...server];
    // The tests' own variables say nothing to it.
    const env = { PATH: process.env.PATH, AWS_EC2_METADATA_DISABLED: 'true' };
    this.output = '';
    this.child = spawn(PADDOCK, words, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this.child);
    this.child.on('exit', () => running.delete(this.child));
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on('data', (bytes) => (this.output += bytes));
    await until('the balancer answers', async () => {
      if (this.child.exitCode !== null) throw new Error(`the balancer ended: ${this.output}`);
      return this.get('/health').then(
        (answer) => answer.ok,
        () => false,
      );
    });
  }

  get(path) {
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    return fetch(`http://127.0.0.1:${this.management}${path}`, { headers });
  }

  /** The state, as the page gets it. */
  async state() {
    return (await this.get('/api/v1/state')).json();
  }

  /** Sends a chat request, and does not wait for its answer. `leave` ends it early. */
  ask() {
    const abort = new AbortController();
    const answer = fetch(`http://127.0.0.1:${this.clients}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'any', messages: [{ role: 'user', content: 'Hello' }] }),
      signal: abort.signal,
    });
    answer.catch(() => {});
    return { answer, leave: () => abort.abort() };
  }

  /** Ends it, and what it started. */
  async stop() {
    const { child } = this;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const end = once(child, 'exit');
    child.kill('SIGTERM');
    // A second one does not wait for answers that are under way.
    child.kill('SIGTERM');
    await end;
  }

  /** Ends it without asking. */
  async kill() {
    const end = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await end;
  }
}
