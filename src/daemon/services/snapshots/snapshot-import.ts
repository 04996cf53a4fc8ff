/** A snapshot out of a file from elsewhere. The file is hostile until the last of it was checked; only then is it published. */

import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { VmSnapshotView } from '../../../api/results/snapshot.ts';
import { BangerError, errorText } from '../../../core/errors.ts';
import { assertImageName, shortId } from '../../../core/names.ts';
import { checkVmSpec, type VmPolicy } from '../../../core/policy/vm-policy.ts';
import { damaged, type ExportHeader } from '../../../frozen/export-format.ts';
import { ExportReader } from '../../../frozen/export-reader.ts';
import { frozenPaths } from '../../../frozen/manifest.ts';
import type { VmSnapshotStore } from '../../../frozen/vm-snapshot-store.ts';
import type { Draft } from '../../../host/drafts.ts';
import { fileError } from '../../../host/files.ts';
import { newId } from '../../../host/ids.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { dataExtents, type SparseFacts, sparseFacts } from '../../../host/sparse-digest.ts';
import { requireFreeSpace } from '../../../images/build-space.ts';
import { adoptOverlay } from '../../../images/qcow2-adopt.ts';
import type { ByteStreams } from '../../byte-streams.ts';
import type { OperationHandle } from '../../operations.ts';
import { TRANSFER_DISK_BYTES } from '../../vm-files.ts';
import type { ImageService, LocalImage } from '../images/image-service.ts';
import type { SnapshotShelf } from './snapshot-shelf.ts';
import type { VmSnapshots } from './vm-snapshots.ts';

/** Left free on the disk beyond what the snapshot takes. */
const SPARE_BYTES = 64 * 1024 ** 2;
const READ_BYTES = 256 * 1024;
const MAX_STATE_BYTES = 64 * 1024 ** 2;
/** Tables of a qcow2 file are a thousandth of it; a VM that was stopped hard may have lost track of some of its clusters. */
const OVERLAY_SLACK = 1.25;

type Params = CheckedParamsOf<'snapshot.import'>;

export interface SnapshotImportDeps {
  readonly snapshots: VmSnapshots;
  readonly shelf: SnapshotShelf;
  readonly store: VmSnapshotStore;
  readonly images: ImageService;
  readonly streams: ByteStreams;
  readonly policy: VmPolicy;
  readonly runner: CommandRunner;
  readonly vmSnapshotsDir: string;
}

export class SnapshotImport {
  readonly #deps: SnapshotImportDeps;

  constructor(deps: SnapshotImportDeps) {
    this.#deps = deps;
  }

