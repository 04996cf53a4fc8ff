/** One client on a descriptor it gave us, without a daemon: what must work when none runs, or none can. */

import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import { paramsSchemas } from '../api/schemas.ts';
import { BangerError } from '../core/errors.ts';
import type { BangerPaths } from '../host/paths.ts';
import { serveOne } from '../rpc/serve-one.ts';
import type { Handlers, RpcLog } from '../rpc/server-types.ts';
import type { ConfigHandlers } from './config-handlers.ts';
import type { Doctor } from './doctor/doctor.ts';
import type { RestoreService } from './services/state/restore-service.ts';
import type { StateService } from './services/state/state-service.ts';
import { refusal, type RunOperation, type StateHandlers, stateServiceHandlers } from './state-handlers.ts';

const CLIENT_DESCRIPTOR = 3;

export interface OfflineOptions {
  /** Asked at each request, so that what is wrong with them is its answer. */
  readonly paths: () => BangerPaths;
  readonly version: string;
  readonly guestBinDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Serves until the client hangs up and what it began has ended; false when there is no client. */
export async function runOffline(options: OfflineOptions): Promise<boolean> {
  const socket = clientSocket();
  if (socket === undefined) return false;
  await serveOne(socket, {
    handlers: offlineHandlers(options),
    version: options.version,
    log: TO_STDERR,
  });
  return true;
}

/** Undefined when the descriptor is closed or something else, as when somebody runs this by hand. */
function clientSocket(): Socket | undefined {
  try {
    if (!fstatSync(CLIENT_DESCRIPTOR).isSocket()) return undefined;
    return new Socket({ fd: CLIENT_DESCRIPTOR });
  } catch {
    return undefined;
  }
}

/** Never the daemon's log, which is the daemon's to write. What a user meets is in the answer already. */
const TO_STDERR: RpcLog = {
  debug: () => undefined,
  warn: () => undefined,
  error: (fields, message) => {
    const { err } = fields as { readonly err?: unknown };
    process.stderr.write(`${message}\n${err instanceof Error ? `${err.stack}\n` : ''}`);
  },
};

function offlineHandlers(options: OfflineOptions): Handlers {
  const handlers: Record<string, unknown> = {};
  for (const method of Object.keys(paramsSchemas)) {
    handlers[method] = refusal(
      () => new BangerError('unavailable', `${method} needs the daemon`, { hint: 'banger daemon start' }),
    );
  }
  return { ...(handlers as unknown as Handlers), ...stateHandlers(options), ...configHandlers(options) };
}

/** In a module that is loaded when it is asked for. */
function configHandlers({ paths, env }: OfflineOptions): ConfigHandlers {
  const handlers = async (): Promise<ConfigHandlers> => {
    const { offlineConfigHandlers } = await import('./config-handlers.ts');
    return offlineConfigHandlers(paths, env);
  };
  return {
    'config.show': async (...request) => await (await handlers())['config.show'](...request),
    'config.check': async (...request) => await (await handlers())['config.check'](...request),
    'config.schema': async (...request) => await (await handlers())['config.schema'](...request),
  };
}

function stateHandlers(options: OfflineOptions): StateHandlers {
  const state = async (): Promise<StateService> => {
    const { offlineState } = await import('./offline-services.ts');
    return offlineState(options.paths(), options.env);
  };
  const restore = async (): Promise<RestoreService> => {
    const { offlineRestore } = await import('./offline-services.ts');
    return await offlineRestore(options.paths());
  };
  const doctor = async (): Promise<Doctor> => {
    const { createDoctor } = await import('./doctor/doctor.ts');
    const { paths, env, version, guestBinDir } = options;
    return createDoctor({ paths: paths(), env, version, guestBinDir });
  };
  return {
    ...stateServiceHandlers(state, run),
    'state.bootstrap': (params, context) =>
      run(context, async (operation) => (await restore()).bootstrap(params, operation)),
    'state.rebuild': (params, context) =>
      run(context, async (operation) => (await restore()).rebuild(params, operation)),
    'doctor.run': (params, context) =>
      run(context, async (operation) => (await doctor()).run(params, operation)),
    'doctor.fix': (params, context) =>
      run(context, async (operation) => (await doctor()).fix(params, operation)),
  };
}

/** There is no other client that could list or cancel it. */
const run: RunOperation = ({ signal, progress }, work) => work({ signal, progress, about: () => undefined });
