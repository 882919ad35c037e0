// Where the management side has a token, the page has a form.

import assert from 'node:assert/strict';

import { scene } from './support/scene.mjs';

const TOKEN = 'correct-horse&battery+staple=%41';

/** What the browser says of an answer that is 401. */
const REFUSED = ['the server responded with a status of 401'];

async function logIn(page, token) {
  await page.tab.getByLabel('Management token').fill(token);
  await page.tab.getByRole('button', { name: 'Log in' }).click();
}

scene('logging in takes the token, and keeps nothing but a session cookie', async (world) => {
  const balancer = await world.balancer({ token: TOKEN });
  const page = await world.page(balancer.page, { expects: REFUSED });
  await page.shows('h1', 'Paddock');
  assert.equal(await page.tab.locator('#headline').count(), 0, 'nothing is shown before');
  // Else browsers offer to keep the token.
  assert.equal(await page.tab.getByLabel('Management token').getAttribute('autocomplete'), 'off');
  await page.shows('#where', 'You stay logged in for 12 hours at most, or until the browser is closed.');
  await page.inspect('login');

  await logIn(page, 'guess');
  await page.shows('[role="alert"]', 'not the management token');
  assert.deepEqual(await page.context.cookies(), []);
  await page.inspect('login-wrong');

  await logIn(page, TOKEN);
  await page.shows('#headline', 'At zero');
  await page.shows('#link', 'Live');
  const cookies = await page.context.cookies();
  const flags = cookies.map(({ httpOnly, sameSite, expires, path, secure }) => ({
    httpOnly,
    sameSite,
    expires,
    path,
    secure,
  }));
  // Without an end of its own, which is told as -1, the browser forgets it at its end.
  assert.deepEqual(flags, [{ httpOnly: true, sameSite: 'Strict', expires: -1, path: '/', secure: false }]);
  assert.ok(!cookies[0].value.includes(TOKEN) && !page.tab.url().includes('correct'));
  await page.storesNothing();

  await page.tab.getByRole('button', { name: 'Log out' }).click();
  await page.shows('label', 'Management token');
  assert.deepEqual(await page.context.cookies(), []);
});

scene('who logs out in one tab is logged out in the others', async (world) => {
  const balancer = await world.balancer({ token: TOKEN });
  const page = await world.page(balancer.page);
  await logIn(page, TOKEN);
  await page.shows('#link', 'Live');
  const other = await page.context.newPage();
  await other.goto(balancer.page);
  await other.getByText('Live').waitFor();
  await page.tab.getByRole('button', { name: 'Log out' }).click();
  await page.shows('label', 'Management token');
  await other.getByLabel('Management token').waitFor();
  assert.deepEqual(await page.context.cookies(), []);
});

scene('a session that is over leads to the form', async (world) => {
  const balancer = await world.balancer({ token: TOKEN });
  const page = await world.page(balancer.page, { expects: [...REFUSED, 'net::ERR_'] });
  await logIn(page, TOKEN);
  await page.shows('#headline', 'At zero');
  await balancer.kill();
  await page.shows('#lost', 'Connection lost');
  balancer.token = 'another';
  await balancer.begin();
  await page.shows('label', 'Management token');
});

scene('without a token there is nothing to log out of', async (world) => {
  const balancer = await world.balancer();
  const page = await world.page(balancer.page);
  await page.shows('#headline', 'At zero');
  assert.ok(await page.tab.locator('#logout').isHidden());
});
