// What the runners of pages share: a browser, the page, and whom the browser trusts.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Prints one JSON event a line. */
export function print(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** The browser's program; CHROMIUM names another than /usr/bin/chromium. */
export function browserProgram() {
  if (!existsSync(CHROMIUM)) {
    throw new Error(`${CHROMIUM} is missing; install it (Debian: apt-get install chromium)`);
  }
  return CHROMIUM;
}

/** The key of the certificate that the endpoint shows, once it is known to be signed by the CA. */
export function endpointKey(endpoint, ca) {
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
export async function servePage() {
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

/** Flags of a browser that trusts this key, and whose candidates are its own addresses. */
export function flags(key, hideAddresses = false) {
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
    ...(hideAddresses ? [] : ['--disable-features=WebRtcHideLocalIpsWithMdns']),
    `--ignore-certificate-errors-spki-list=${key}`,
  ];
}
