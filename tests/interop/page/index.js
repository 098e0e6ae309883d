// The page's entry: the runner calls `window.play` with a role and its settings.

import { master } from './master.js';
import { start } from './start.js';
import { viewer } from './viewer.js';

const ROLES = { master, start, viewer };

window.play = async (role, settings) => {
  const report = (event) => window.report({ t_ms: Math.round(performance.now()), ...event });
  try {
    await ROLES[role](settings, report);
  } catch (error) {
    report({ event: 'error', text: `${error.name}: ${error.message}` });
  }
};
