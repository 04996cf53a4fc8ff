/**
 * A model of Firecracker, for hosts that have none or no KVM: its flags, its API, which request is legal when, and a real
 * guest behind it. Requests are checked against Firecracker's own definition; what the model does in answer, docs/vsock.md
 * and docs/snapshotting in Firecracker's sources say.
 */

import { appendFileSync, existsSync, openSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { parseArgs } from 'node:util';
import { API_VERSION, checkAnswer, checkBody, Fault, type Matched, matchPath } from './api-schema.ts';
import { checkDisk, checkReadable, type Drive, FakeGuest } from './fake-guest.ts';

/** Definition InstanceInfo. */
type State = 'Not started' | 'Running' | 'Paused';
type Body = Readonly<Record<string, unknown>>;
type Handler = (body: Body, parameters: Readonly<Record<string, string>>) => Promise<Body | undefined>;

/** Its default: HTTP_MAX_PAYLOAD_SIZE. */
const MAX_BODY_BYTES = 51_200;
const ARGUMENT_ERROR = 153;
const AFTER_BOOT = 'The requested operation is not supported after starting the microVM.';
const BEFORE_BOOT = 'The requested operation is not supported before starting the microVM.';

const { values: flags } = readFlags();
if (flags.version === true) {
  process.stdout.write(`Firecracker v${process.env['FAKE_FIRECRACKER_VERSION'] ?? API_VERSION}\n\n`);
  process.exit(0);
}
const id = flags.id ?? 'anonymous-instance';
if (!/^[A-Za-z0-9-]{1,64}$/.test(id)) fail('Invalid instance ID', 1);
if (flags['log-path'] !== undefined) openSync(flags['log-path'], 'a');

let state: State = 'Not started';
let guest: FakeGuest | undefined;
let configured = false;
let machine = { vcpus: 1, memoryMib: 128 };
let boot: { kernelPath: string; initramfsPath: string; bootArgs: string } | undefined;
let vsockPath: string | undefined;
const drives = new Map<string, Drive>();

/** Requests that are legal before the guest runs only, and those after that only. */
const PRE_BOOT = new Set([
  'PUT /machine-config',
  'PUT /boot-source',
  'PUT /drives/{drive_id}',
  'PUT /vsock',
  'PUT /entropy',
]);
const POST_BOOT = new Set(['PATCH /vm', 'PATCH /drives/{drive_id}', 'PUT /snapshot/create']);

const handlers: Readonly<Record<string, Handler>> = {
  'GET /': async () => ({ app_name: 'Firecracker', id, state, vmm_version: API_VERSION }),
  'GET /version': async () => ({ firecracker_version: API_VERSION }),
  'GET /machine-config': async () => {
    const { vcpus, memoryMib } = guest?.configuration ?? machine;
    return { vcpu_count: vcpus, mem_size_mib: memoryMib, smt: false, track_dirty_pages: false };
  },
  'PUT /machine-config': async (body) => {
    machine = { vcpus: Number(body['vcpu_count']), memoryMib: Number(body['mem_size_mib']) };
    return undefined;
  },
  'PUT /boot-source': async (body) => {
    const [kernelPath, initramfsPath] = [String(body['kernel_image_path']), String(body['initrd_path'])];
    for (const path of [kernelPath, initramfsPath]) checkReadable(path);
    boot = { kernelPath, initramfsPath, bootArgs: String(body['boot_args'] ?? '') };
    return undefined;
  },
  'PUT /drives/{drive_id}': async (body, { drive_id: named }) => {
    const drive = String(body['drive_id']);
    if (drive !== named) throw new Fault('The id from the path does not match the id from the body!');
    if (!/^\w+$/.test(drive))
      throw new Fault('API Resource IDs can only contain alphanumeric characters and underscores.');
    if (body['is_root_device'] === true) throw new Fault('the model has no root device');
    if (typeof body['path_on_host'] !== 'string') throw new Fault('Unable to find a backing file');
    checkDisk(body['path_on_host']);
    drives.set(drive, { id: drive, path: body['path_on_host'], readOnly: body['is_read_only'] === true });
    return undefined;
  },
  'PATCH /drives/{drive_id}': async (body, { drive_id: named }) => {
    if (body['drive_id'] !== named)
      throw new Fault('The id from the path does not match the id from the body!');
    await running().diskChanged(String(named));
    return undefined;
  },
  'PUT /vsock': async (body) => {
    vsockPath = String(body['uds_path']);
    return undefined;
  },
  'PUT /entropy': async () => undefined,
  'PUT /actions': async (body) => {
    if (body['action_type'] !== 'InstanceStart') throw new Fault('the model has one action');
    if (state !== 'Not started') throw new Fault(AFTER_BOOT);
    if (boot === undefined) throw new Fault('Cannot start microvm without kernel configuration.');
    started(await FakeGuest.boot({ ...machine, ...boot, drives: [...drives.values()], vsockPath }));
    state = 'Running';
    return undefined;
  },
  'PATCH /vm': async (body) => {
    if (body['state'] === 'Paused') await running().pause();
    else await running().resume();
    state = body['state'] === 'Paused' ? 'Paused' : 'Running';
    return undefined;
  },
  'PUT /snapshot/create': async (body) => {
    if (state !== 'Paused') throw new Fault('Cannot save a snapshot of a microVM that is not paused');
    if (body['snapshot_type'] === 'Diff') throw new Fault('the model has no diffs');
    await running().save(String(body['snapshot_path']), String(body['mem_file_path']));
    return undefined;
  },
  'PUT /snapshot/load': async (body) => {
    if (state !== 'Not started' || configured) {
      throw new Fault('Loading a microVM snapshot not allowed after configuring boot-specific resources.');
    }
    const backend = body['mem_backend'] as Body | undefined;
    if ((backend === undefined) === (body['mem_file_path'] === undefined)) {
      throw new Fault('too many or no fields: either `mem_backend` or `mem_file_path`');
    }
    if (backend?.['backend_type'] === 'Uffd') throw new Fault('the model has no page fault handler');
    const memoryPath = String(backend?.['backend_path'] ?? body['mem_file_path']);
    try {
      started(await FakeGuest.load(String(body['snapshot_path']), memoryPath));
    } catch (error) {
      // It is in an unknown state then, and ends once it has answered.
      setImmediate(() => setTimeout(() => fail(`Load snapshot error: ${String(error)}`, 1), 20));
      throw new Fault(`Load snapshot error: ${String(error)}`);
    }
    state = 'Paused';
    if (body['resume_vm'] === true) await handlers['PATCH /vm']?.({ state: 'Resumed' }, {});
    return undefined;
  },
};

let queue: Promise<unknown> = Promise.resolve();
const server = createServer((request, response) => {
  // One after another, as its one thread does.
  queue = queue.then(() => serve(request, response)).catch((error: unknown) => fail(String(error), 1));
});
if (flags['api-sock'] === undefined) fail('the model has no default socket', ARGUMENT_ERROR);
else if (existsSync(flags['api-sock'])) fail(`Failed to open the API socket at: ${flags['api-sock']}`, 1);
else server.listen(flags['api-sock']);

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let matched: Matched | undefined;
  let [status, answer]: [number, Body | undefined] = [204, undefined];
  try {
    const body = await bodyOf(request);
    matched = matchPath(request.method ?? '', request.url ?? '');
    checkBody(matched.operation, body);
    answer = await handle(`${request.method} ${matched.template}`, body ?? {}, matched);
    status = answer === undefined ? 204 : 200;
  } catch (error) {
    [status, answer] = [400, { fault_message: error instanceof Fault ? error.message : String(error) }];
    log(`Received Error. ${JSON.stringify(answer)}`);
  }
  if (matched !== undefined) checkAnswer(matched.operation, status, answer);
  const text = answer === undefined ? undefined : JSON.stringify(answer);
  response.writeHead(status, { Server: 'Firecracker API', 'Content-Type': 'application/json' });
  response.end(text);
}

