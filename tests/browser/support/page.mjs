// The page in a real browser, watched for what it must never do.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';

import { CHROMIUM, ROOT, load, resolve } from './tools.mjs';

/** Where the pictures go. */
const PICTURES = join(ROOT, 'target/screenshots');

const WIDE = { width: 1280, height: 900 };
const NARROW = { width: 360, height: 740 };

/** To find anything on the page, in milliseconds. */
const FIND_MAX = 60_000;

/** One browser for all tests of a file: it starts slowly. */
let browser = null;
after(() => browser?.close());

async function launched() {
  const { chromium } = load('playwright-core');
  const args = ['--disable-dev-shm-usage', ...(process.getuid?.() === 0 ? ['--no-sandbox'] : [])];
  browser ??= await chromium.launch({ executablePath: CHROMIUM, args });
  return browser;
}

/** A page of a visitor of its own, who knows nothing of the others. */
export class Page {
  /** `expects` is what the browser may complain of; `before` sees the page before it goes anywhere. */
  static async open(url, { expects = [], before = () => {} } = {}) {
    const page = new Page();
    page.context = await (
      await launched()
    ).newContext({ viewport: WIDE, colorScheme: 'light', locale: 'en-GB', reducedMotion: 'reduce' });
    page.context.setDefaultTimeout(FIND_MAX);
    page.tab = await page.context.newPage();
    page.host = new URL(url).host;
    page.faults = [];
    /** What the browser itself complains of while the balancer is away, or refuses: these words are no fault. */
    page.expected = expects;
    page.watch();
    await before(page);
    await page.tab.goto(url);
    return page;
  }

  watch() {
    const fault = (words) => {
      if (!this.expected.some((known) => words.includes(known))) this.faults.push(words);
    };
    this.tab.on('console', (message) => {
      if (['error', 'warning', 'assert'].includes(message.type())) fault(`console: ${message.text()}`);
    });
    this.tab.on('pageerror', (error) => fault(`exception: ${error.stack}`));
    this.tab.on('request', (request) => {
      const url = new URL(request.url());
      if (url.host !== this.host) fault(`request to another host: ${url}`);
    });
    this.tab.on('dialog', async (dialog) => {
      fault(`dialog: ${dialog.message()}`);
      await dialog.dismiss();
    });
  }

  /** What the page shows in this part; `text` may be a pattern. Waits until it does. */
  async shows(selector, text) {
    await this.tab.locator(selector).filter({ visible: true, hasText: text }).first().waitFor();
  }

  /** Waits until nothing like this is shown. */
  async hides(selector) {
    await this.tab.locator(selector).filter({ visible: true }).first().waitFor({ state: 'hidden' });
  }

  text(selector) {
    return this.tab.locator(selector).first().innerText();
  }

  /** In both schemes, wide and narrow: no serious violation, nothing to scroll sideways, and a picture of each. */
  async inspect(name) {
    for (const scheme of ['light', 'dark']) {
      for (const [size, viewport] of [
        ['wide', WIDE],
        ['narrow', NARROW],
      ]) {
        const which = `${name}-${scheme}-${size}`;
        await this.tab.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
        await this.tab.setViewportSize(viewport);
        // axe-core takes its time, and the schemes do not differ in layout: each scheme and each size once.
        if ((scheme === 'light') === (size === 'wide')) await this.accessible(which);
        await this.fits(which);
        await this.picture(which);
      }
    }
    await this.tab.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
    await this.tab.setViewportSize(WIDE);
  }

  async accessible(which) {
    // The page's policy lets no script in but its own: evaluating is the browser driver's way around it.
    await this.tab.evaluate(readFileSync(resolve('axe-core'), 'utf8') + ';0');
    const { violations } = await this.tab.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    const bad = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    const told = bad.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(' ')}`);
    assert.deepEqual(told, [], `${which}: axe-core`);
  }

  async fits(which) {
    const [needed, there] = await this.tab.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(needed <= there, `${which}: ${needed} pixels wide on a screen of ${there}`);
  }

  async picture(which) {
    mkdirSync(PICTURES, { recursive: true });
    await this.tab.screenshot({ path: join(PICTURES, `${which}.png`) });
  }

  /** Nothing was kept where scripts could read it. */
  async storesNothing() {
    const stored = await this.tab.evaluate(async () => [
      localStorage.length,
      sessionStorage.length,
      document.cookie,
      (await indexedDB.databases()).length,
    ]);
    assert.deepEqual(stored, [0, 0, '', 0]);
  }

  /** The visitor leaves; what the browser complained of is a failure. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.faults, [], 'what the browser complained of');
  }
}
