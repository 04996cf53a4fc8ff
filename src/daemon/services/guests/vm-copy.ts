/** Files between the host and a running guest: `vm cp`. Holds no lock: a VM that is stopped or deleted meanwhile ends the copy. */

import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { VmCopied } from '../../../api/results/vm.ts';
import { type CopyPath, parseCopyPath } from '../../../core/copy-path.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { BangerError } from '../../../core/errors.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { ArchiveError } from '../../../guest/archive/decode.ts';
import { readHostTree } from '../../../guest/archive/host-reader.ts';
import { HostWriter } from '../../../guest/archive/host-writer.ts';
import { type ArchiveRecord, pathBelow, UNKNOWN_SIZE_BYTES } from '../../../guest/archive/records.ts';
import type { ByteStreams, ClientBytes } from '../../byte-streams.ts';
import type { OperationHandle } from '../../operations.ts';
import { CopyCount } from './copy-count.ts';
import { guestEntry, guestTarget, hostKind, hostTarget, inGuest } from './copy-ends.ts';
import type { LiveVm } from '../vms/live-vm.ts';
import type { Transfers } from './transfers.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';

const AGENT_TIMEOUT_MS = 10_000;
/** Far above what a guest's disk and memory can hold as it is; a guest that makes data up ends here. */
const LIMITS = { maxRecords: 5_000_000, maxDataBytes: 2 ** 40 };
const STREAM_MODE = 0o644;
const ZEROS = Buffer.alloc(64 * 1024);

type Params = CheckedParamsOf<'vm.cp'>;

/** One copy: the VM's agent, what is to be done, and what has been. */
interface Copy {
  readonly name: string;
  readonly agent: AgentClient;
  readonly guestPath: CopyPath;
  readonly follow: boolean;
  readonly signal: AbortSignal;
  readonly count: CopyCount;
}

export class VmCopy {
  readonly #sleep: VmSleep;
  readonly #transfers: Transfers;
  readonly #streams: ByteStreams;

  constructor(deps: {
    readonly sleep: VmSleep;
    readonly transfers: Transfers;
    readonly streams: ByteStreams;
  }) {
    this.#sleep = deps.sleep;
    this.#transfers = deps.transfers;
    this.#streams = deps.streams;
  }

  /**
   * What was copied when it fails stays, each file whole. Stopping and deleting the VM end it.
   * @throws {BangerError} `not_found`, `already_exists` (something else is in the way), `no_space`, `permission`, `bad_request`,
   *   `invalid_state`, `guest_failed`, `channel_broken`, `cancelled`
   */
  async copy(params: Params, operation: OperationHandle): Promise<VmCopied> {
    const { vm, live } = await this.#sleep.running(params.ref, 'cp', operation.signal);
    operation.about(vm.name);
    return await this.#transfers.run(vm.id, operation.signal, (signal) =>
      this.#copy(vm, live, params, { ...operation, signal }),
    );
  }

  async #copy(vm: VmRecord, live: LiveVm, params: Params, operation: OperationHandle): Promise<VmCopied> {
    const { to, hostPath, stream, follow } = params;
    const { signal } = operation;
    const count = new CopyCount(operation, vm.name);
    const agent = await live.agent(signal, AGENT_TIMEOUT_MS);
    const guestPath = parseCopyPath(inGuest(params.guestPath));
    const copy = { name: vm.name, agent, guestPath, follow, signal, count };
    if (hostPath !== undefined && stream === undefined) {
      const path = parseCopyPath(hostPath);
      await (to === 'guest' ? hostToGuest(copy, path).catch(told(vm.name)) : guestToHost(copy, path));
    } else if (stream !== undefined && hostPath === undefined) {
      await this.#streams.use(stream, signal, (bytes) =>
        to === 'guest' ? streamToGuest(copy, bytes).catch(told(vm.name)) : guestToStream(copy, bytes),
      );
    } else throw new BangerError('bad_request', 'files are copied from and to a path or a stream');
    return { vm: vm.name, ...count.result() };
  }
}

/** Of a copy into the guest: whose disk is full, and what shows it. */
function told(vm: string): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof BangerError) || error.code !== 'no_space') throw error;
    const hint = `what is full there: banger vm exec ${vm} -- df -h`;
    throw new BangerError('no_space', error.message, { hint, cause: error });
  };
}

async function hostToGuest(copy: Copy, source: CopyPath): Promise<void> {
  const { agent, count, signal } = copy;
  const follow = copy.follow || source.saysDirectory;
  const kind = await hostKind(source, follow);
  const target = await guestTarget(copy, source, kind === 'directory');
  const records = readHostTree(Buffer.from(source.whole), Buffer.from(target.name), {
    follow,
    signal,
    onSkipped: (path) => count.skip(path),
  });
  await agent.unpack({ base: target.directory, baseMustExist: true }, count.through(records), signal);
}

