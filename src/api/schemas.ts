/**
 * What a client may send: one schema per method. The daemon validates with these; the client takes only their types
 * (`import type`), so that it never loads the validator.
 */

import { z } from 'zod';
import { SNAPSHOT_ENCODINGS } from '../core/model/snapshot.ts';
import { ACCELERATORS, GUEST_INITS } from '../core/model/vm.ts';
import { WORKSPACE_MODES } from '../core/model/workspace.ts';

/** Caps that hold for every request, whoever sends it. Policy limits (what this host can give) are the daemon's. */
export const LIMITS = {
  argvItems: 4096,
  argBytes: 128 * 1024,
  envItems: 1024,
  pathBytes: 4096,
  vcpus: 64,
  memoryMib: 1024 * 1024,
  diskSizeBytes: 128 * 1024 ** 3,
  publishedPorts: 1024,
} as const;

const ref = z.string().min(1).max(64);
const path = z.string().min(1).max(LIMITS.pathBytes);
/** Copies that one `vm fork` makes at most. */
const MAX_FORKS = 64;
/** Shape only: whether it is a DNS label or a known image is answered with a better message further in. */
const name = z.string().max(LIMITS.pathBytes);
const gitRef = z.string().min(1).max(255);

const gitSource = {
  branch: gitRef.optional(),
  from: gitRef.optional(),
};
/** Where in the guest and how; checked, and refused with a better message, by the daemon. */
const placement = {
  guestPath: path.optional(),
  readOnly: z.boolean().optional(),
  mode: z.enum(WORKSPACE_MODES).optional(),
};

const workspaceSource = z.strictObject({
  path,
  ...gitSource,
  includeUntracked: z.boolean().default(false),
  ...placement,
});

/** Checked, and refused with a better message, by the daemon. */
const publishedPort = z.strictObject({
  hostAddress: z.string().max(LIMITS.pathBytes),
  hostPort: z.number(),
  guestPort: z.number(),
});

/** Numbers are checked against policy by the daemon, which can say which limit and why. */
const sizing = {
  vcpus: z.number().optional(),
  memoryMib: z.number().optional(),
  diskSizeBytes: z.number().optional(),
  nat: z.boolean().optional(),
};

const accel = z.enum([...ACCELERATORS, 'auto']);

/** A digest (`sha256:<64 hex>` or the beginning of the hex), a ref (`latest`), or an absolute path of an exported file. */
const snapshotSource = path;
/** As `snapshot.stream` answered. */
const ticket = z.string().max(128);
const refName = z.string().max(128);

const none = z.strictObject({});
const oneVm = z.strictObject({ ref });

