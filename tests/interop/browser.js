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

import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

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

function print(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** The key of the certificate that the endpoint shows, once it is known to be signed by the CA. */
function endpointKey(endpoint, ca) {
  const { hostname: host, port } = new URL(endpoint);
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, ca, timeout: 5000 }, () => {
      const key = socket.getPeerX509Certificate().publicKey.export({ type: 'spki', format: 'der' });
      socket.destroy();
      resolve(createHash('sha256').update(key).digest('base64'));
    });
    socket.once('timeout', () => socket.destroy(new Error('the endpoint does not answer')));
    socket.once('error', reject);
  });
}

/** Serves the page, which browsers give a camera to since it is on this machine. */
async function servePage() {
  const { outputFiles } = await build({
    entryPoints: [join(HERE, 'page/index.js')],
    bundle: true,
    platform: 'browser',
    format: 'iife',
    target: 'es2022',
    write: false,
    logLevel: 'error',
  });
  const script = outputFiles[0].text;
  const server = createServer((request, response) => {
    const isScript = request.url === '/page.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html; charset=utf-8');
    response.end(isScript ? script : '<!doctype html><title>interop</title><script src="/page.js"></script>');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, url: `http://127.0.0.1:${server.address().port}/` };
}

function flags(key) {
  return [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--use-fake-device-for-media-stream',
    '--use-fake-ui-for-media-stream',
    '--autoplay-policy=no-user-gesture-required',
    // Both sides are on this machine, so its own addresses are candidates.
    '--allow-loopback-in-peer-connection',
    ...(options['hide-addresses'] ? [] : ['--disable-features=WebRtcHideLocalIpsWithMdns']),
    `--ignore-certificate-errors-spki-list=${key}`,
  ];
}

async function main() {
  if (!['master', 'viewer'].includes(role) || !options['endpoint-url'] || !options.channel) {
    throw new Error('usage: node browser.js master|viewer --endpoint-url URL --channel NAME …');
  }
  if (!existsSync(CHROMIUM)) {
    throw new Error(`${CHROMIUM} is missing; install it (Debian: apt-get install chromium)`);
  }
  const ca = options['ca-file'] && readFileSync(options['ca-file']);
  const key = await endpointKey(options['endpoint-url'], ca);
  const page = await servePage();
  const profile = mkdtempSync(join(tmpdir(), 'kvs-viewer-interop-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    chromiumSandbox: false,
    args: flags(key),
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
