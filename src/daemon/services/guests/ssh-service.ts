/**
 * ssh into VMs. Nothing listens for it: each connection is an sshd of its own in the guest, on the stdin and stdout of a stream of
 * the agent's. Keys are made when they are first needed, and the guest gets its own when somebody connects.
 */

import { stat } from 'node:fs/promises';
import type { SshSetup } from '../../../api/results/vm.ts';
import type { StreamTicket } from '../../../api/results/stream.ts';
import { BangerError } from '../../../core/errors.ts';
import { filesOnly } from '../../../core/guestconfig/guest-config.ts';
import { assertLegal } from '../../../core/lifecycle.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { clientConfig, VM_SUFFIX } from '../../../core/ssh/client-config.ts';
import { withHost, withoutHost } from '../../../core/ssh/known-hosts.ts';
import { SSHD_ARGV, sshServerFiles } from '../../../core/ssh/server-files.ts';
import { isThere, readTextFile, writeFileAtomic } from '../../../host/files.ts';
import { type BangerPaths, ensurePrivateDir } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import {
  keepPublicFile,
  makeSshKey,
  privateKeyBytes,
  readSshKey,
  type SshKey,
} from '../../../host/ssh-keys.ts';
import { KeyedLock } from '../../keyed-lock.ts';
import type { ExecService } from './exec-service.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import { isAsleep, type VmSleep } from '../vms/vm-sleep.ts';

const AGENT_TIMEOUT_MS = 10_000;
/** 253 VMs at some 200 bytes each, and then some. */
const MAX_FILE_BYTES = 1024 * 1024;
const FORGET_TIMEOUT_MS = 10_000;
const FILES = 'files of ssh';

export interface SshServiceDeps {
  readonly registry: VmRegistry;
  readonly sleep: VmSleep;
  readonly exec: Pick<ExecService, 'program'>;
  readonly runner: CommandRunner;
  readonly paths: BangerPaths;
  /** The user's own key; null: one that is made for banger. */
  readonly keyPath: string | null;
  /** For the ssh client's configuration: see ClientConfigFacts. */
  readonly launcher: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export class SshService {
  readonly #deps: SshServiceDeps;
  /** Of each VM, by its id, and of the files all share. */
  readonly #locks = new KeyedLock();
  /** Looking at a key takes a process; while its file is the same, once is enough. */
  readonly #keys = new Map<string, { readonly stamp: string; readonly key: SshKey }>();

  constructor(deps: SshServiceDeps) {
    this.#deps = deps;
  }

  /**
   * What a client of this host needs, made if it is missing; with a VM, also whether that can be connected to.
   * @throws {BangerError} what `readSshKey` throws, `not_found`, `bad_request`, `invalid_state`
   */
  async setup(ref: string | undefined, signal: AbortSignal): Promise<SshSetup> {
    const vm = ref === undefined ? undefined : this.#deps.registry.resolve(ref);
    if (vm !== undefined && !isAsleep(vm)) assertLegal('exec', vm.state, vm.name);
    const key = await this.#userKey(signal);
    return await this.#locks.run(FILES, signal, async () => {
      const config = clientConfig({
        identityFile: key.file,
        knownHostsFile: this.#knownHostsFile,
        launcher: this.#deps.launcher,
        environment: pinned(this.#deps.paths, this.#deps.env),
      });
      const configFile = this.#deps.paths.sshConfigFile;
      await replace(configFile, config);
      // ssh refuses to connect when there is none, but says so in words of its own.
      if (!(await isThere(this.#knownHostsFile))) await replace(this.#knownHostsFile, '');
      return {
        configFile,
        config,
        identityFile: key.file,
        knownHostsFile: this.#knownHostsFile,
        host: vm === undefined ? null : `${vm.name}${VM_SUFFIX}`,
      };
    });
  }

  /**
   * A ticket for one connection to a VM's ssh server. It wakes one that sleeps. The host key is pinned before a byte of it comes.
   * @param name exact: a prefix would be another VM tomorrow, under the name whose key was pinned today
   */
  async connect(name: string, signal: AbortSignal): Promise<StreamTicket> {
    const { registry, sleep, exec } = this.#deps;
    const { id } = exactly(name, registry);
    const { vm, live } = await sleep.running(id, 'exec', signal);
    const agent = await live.agent(signal, AGENT_TIMEOUT_MS);
    const userKey = await this.#userKey(signal);
    await this.#locks.run(id, signal, async () => {
      const hostKey = await this.#hostKey(vm, signal);
      await this.#pin(vm, hostKey, signal);
      const files = sshServerFiles({
        hostKey: await privateKeyBytes(hostKey),
        authorizedKey: userKey.publicKey,
      });
      // Each time: the guest may be another machine than the last time, or have removed them. What is there already stays.
      await agent.configure(filesOnly(files), signal);
    });
    return exec.program(vm, {
      ...{ argv: SSHD_ARGV, env: {}, cwd: '/', user: '', tty: false, stdin: true },
      ...{ rows: 0, columns: 0 },
    });
  }

  /** Of a VM that is gone. Its keys went with its directory. */
  async forget(vmId: string): Promise<void> {
    this.#keys.delete(this.#hostKeyFile(vmId));
    await this.#locks.run(FILES, AbortSignal.timeout(FORGET_TIMEOUT_MS), async () => {
      const known = await readTextFile(this.#knownHostsFile, MAX_FILE_BYTES);
      if (known !== undefined) await replace(this.#knownHostsFile, withoutHost(known, vmId), known);
    });
  }

  get #knownHostsFile(): string {
    return `${this.#deps.paths.sshDir}/known_hosts`;
  }