export const paramsSchemas = {
  'daemon.hello': z.strictObject({ version: z.string().max(128), pid: z.number().int() }),
  'daemon.status': none,
  'daemon.stop': none,
  'operation.list': none,
  'operation.cancel': z.strictObject({ id: z.string().max(64) }),

  'vm.create': z.strictObject({
    name: name.optional(),
    image: name.optional(),
    ...sizing,
    init: z.enum(GUEST_INITS).optional(),
    accel: accel.optional(),
    /** Boot it even where a template could be restored. */
    cold: z.boolean().default(false),
    /** Boot it too. */
    start: z.boolean().default(true),
    /** Deleted when this client's connection ends. */
    ephemeral: z.boolean().default(false),
    workspace: workspaceSource.optional(),
    /** Tools its repository requires are to be installed: refused now if that cannot be. `vm.bootstrap` does it. */
    bootstrap: z.boolean().default(false),
    publish: z.array(publishedPort).max(LIMITS.publishedPorts).default([]),
  }),
  'vm.bootstrap': oneVm,
  'vm.start': oneVm,
  'vm.stop': oneVm,
  'vm.restart': oneVm,
  'vm.pause': z.strictObject({
    ref,
    /** Memory to disk, and no process any more. */
    save: z.boolean().default(false),
  }),
  'vm.resume': oneVm,
  'vm.fork': z.strictObject({
    ref: ref.optional(),
    /** Id or name of a snapshot, instead of a VM. */
    snapshot: ref.optional(),
    count: z.number().int().min(1).max(MAX_FORKS).default(1),
    /** With a count above one: NAME-1, NAME-2 … Default: the source's name, with the next free numbers. */
    name: name.optional(),
    /** With a snapshot: leave its memory alone, and boot the copies. */
    diskOnly: z.boolean().default(false),
    ephemeral: z.boolean().default(false),
  }),
  'vm.cp': z.strictObject({
    ref,
    to: z.enum(['guest', 'host']),
    /** Below /root unless it is absolute. With `DIR/.` what is in the directory. */
    guestPath: z.string().max(LIMITS.pathBytes),
    /** Absolute. This or `stream`. */
    hostPath: path.optional(),
    /** The bytes of one file, on a stream of `snapshot.stream`. */
    stream: ticket.optional(),
    /** What the source leads to, where it is a symbolic link. */
    follow: z.boolean().default(false),
  }),
  'snapshot.create': z.strictObject({
    ref,
    name: name.optional(),
    /** Without memory: what is made of it boots. */
    diskOnly: z.boolean().default(false),
  }),
  'snapshot.list': z.strictObject({ ref: ref.optional() }),
  'snapshot.show': z.strictObject({ snapshot: ref }),
  'snapshot.delete': z.strictObject({ snapshot: ref }),
  'snapshot.restore': z.strictObject({
    snapshot: ref,
    /** Also when the VM runs: what it has in memory and on disk now is lost. */
    force: z.boolean().default(false),
    /** Leave the snapshot's memory alone: the VM is stopped afterwards. */
    diskOnly: z.boolean().default(false),
  }),
  /** For the bytes of an export or import: the request that carries them names the ticket. */
  'snapshot.stream': none,
  /** To a file (absolute path) or to a stream. */
  'snapshot.export': z.strictObject({
    snapshot: ref,
    output: path.optional(),
    stream: ticket.optional(),
    /** Also when there is a file of that name. */
    force: z.boolean().default(false),
  }),
  /** From a file (absolute path) or from a stream. */
  'snapshot.import': z.strictObject({
    input: path.optional(),
    stream: ticket.optional(),
    name: name.optional(),
    /** Whoever made it is trusted with QEMU: only for memory. */
    trust: z.boolean().default(false),
    /** VMs made of it may open connections. */
    nat: z.boolean().default(false),
  }),
  'vm.kill': z.strictObject({ ref, signal: z.string().max(16).default('KILL') }),
  'vm.delete': oneVm,
  'vm.prune': z.strictObject({ dryRun: z.boolean().default(false) }),
  'vm.list': none,
  'vm.show': oneVm,
  'vm.set': z.strictObject({ ref, ...sizing }),
  'vm.stats': oneVm,
  'vm.ports': oneVm,
  'vm.health': oneVm,
  'vm.logs': z.strictObject({
    ref,
    follow: z.boolean().default(false),
    /** Only the last lines; everything when absent. */
    tailLines: z.number().int().min(0).max(1_000_000).optional(),
    source: z.enum(['console', 'vmm']).default('console'),
  }),
  'vm.exec': z.strictObject({
    ref,
    /** Empty: the user's login shell. */
    argv: z.array(z.string().max(LIMITS.argBytes)).max(LIMITS.argvItems),
    env: z.record(z.string().max(256), z.string().max(LIMITS.argBytes)).default({}),
    cwd: z.string().max(LIMITS.pathBytes).optional(),
    user: z.string().max(128).optional(),
    tty: z.boolean().default(false),
    stdin: z.boolean().default(true),
    rows: z.number().int().min(0).max(65535).default(0),
    columns: z.number().int().min(0).max(65535).default(0),
    /** Whether the host's repository has gone on since the VM's copy of it was made. */
    compareWorkspace: z.boolean().default(false),
  }),
  /** One connection to the ssh server of the VM of exactly this name. */
  'vm.ssh': z.strictObject({ name: ref }),
  /** With a VM: also whether it can be connected to. */
  'ssh.setup': z.strictObject({ ref: ref.optional() }),
  /** What `vm run PATH` would ship; creates nothing. */
  'workspace.plan': workspaceSource,
  /** Copies a repository into a running VM, or brings the copy there up to date. What is left out is as it was the last time. */
  'workspace.prepare': z.strictObject({
    ref,
    path: path.optional(),
    ...gitSource,
    includeUntracked: z.boolean().optional(),
    ...placement,
    /** Also where the guest has changed what is to be written: its changes are lost. */
    force: z.boolean().default(false),
    /** Only says what it would do. */
    dryRun: z.boolean().default(false),
    /**
     * A file (absolute path) for what the guest has changed, as `workspace.export` writes it: then that may be overwritten. It is on the
     * disk before. One that exists is replaced only with `force`. Without changes none is written.
     */
    savePatch: path.optional(),
    /** Permission bits of that file. */
    patchMode: z.number().int().min(0).max(0o777).default(0o600),
  }),
  'workspace.status': oneVm,
  /** To a file (absolute path), to a stream, or nowhere: then only the numbers are told. */
  'workspace.export': z.strictObject({
    ref,
    output: path.optional(),
    /** Permission bits of the file. */
    mode: z.number().int().min(0).max(0o777).default(0o600),
    stream: ticket.optional(),
    force: z.boolean().default(false),
    /** A commit, as the guest's git knows it. Default: the one that the copy was made from. */
    base: gitRef.optional(),
    /** From the files as they were shipped. Excludes `base`. */
    sincePrepare: z.boolean().default(false),
  }),
  'workspace.apply': z.strictObject({
    ref,
    /** In the repository to change. Default: the one that the copy was made from. */
    dir: path.optional(),
    /** Permission bits that new files do not get. */
    umask: z.number().int().min(0).max(0o777).default(0o077),
    /** Write files with conflicts, too, with markers in them. */
    conflictMarkers: z.boolean().default(false),
    dryRun: z.boolean().default(false),
  }),
  'workspace.fetch': z.strictObject({
    ref,
    dir: path.optional(),
    branch: gitRef,
    umask: z.number().int().min(0).max(0o777).default(0o077),
    /** Also when the branch loses commits by it. */
    force: z.boolean().default(false),
  }),

  'image.list': none,
  'image.show': z.strictObject({ name }),
  'image.build': z.strictObject({ name, force: z.boolean().default(false) }),
  'image.warm': z.strictObject({
    name: name.optional(),
    vcpus: sizing.vcpus,
    memoryMib: sizing.memoryMib,
    accel: accel.optional(),
  }),
  'kernel.list': none,
  'kernel.show': z.strictObject({ name }),

  'system.df': none,
  'config.show': none,
  'config.check': z.strictObject({
    /** Absolute; default: the file the daemon reads, and what the environment says. */
    path: path.optional(),
  }),
  'config.schema': none,
  'doctor.run': z.strictObject({
    /** Also digests of images and kernels, and a probe boot. */
    deep: z.boolean().default(false),
  }),
  'doctor.fix': z.strictObject({
    /** Only says what it would do. */
    dryRun: z.boolean().default(false),
  }),
  'state.export': z.strictObject({
    /** Absolute path: the snapshot is written there and to `<path>.manifest.json`, too. */
    output: path.optional(),
    encoding: z.enum(SNAPSHOT_ENCODINGS).default('identity'),
    ref: refName.optional(),
  }),
  /** Without a source: the state database itself. */
  'state.verify': z.strictObject({ source: snapshotSource.optional() }),
  'state.bootstrap': z.strictObject({
    source: snapshotSource,
    force: z.boolean().default(false),
    /** `FROM:TO`, migration or control version as the refusal names them: consent to go back. */
    allowRollback: z.array(z.string().max(64)).max(2).default([]),
    /** The digest the restored snapshot must have. */
    digest: z.string().max(128).optional(),
  }),
  'state.list': none,
  'state.prune': z.strictObject({
    keep: z.number().int().min(1).max(100_000).default(10),
    dryRun: z.boolean().default(false),
  }),
  /** `repository`: REGISTRY/NAME. */
  'state.push': z.strictObject({
    source: snapshotSource,
    repository: z.string().min(1).max(512),
    tag: z.string().max(128).optional(),
  }),
  /** One of the two: a digest of the artifact, or a tag. */
  'state.pull': z.strictObject({
    repository: z.string().min(1).max(512),
    digest: z.string().max(128).optional(),
    tag: z.string().max(128).optional(),
    ref: refName.optional(),
  }),
  /** Without `to`: against the state database as it is now. */
  'state.diff': z.strictObject({ from: snapshotSource, to: snapshotSource.optional() }),
  'state.rebuild': z.strictObject({ dryRun: z.boolean().default(false) }),
} as const;