  /** @throws {BangerError} `verify_failed`, `already_exists`, `unsupported`, `bad_request`, `no_space`, `cancelled` … */
  async import(params: Params, operation: OperationHandle): Promise<VmSnapshotView> {
    const { input, stream } = params;
    if (stream !== undefined && input === undefined) {
      return await this.#deps.streams.use(stream, operation.signal, (bytes) =>
        this.#read(params, bytes.chunks(), operation),
      );
    }
    if (input === undefined || stream !== undefined)
      throw new BangerError('bad_request', 'an import comes from a file or from a stream');
    await using file = await openInput(input);
    return await this.#read(params, chunksOf(file, input), operation);
  }

  /** What the system says of our own files, in our words. */
  async #read(
    params: Params,
    source: AsyncIterable<Uint8Array>,
    operation: OperationHandle,
  ): Promise<VmSnapshotView> {
    try {
      return await this.#take(params, source, operation);
    } catch (error) {
      throw error instanceof Error && 'syscall' in error
        ? fileError('cannot write the snapshot', error)
        : error;
    }
  }

  async #take(
    params: Params,
    source: AsyncIterable<Uint8Array>,
    operation: OperationHandle,
  ): Promise<VmSnapshotView> {
    const { store, snapshots, vmSnapshotsDir } = this.#deps;
    const reader = new ExportReader(source);
    const header = await reader.header();
    const { shelf } = this.#deps;
    using reserved = await shelf.reserveName(params.name ?? header.manifest.name, header.manifest.vm.name);
    const { name } = reserved;
    operation.about(name);
    const image = await this.#check(header, params);
    const total = header.files.reduce((sum, file) => sum + file.dataBytes, 0);
    await mkdir(vmSnapshotsDir, { recursive: true, mode: 0o700 });
    await requireFreeSpace(vmSnapshotsDir, total + SPARE_BYTES);
    const id = newId();
    await using draft = await store.draft(id);
    await this.#receive(reader, header, draft, operation);
    operation.progress({ step: 'check', text: `checking ${name}` });
    await assertState(header, draft);
    const rootDisk = await this.#adoptDisk(header, draft, image, operation.signal);
    const { manifest } = header;
    const written = await store.writeManifest(draft, {
      ...manifest,
      id,
      name,
      createdAt: new Date(manifest.createdAt).toISOString(),
      imported: true,
      // Nobody's: it cannot be put in the place of a VM that is here.
      vm: { ...manifest.vm, id: newId(), spec: { ...manifest.vm.spec, nat: params.nat, ephemeral: false } },
      rootDisk,
    });
    return await snapshots.view(await snapshots.publish(draft, written, operation));
  }

  /** What its header says, against what may be here. Nothing is written yet. */
  async #check({ manifest, files }: ExportHeader, params: Params): Promise<LocalImage> {
    const { vm, memory, image, kernel } = manifest;
    checkVmSpec(vm.spec, this.#deps.policy, 'the VM of the exported snapshot: ');
    assertImageName(image.name);
    assertImageName(kernel.name, 'kernel');
    const limits: Readonly<Record<string, number>> = {
      'root.qcow2': vm.spec.diskSizeBytes * OVERLAY_SLACK,
      'transfer.img': TRANSFER_DISK_BYTES,
      state: MAX_STATE_BYTES,
      memory: vm.spec.memoryMib * 1024 ** 2,
    };
    const large = files.find(({ name, sizeBytes }) => sizeBytes > (limits[name] ?? 0));
    if (large !== undefined) throw damaged(`${large.name} has ${large.sizeBytes} bytes`);
    if (memory !== null && !params.trust) {
      throw new BangerError(
        'permission',
        'the exported snapshot has memory and device state, which QEMU loads',
        {
          hint: '--trust, if you trust whoever made the file: a made-up state can attack QEMU, which runs as your user',
        },
      );
    }
    return await this.#image(image);
  }

  async #image({ name, rootfsSha256 }: ExportHeader['manifest']['image']): Promise<LocalImage> {
    const image = await this.#deps.images.find(name);
    if (image?.manifest.rootfs.sha256 === rootfsSha256) return image;
    const wanted = `the image "${name}" of digest ${shortId(rootfsSha256)}`;
    const why =
      image === undefined
        ? 'there is none of that name here'
        : `the one here has ${shortId(image.manifest.rootfs.sha256)}`;
    throw new BangerError('unsupported', `the exported snapshot stands on ${wanted}; ${why}`, {
      hint:
        image === undefined
          ? `banger image build ${name} makes it, if the same packages are still to be had; else copy its directory from there`
          : `copy the directory of the image from where the snapshot was made: a new build (banger image build ${name}) is another one`,
    });
  }

  async #receive(
    reader: ExportReader,
    { manifest, files }: ExportHeader,
    draft: Draft,
    { signal, progress }: OperationHandle,
  ): Promise<void> {
    const total = files.reduce((sum, { dataBytes }) => sum + dataBytes, 0);
    let done = 0;
    const onData = (bytes: number): void => {
      if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
      done += bytes;
      progress({ step: 'import', text: `importing ${manifest.name}`, done, total, unit: 'bytes' });
    };
    for (const facts of files) {
      onData(0);
      // The names are those of a fixed list: partsOf.
      await using target = await open(join(draft.dir, facts.name), 'wx', 0o600);
      await reader.file(facts, target, onData);
    }
    await reader.end();
  }

  async #adoptDisk(
    { manifest }: ExportHeader,
    draft: Draft,
    { record, manifest: image }: LocalImage,
    signal: AbortSignal,
  ): Promise<Pick<SparseFacts, 'sizeBytes' | 'sparseSha256'>> {
    const { runner } = this.#deps;
    const path = frozenPaths(draft.dir).rootDisk;
    const base = { backingName: record.rootfsPath, backingFormat: image.rootfs.format } as const;
    await adoptOverlay({ path, ...base, sizeBytes: manifest.rootDiskBytes }, runner, signal);
    await using file = await open(path, 'r');
    const { sizeBytes, sparseSha256 } = await sparseFacts(
      file,
      await dataExtents(path, runner, signal),
      signal,
    );
    return { sizeBytes, sparseSha256 };
  }
}

/** Without waiting for the writer of a FIFO. */
async function openInput(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw fileError(`cannot read ${path}`, error);
  });
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new BangerError('bad_request', `${path} is not a regular file`, {
    hint: 'banger vm snapshot import - reads from a pipe',
  });
}

async function* chunksOf(file: FileHandle, path: string): AsyncGenerator<Uint8Array, void, void> {
  for (;;) {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    const { bytesRead } = await file.read(buffer, 0, READ_BYTES, null).catch((error: unknown) => {
      throw fileError(`cannot read ${path}`, error);
    });
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

/** By the digest that it is loaded with. At most 64 MiB. */
async function assertState({ manifest: { state } }: ExportHeader, draft: Draft): Promise<void> {
  if (state === null) return;
  const bytes = await readFile(frozenPaths(draft.dir).state).catch((error: unknown) => {
    throw new BangerError('io_error', `cannot read the state: ${errorText(error)}`, { cause: error });
  });
  if (createHash('sha256').update(bytes).digest('hex') !== state.sha256)
    throw damaged('its state is not what was written');
}
