// Runs AWS's JavaScript SDK in headless Chromium, as a channel's master or as one of its viewers.
//
//   node browser.js master --endpoint-url URL --region R --channel NAME --ca-file PEM
//   node browser.js viewer … [--client-id ID] [--advance 100] [--no-counter] [--hide-addresses]
//
// Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
// Prints one JSON event a line: `ready`, `answered`, `connection`, `played` (a viewer's last),
// `error`. A viewer ends by itself, with exit code 0 if it played; a master, and whatever is
// still there then, ends with standard input, so that nothing outlives the test.
// CHROMIUM names another browser than /usr/bin/chromium.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { chromium } from 'playwright-core';

import { browserProgram, endpointKey, flags, print, servePage } from './chromium.js';

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: {
    'endpoint-url': { type: 'string' },
    region: { type: 'string', default: 'us-west-2' },
    channel: { type: 'string' },
    'ca-file': { type: 'string' },
    'client-id': { type: 'string', default: 'browser' },
    advance: { type: 'string', default: '100' },
    'no-counter': { type: 'boolean', default: false },
    'hide-addresses': { type: 'boolean', default: false },
  },
});
const [role] = positionals;

async function main() {
  if (!['master', 'viewer'].includes(role) || !options['endpoint-url'] || !options.channel) {
    throw new Error('usage: node browser.js master|viewer --endpoint-url URL --channel NAME …');
  }
  const executablePath = browserProgram();
  const ca = options['ca-file'] && readFileSync(options['ca-file']);
  const key = await endpointKey(options['endpoint-url'], ca);
  const page = await servePage();
  const profile = mkdtempSync(join(tmpdir(), 'kvs-viewer-interop-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    chromiumSandbox: false,
    args: flags(key, options['hide-addresses']),
    timeout: 60_000,
  });
  const finish = async (code) => {
    await context.close().catch(() => {});
    page.server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    process.exit(code);
  };
  process.stdin.resume().once('end', () => finish(role === 'master' ? 0 : 3));
  const tab = context.pages()[0] ?? (await context.newPage());
  tab.on('pageerror', (error) => print({ event: 'error', text: `${error}` }));
  tab.on('crash', () => finish(4));
  await tab.exposeFunction('report', (event) => {
    print(event);
    if (event.event === 'played') finish(0);
  });
  await tab.goto(page.url);
  await tab.evaluate(([as, settings]) => void window.play(as, settings), [
    role,
    {
      endpointUrl: options['endpoint-url'],
      region: options.region,
      channel: options.channel,
      clientId: role === 'viewer' ? options['client-id'] : undefined,
      advance: Number(options.advance),
      counter: !options['no-counter'],
      credentials: {
        accessKeyId: process.env.AWS_ACCESS_KEY_ID,
        secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
        sessionToken: process.env.AWS_SESSION_TOKEN || undefined,
      },
    },
  ]);
}

main().catch((error) => {
  process.stderr.write(`browser.js: ${error.message}\n`);
  process.exit(1);
});