async function handle(name: string, body: Body, { parameters }: Matched): Promise<Body | undefined> {
  const handler = handlers[name];
  if (handler === undefined) throw new Fault(`the model does not know ${name}`);
  const isBefore = state === 'Not started';
  if (PRE_BOOT.has(name) && !isBefore) throw new Fault(AFTER_BOOT);
  if (POST_BOOT.has(name) && isBefore) throw new Fault(BEFORE_BOOT);
  const answer = await handler(body, parameters);
  configured ||= PRE_BOOT.has(name);
  return answer;
}

async function bodyOf(request: IncomingMessage): Promise<Body | undefined> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  if (bytes.length > MAX_BODY_BYTES) throw new Fault('Payload too large');
  if (bytes.length === 0) return undefined;
  try {
    return JSON.parse(bytes.toString('utf8')) as Body;
  } catch (error) {
    throw new Fault(`An error occurred when deserializing the json body of a request: ${String(error)}`);
  }
}

function running(): FakeGuest {
  if (guest === undefined) throw new Fault(BEFORE_BOOT);
  return guest;
}

/** A guest that resets or ends ends it, too. */
function started(one: FakeGuest): void {
  guest = one;
  one.exited.then(
    () => process.exit(0),
    (error: unknown) => fail(String(error), 1),
  );
}

function log(text: string): void {
  if (flags['log-path'] !== undefined) appendFileSync(flags['log-path'], `[${id}:main] ${text}\n`);
}

function fail(text: string, status: number): never {
  log(text);
  process.stderr.write(`Error: ${text}\n`);
  process.exit(status);
}

function readFlags() {
  try {
    const text = { type: 'string' } as const;
    const options = {
      'api-sock': text,
      id: text,
      'log-path': text,
      level: text,
      version: { type: 'boolean' },
    } as const;
    return parseArgs({ options, strict: true });
  } catch (error) {
    process.stderr.write(`Arguments parsing error: ${String(error)}\n`);
    process.exit(ARGUMENT_ERROR);
  }
}