async function streamToGuest(copy: Copy, bytes: ClientBytes): Promise<void> {
  const { agent, count, signal } = copy;
  const there = await guestEntry(copy, true);
  const target = await guestTarget(copy, undefined, false, there);
  // As a shell's `>` would leave it.
  const mode = there?.kind === 'file' ? there.mode : STREAM_MODE;
  const records = streamRecords(bytes, Buffer.from(target.name), mode);
  await agent.unpack({ base: target.directory, baseMustExist: true }, count.through(records), signal);
}

async function* streamRecords(
  bytes: ClientBytes,
  path: Buffer,
  mode: number,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  const mtimeNs = BigInt(Date.now()) * 1_000_000n;
  yield { kind: 'file', path, mode, mtimeNs, sizeBytes: UNKNOWN_SIZE_BYTES };
  let offset = 0;
  for await (const chunk of bytes.chunks()) {
    yield { kind: 'data', offset, bytes: chunk };
    offset += chunk.length;
  }
  yield { kind: 'fileEnd', sizeBytes: offset };
}

/** What is at the source in the guest. @throws {BangerError} `not_found`, `bad_request` */
async function guestSource(copy: Copy, follow: boolean): Promise<'directory' | 'file'> {
  const { name, guestPath } = copy;
  const shown = `${name}:${guestPath.whole}`;
  if (guestPath.name === '') return 'directory';
  const entry = await guestEntry(copy, follow);
  if (entry === undefined) throw new BangerError('not_found', `${shown} does not exist in the guest`);
  if (entry.kind === 'skipped') {
    throw new BangerError('bad_request', `${shown} is neither a file, a directory nor a symbolic link`);
  }
  if (entry.kind === 'directory') return 'directory';
  if (!guestPath.saysDirectory) return 'file';
  throw new BangerError('bad_request', `${shown} is not a directory`);
}

async function guestToHost(copy: Copy, to: CopyPath): Promise<void> {
  const { agent, guestPath, count, signal } = copy;
  const follow = copy.follow || guestPath.saysDirectory;
  const kind = await guestSource(copy, follow);
  const target = await hostTarget(guestPath, kind === 'directory', to);
  await using writer = await HostWriter.open(target.directory);
  const request = { base: guestPath.directory, paths: [guestPath.name], follow };
  const [from, into] = [Buffer.from(guestPath.name), Buffer.from(target.name)];
  for await (const record of count.through(agent.pack(request, LIMITS, signal))) {
    if (record.kind === 'skipped') count.skip(pathBelow(Buffer.from(guestPath.directory), record.path));
    else if ('path' in record) await write(writer, { ...record, path: renamed(record.path, from, into) });
    else await write(writer, record);
  }
}

async function write(writer: HostWriter, record: ArchiveRecord): Promise<void> {
  switch (record.kind) {
    case 'directory':
      return await writer.directory(record);
    case 'file':
      return await writer.beginFile(record);
    case 'data':
      return await writer.data(record.offset, record.bytes);
    case 'fileEnd':
      return await writer.endFile(record.sizeBytes);
    case 'symlink':
      return await writer.symlink(record);
    default:
      throw new BangerError('guest_failed', `the guest sends what is no file: ${record.kind}`);
  }
}

/** The path under the name it gets here. A guest that sends what was not asked for is refused. */
function renamed(path: Buffer, from: Buffer, to: Buffer): Buffer {
  if (from.length === 0) return path;
  const isBelow = path[from.length] === 0x2f || path.length === from.length;
  if (isBelow && path.subarray(0, from.length).equals(from)) {
    return Buffer.concat([to, path.subarray(from.length)]);
  }
  throw new BangerError('guest_failed', 'the guest sends files that were not asked for', {
    cause: new ArchiveError(path.toString()),
  });
}

async function guestToStream(copy: Copy, bytes: ClientBytes): Promise<void> {
  const { agent, guestPath, count, signal, name } = copy;
  if ((await guestSource(copy, true)) === 'directory') {
    throw new BangerError('bad_request', `${name}:${guestPath.whole} is a directory: "-" takes one file`, {
      hint: `banger vm exec ${name} -- tar c -C ${guestPath.directory} ${guestPath.name || '.'}`,
    });
  }
  const request = { base: guestPath.directory, paths: [guestPath.name], follow: true };
  let end = 0;
  for await (const record of count.through(agent.pack(request, LIMITS, signal))) {
    if (record.kind === 'data') {
      await writeZeros(bytes, record.offset - end);
      await bytes.write(record.bytes);
      end = record.offset + record.bytes.length;
    } else if (record.kind === 'fileEnd') await writeZeros(bytes, record.sizeBytes - end);
  }
}

async function writeZeros(bytes: ClientBytes, count: number): Promise<void> {
  for (let left = count; left > 0; left -= ZEROS.length) await bytes.write(ZEROS.subarray(0, left));
}