  /** In the VM's directory, and gone with it. A copy of the VM has a directory of its own. */
  #hostKeyFile(vmId: string): string {
    return `${this.#deps.registry.files(vmId).dir}/ssh_host_ed25519_key`;
  }

  async #userKey(signal: AbortSignal): Promise<SshKey> {
    const { keyPath, paths } = this.#deps;
    return await this.#locks.run(FILES, signal, async () => {
      ensurePrivateDir(paths.sshDir);
      if (keyPath !== null) return await this.#read(keyPath, signal);
      return await this.#ownKey(`${paths.sshDir}/id_ed25519`, 'banger', signal);
    });
  }

  async #hostKey(vm: VmRecord, signal: AbortSignal): Promise<SshKey> {
    return await this.#ownKey(this.#hostKeyFile(vm.id), `${vm.name}${VM_SUFFIX}`, signal);
  }

  async #ownKey(file: string, comment: string, signal: AbortSignal): Promise<SshKey> {
    const { runner } = this.#deps;
    if ((await stampOf(file)) === 'missing') await makeSshKey(file, comment, runner, signal);
    const key = await this.#read(file, signal);
    await keepPublicFile(key, comment);
    return key;
  }

  async #read(file: string, signal: AbortSignal): Promise<SshKey> {
    const stamp = await stampOf(file);
    const known = this.#keys.get(file);
    if (known?.stamp === stamp) return known.key;
    const key = await readSshKey(file, this.#deps.runner, signal);
    this.#keys.set(file, { stamp, key });
    return key;
  }

  async #pin({ id, name }: VmRecord, { publicKey }: SshKey, signal: AbortSignal): Promise<void> {
    const { registry } = this.#deps;
    await this.#locks.run(FILES, signal, async () => {
      const known = (await readTextFile(this.#knownHostsFile, MAX_FILE_BYTES)) ?? '';
      const exists = (vmId: string): boolean => registry.find(vmId) !== undefined;
      const host = { vmId: id, name, publicKey };
      await replace(this.#knownHostsFile, withHost(known, host, exists), known);
    });
  }
}

/** @throws {BangerError} `not_found` */
function exactly(name: string, registry: VmRegistry): VmRecord {
  const found = registry.rows().find((vm) => vm.name === name);
  if (found !== undefined) return found;
  throw new BangerError('not_found', `no VM is called ${JSON.stringify(name)}`, {
    hint: `banger vm list shows all; here names are written in full: NAME${VM_SUFFIX}`,
  });
}

/** What leads to this state directory from a shell, an editor or a cron job that has another environment. */
function pinned(
  { home }: BangerPaths,
  env: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string | null>> {
  if (home !== null) return { BANGER_HOME: home };
  const directories = ['XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'XDG_CACHE_HOME', 'XDG_RUNTIME_DIR'];
  const values = directories.map((name) => {
    const value = env[name];
    return [name, value?.startsWith('/') === true ? value : null] as const;
  });
  return { BANGER_HOME: null, ...Object.fromEntries(values) };
}

/** The same as long as nobody has written the file, replaced it, or changed its mode or owner. */
async function stampOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(':');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'missing' : 'unknown';
  }
}

/** @param before what it is known to say; read when not given */
async function replace(path: string, content: string, before?: string): Promise<void> {
  const old = before ?? (await readTextFile(path, MAX_FILE_BYTES).catch(() => undefined));
  if (old !== content) await writeFileAtomic(path, content);
}
