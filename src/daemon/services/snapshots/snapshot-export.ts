/** A snapshot as one file, to be carried elsewhere: src/frozen/export-format.ts. */

import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { VmSnapshotExported } from '../../../api/results/snapshot.ts';
import { BangerError } from '../../../core/errors.ts';
import { type ExportedFile, partsOf } from '../../../frozen/export-format.ts';
import { type ByteSink, type FileToExport, writeExport } from '../../../frozen/export-writer.ts';
import type { VmSnapshot } from '../../../frozen/vm-snapshot-store.ts';
import { fileError } from '../../../host/files.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { dataExtents, openFilePath, sparseFacts } from '../../../host/sparse-digest.ts';
import { assertFree, writeWholeFile } from '../../../host/whole-file.ts';
import type { ByteStreams } from '../../byte-streams.ts';
import type { OperationHandle } from '../../operations.ts';
import { diskFormatOf } from '../vms/driver-limits.ts';
import type { SnapshotShelf } from './snapshot-shelf.ts';
import type { VmSnapshots } from './vm-snapshots.ts';

export class SnapshotExport {
  readonly #snapshots: VmSnapshots;
  readonly #shelf: SnapshotShelf;
  readonly #streams: ByteStreams;
  readonly #runner: CommandRunner;
  readonly #scratchDir: string;

  constructor(deps: {
    snapshots: VmSnapshots;
    shelf: SnapshotShelf;
    streams: ByteStreams;
    runner: CommandRunner;
    scratchDir: string;
  }) {
    this.#snapshots = deps.snapshots;
    this.#shelf = deps.shelf;
    this.#streams = deps.streams;
    this.#runner = deps.runner;
    this.#scratchDir = deps.scratchDir;
  }

  /**
   * To a file that appears whole or not at all, or to a stream.
   * @throws {BangerError} `not_found`, `already_exists`, `verify_failed` (the snapshot is damaged), `no_space`, `cancelled` …
   */
  async export(
    params: CheckedParamsOf<'snapshot.export'>,
    operation: OperationHandle,
  ): Promise<VmSnapshotExported> {
    const { output, stream, force } = params;
    if (stream !== undefined && output === undefined) {
      return await this.#streams.use(stream, operation.signal, (sink) =>
        this.#write(params.snapshot, sink, null, operation),
      );
    }
    if (output === undefined || stream !== undefined)
      throw new BangerError('bad_request', 'an export goes to a file or to a stream');
    if (!force) await assertFree(output);
    return await writeWholeFile(output, { force, scratchDir: this.#scratchDir }, (sink) =>
      this.#write(params.snapshot, sink, output, operation),
    );
  }

  async #write(
    ref: string,
    sink: ByteSink,
    path: string | null,
    operation: OperationHandle,
  ): Promise<VmSnapshotExported> {
    const snapshot = await this.#shelf.get(ref);
    const view = await this.#snapshots.view(snapshot);
    operation.about(view.name);
    assertPortable(snapshot);
    await using handles = new AsyncDisposableStack();
    const files = await this.#files(snapshot, handles, operation);
    const total = files.reduce((sum, { facts }) => sum + facts.dataBytes, 0);
    let done = 0;
    const onData = (bytes: number): void => {
      done += bytes;
      operation.progress({ step: 'export', text: `exporting ${view.name}`, done, total, unit: 'bytes' });
    };
    onData(0);
    const { signal } = operation;
    const bytes = await writeExport(sink, snapshot.manifest, files, { signal, onData });
    return { snapshot: view, path, bytes, dataBytes: total };
  }

  /** All of them open before anything is read: a deletion meanwhile takes nothing away. */
  async #files(
    { dir, manifest }: VmSnapshot,
    handles: AsyncDisposableStack,
    { signal, progress }: OperationHandle,
  ): Promise<readonly FileToExport[]> {
    progress({ step: 'digest', text: `reading ${manifest.name}` });
    const opened: { readonly name: string; readonly file: FileHandle }[] = [];
    for (const name of partsOf({ manifest })) {
      const file = await open(join(dir, name), constants.O_RDONLY | constants.O_NOFOLLOW).catch((error) => {
        throw fileError(`cannot read ${name} of the snapshot "${manifest.name}"`, error);
      });
      handles.use(file);
      opened.push({ name, file });
    }
    const files: FileToExport[] = [];
    for (const { name, file } of opened) {
      const extents = await dataExtents(openFilePath(file), this.#runner, signal);
      const facts = { name, ...(await sparseFacts(file, extents, signal)) };
      assertUndamaged(manifest, facts);
      files.push({ file, extents, facts });
    }
    return files;
  }
}

/** An export has its disk as what differs from an image's. @throws {BangerError} `unsupported` */
function assertPortable({ manifest }: VmSnapshot): void {
  const { driver } = manifest.vm.spec;
  if (diskFormatOf({ driver }) === 'qcow2') return;
  throw new BangerError('unsupported', `a snapshot of a VM of ${driver} cannot be exported: its disk is raw`);
}

/** The state has another digest, which its reader checks. */
function assertUndamaged(
  { name, rootDisk, memory }: VmSnapshot['manifest'],
  { name: file, sizeBytes, sparseSha256 }: ExportedFile,
): void {
  const said = file === 'root.qcow2' ? rootDisk : file === 'memory' ? memory : null;
  if (said === null || (said.sizeBytes === sizeBytes && said.sparseSha256 === sparseSha256)) return;
  throw new BangerError(
    'verify_failed',
    `the snapshot "${name}" is damaged: ${file} is not what was written`,
    {
      hint: `banger vm snapshot delete ${name}`,
    },
  );
}
