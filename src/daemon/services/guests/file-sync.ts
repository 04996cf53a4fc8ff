/** `[[file_sync]]`: files of the user's home, written below root's home of a VM when it starts. */

import { realpath, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { BangerError, errorText } from '../../../core/errors.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { readHostTree } from '../../../guest/archive/host-reader.ts';
import { type ArchiveRecord, isArchivePath } from '../../../guest/archive/records.ts';
import { isErrno } from '../../../host/drafts.ts';
import type { FileSyncEntry } from '../../../host/file-sync-config.ts';
import { fileError } from '../../../host/files.ts';
import type { Log } from '../../../host/log.ts';
import type { OperationHandle } from '../../operations.ts';

const GUEST_HOME = '/root';

type Warn = (text: string) => void;

interface Source {
  readonly path: string;
  readonly isDirectory: boolean;
}

export class FileSync {
  readonly #entries: readonly FileSyncEntry[];
  readonly #home: string;
  readonly #log: Log;

  constructor(deps: {
    readonly entries: readonly FileSyncEntry[];
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly log: Log;
  }) {
    this.#entries = deps.entries;
    this.#home = deps.env['HOME'] ?? '';
    this.#log = deps.log;
  }

  /**
   * Writes what there is; what cannot be read here, or written there, is a warning: the VM is good all the same.
   * @throws {BangerError} `cancelled`, `channel_broken`
   */
  async write(agent: Pick<AgentClient, 'unpack'>, operation: OperationHandle): Promise<void> {
    if (this.#entries.length === 0) return;
    operation.progress({ step: 'file_sync', text: 'writing your files' });
    const warn = (text: string): void => {
      this.#log.warn({ reason: text }, 'file_sync');
      operation.progress({ step: 'file_sync', text: `file_sync: ${text}`, announce: true });
    };
    const { signal } = operation;
    const held: string[] = [];
    try {
      const records = this.#records(this.#entries, signal, (text) => held.push(text));
      await agent.unpack({ base: GUEST_HOME }, records, signal);
      held.forEach(warn);
    } catch (error) {
      throwIfOver(error);
      // One of them cannot be written: the others can.
      for (const entry of this.#entries) await this.#writeOne(agent, entry, signal, warn);
    }
  }

  async #writeOne(
    agent: Pick<AgentClient, 'unpack'>,
    entry: FileSyncEntry,
    signal: AbortSignal,
    warn: Warn,
  ): Promise<void> {
    try {
      await agent.unpack({ base: GUEST_HOME }, this.#records([entry], signal, warn), signal);
    } catch (error) {
      throwIfOver(error);
      warn(`~/${entry.host} is left out: ${errorText(error)}`);
    }
  }

  async *#records(
    entries: readonly FileSyncEntry[],
    signal: AbortSignal,
    warn: Warn,
  ): AsyncGenerator<ArchiveRecord, void, undefined> {
    const home = await realpath(this.#home).catch(() => undefined);
    if (home === undefined) return warn('there is no home directory');
    for (const entry of entries) {
      const source = await this.#source(home, entry, warn);
      if (source !== undefined) yield* recordsOf(source, entry, signal, warn);
    }
  }

  /** What an entry means now; undefined, after a warning, when that cannot be copied. */
  async #source(home: string, { host, guest }: FileSyncEntry, warn: Warn): Promise<Source | undefined> {
    const shown = `~/${host}`;
    try {
      // It may be a link itself, as with dotfiles kept elsewhere, as long as it stays in the home.
      const path = await realpath(join(home, host));
      const status = await stat(path);
      if (!path.startsWith(home + sep)) warn(`${shown} leads out of your home: it is left out`);
      else if (!status.isFile() && !status.isDirectory()) warn(`${shown} is neither a file nor a directory`);
      else if (!isArchivePath(Buffer.from(guest))) warn(`${shown}: its name in the VM is too long`);
      else return { path, isDirectory: status.isDirectory() };
    } catch (error) {
      if (isErrno(error, 'ENOENT')) warn(`${shown} does not exist`);
      else warn(fileError(`cannot read ${shown}`, error).message);
    }
    return undefined;
  }
}

/** @throws {BangerError} `cancelled`, `channel_broken` */
function throwIfOver(error: unknown): void {
  if (error instanceof BangerError && ['cancelled', 'channel_broken'].includes(error.code)) throw error;
}

async function* recordsOf(
  source: Source,
  { host, guest, mode }: FileSyncEntry,
  signal: AbortSignal,
  warn: Warn,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  const settings = {
    signal,
    follow: false,
    onSkipped: () => warn(`~/${host}: what is no file, directory or link is left out`),
  };
  let isInFile = false;
  try {
    for await (const record of readHostTree(Buffer.from(source.path), Buffer.from(guest), settings)) {
      if (record.kind === 'file') isInFile = true;
      else if (record.kind === 'fileEnd') isInFile = false;
      if (record.kind === 'symlink')
        warn(`~/${host}: the symbolic link ${record.path.toString()} is left out`);
      else if (record.kind === 'file' && !source.isDirectory) yield { ...record, mode };
      else yield record;
    }
  } catch (error) {
    // What is left of this entry cannot be read; the others can. Half a file is nothing to go on from.
    if (isInFile || signal.aborted) throw error;
    warn(errorText(error));
  }
}
