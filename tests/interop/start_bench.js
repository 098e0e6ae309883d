// Starts AWS's JavaScript SDK as a viewer, again and again, in one headless Chromium.
//
// Each line of standard input is a start, as JSON: `endpointUrl`, `region`, `channel` (name or ARN),
// `caFile`. Each has a browser context of its own, so that no connection and no TLS session of an
// earlier one is there. Prints `ready`, then for each start `begin`, `picture` (with times in
// milliseconds, see page/start.js) and `closed`. Ends with standard input.
//
// Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

import { browserProgram, endpointKey, flags, print, servePage } from './chromium.js';

const browsers = new Map();

/** A browser that trusts the endpoint's certificate; there is one for each endpoint. */
async function browserFor({ endpointUrl, caFile }) {
  if (!browsers.has(endpointUrl)) {
    const key = await endpointKey(endpointUrl, caFile && readFileSync(caFile));
    const launched = await chromium.launch({
      executablePath: browserProgram(),
      headless: true,
      chromiumSandbox: false,
      args: flags(key),
      timeout: 60_000,
    });
    browsers.set(endpointUrl, launched);
  }
  return browsers.get(endpointUrl);
}

async function start(page, settings, number) {
  const browser = await browserFor(settings);
  const context = await browser.newContext();
  try {
    const tab = await context.newPage();
    const ended = new Promise((resolve, reject) => {
      tab.exposeFunction('report', (event) => {
        print(event);
        if (event.event === 'picture') resolve();
      });
      tab.once('crash', () => reject(new Error('the page crashed')));
      tab.on('pageerror', (error) => print({ event: 'error', text: `${error}` }));
      setTimeout(() => reject(new Error('no picture')), 25_000).unref();
    });
    await tab.goto(page.url);
    print({ event: 'begin' });
    await tab.evaluate((given) => void window.play('start', given), {
      ...settings,
      clientId: `page-${process.pid}-${number}`,
      credentials: {
        accessKeyId: process.env.AWS_ACCESS_KEY_ID,
        secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
        sessionToken: process.env.AWS_SESSION_TOKEN || undefined,
      },
    });
    await ended;
    // The page closes its connection in order.
    await tab.waitForTimeout(100);
  } finally {
    await context.close();
  }
  print({ event: 'closed' });
}

async function main() {
  browserProgram();
  const page = await servePage();
  print({ event: 'ready' });
  let number = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    number += 1;
    await start(page, JSON.parse(line), number).catch((error) =>
      print({ event: 'error', text: error.message }),
    );
  }
  for (const browser of browsers.values()) await browser.close();
  page.server.close();
}

main().catch((error) => {
  process.stderr.write(`start_bench.js: ${error.message}\n`);
  process.exit(1);
});
