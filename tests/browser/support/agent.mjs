// An agent, by the protocol (src/protocol.rs): a request whose body never ends, with a report on each line.

import { request } from 'node:http';

/** From one report to the next, in milliseconds. */
const INTERVAL = 200;

/** What it announces: after three of these without a report it is silent. */
const HEARTBEAT_MS = 1000;

/** An agent that speaks for a server. */
export class Agent {
  /** `llama` is the server that it watches; `says` what its reports say beside, or instead. */
  constructor(balancer, id, llama, says = {}) {
    Object.assign(this, { balancer, id, llama, says, sequence: 0, isMute: false });
    this.nonce = `${id} ${process.pid}`;
    this.connect();
    this.timer = setInterval(() => this.report(), INTERVAL);
  }

  connect() {
    const { management, token } = this.balancer;
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const stream = request({
      host: '127.0.0.1',
      port: management,
      path: `/status_update/${this.id}`,
      method: 'POST',
      headers,
    });
    // A balancer that is away is tried again, as agents do.
    const again = () => {
      if (this.stream === stream) this.stream = null;
    };
    stream
      .on('error', again)
      .on('close', again)
      .on('response', (response) => response.resume());
    this.stream = stream;
    this.report();
  }

  report() {
    if (this.isMute) return;
    if (!this.stream) return this.connect();
    const processing = this.llama.busy.filter(Boolean).length;
    this.sequence += 1;
    const report = {
      agent_name: this.id,
      external_llamacpp_addr: this.llama.address,
      idle_slots_count: this.llama.busy.length - processing,
      processing_slots_count: processing,
      slots: [],
      is_authorized: true,
      is_slots_endpoint_enabled: true,
      error: null,
      boot_nonce: this.nonce,
      sequence: this.sequence,
      sample_age_ms: 0,
      heartbeat_ms: HEARTBEAT_MS,
      phase: 'ready',
      ...this.says,
    };
    this.stream.write(`${JSON.stringify(report)}\n`);
  }

  /** What its reports say from now on. */
  say(says) {
    this.says = { ...this.says, ...says };
  }

  /** It says nothing any more, and its connection stays. */
  mute() {
    this.isMute = true;
  }

  stop() {
    clearInterval(this.timer);
    this.stream?.destroy();
  }
}
