/** What a copy has done so far: for its progress and its result. */

import type { VmCopied } from '../../../api/results/vm.ts';
import { counted } from '../../../core/units.ts';
import type { ArchiveRecord } from '../../../guest/archive/records.ts';
import type { OperationHandle } from '../../operations.ts';

const REPORT_EVERY_MS = 200;
/** More are counted, not named. */
const MAX_NAMED = 100;

export class CopyCount {
  readonly #operation: OperationHandle;
  readonly #text: string;
  readonly #skipped: string[] = [];
  #skippedCount = 0;
  #files = 0;
  #directories = 0;
  #links = 0;
  #bytes = 0;
  #reportedAtMs = Number.NEGATIVE_INFINITY;

  constructor(operation: OperationHandle, vm: string) {
    this.#operation = operation;
    this.#text = `copying, VM ${vm}`;
  }

  /** The same records, counted as they are taken. */
  async *through(records: AsyncIterable<ArchiveRecord>): AsyncGenerator<ArchiveRecord, void, undefined> {
    for await (const record of records) {
      yield record;
      this.#add(record);
    }
  }

  skip(path: Buffer): void {
    this.#skippedCount++;
    if (this.#skipped.length < MAX_NAMED) this.#skipped.push(path.toString());
  }

  result(): Omit<VmCopied, 'vm'> {
    return {
      files: this.#files,
      directories: this.#directories,
      links: this.#links,
      bytes: this.#bytes,
      skipped: this.#skipped,
      skippedCount: this.#skippedCount,
    };
  }

  #add(record: ArchiveRecord): void {
    if (record.kind === 'fileEnd') this.#files++;
    else if (record.kind === 'directory') this.#directories++;
    else if (record.kind === 'symlink') this.#links++;
    else if (record.kind === 'data') this.#bytes += record.bytes.length;
    const nowMs = performance.now();
    if (nowMs - this.#reportedAtMs < REPORT_EVERY_MS) return;
    this.#reportedAtMs = nowMs;
    const files = counted(this.#files, 'file');
    this.#operation.progress({
      step: 'copy',
      text: `${this.#text}: ${files}`,
      done: this.#bytes,
      unit: 'bytes',
    });
  }
}
