// Programs of others that the browser tests need, and that may not be installed.

import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** What `make npm` put there. */
const require = createRequire(join(ROOT, 'target/npm/'));

/** The program that is tested. */
export const PADDOCK =
  process.env.PADDOCK_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'debug/paddock');

const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome'];

/** The browser, or none. */
export const CHROMIUM = BROWSERS.flatMap((name) =>
  (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name)),
).find(isProgram);

/** What is missing, and how to mend that; none if all is there. */
function missing() {
  if (!isProgram(PADDOCK)) return `there is no ${PADDOCK}: cargo build`;
  if (!CHROMIUM) return 'there is no chromium: apt-get install chromium';
  for (const name of ['playwright-core', 'axe-core']) {
    try {
      require.resolve(name);
    } catch {
      return `there is no ${name}: make npm`;
    }
  }
  return null;
}

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const lacks = missing();
// As in tests/support/tool.rs: where everything is to be checked, what is missing is a failure.
if (lacks && process.env.PADDOCK_TEST_TOOLS === 'required') throw new Error(lacks);
if (lacks) console.error(`NOT CHECKED, for ${lacks}`);

/** For a test that needs them: why it is left out, if it is. */
export const NEEDS = { skip: lacks ? `NOT CHECKED, for ${lacks}` : false, timeout: 240_000 };

export const load = (name) => require(name);
export const resolve = (name) => require.resolve(name);
