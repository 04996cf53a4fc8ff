/** All commands: their words, one line each on what they do, and where they are loaded from when needed. */

import type { CommandSpec, Example } from './command.ts';

export interface Leaf {
  readonly brief: string;
  readonly load: () => Promise<{ readonly command: CommandSpec }>;
  /** Left out of help and completion. */
  readonly hidden?: true;
}

export interface Group {
  readonly brief: string;
  readonly description: string;
  readonly examples: readonly Example[];
  readonly commands: Readonly<Record<string, Leaf | Group>>;
  /** Other words for a command of this group. */
  readonly aliases?: Readonly<Record<string, string>>;
}

export function isGroup(entry: Leaf | Group): entry is Group {
  return 'commands' in entry;
}

const snapshot: Group = {
  brief: 'Keep moments of VMs, and go back to them',
  description:
    'A snapshot of a VM that runs has its programs, memory and disk; of a stopped one its disk. It is referred to by its name, ' +
    'its id, or the beginning of either. Memory can only be used with the same VMM, kernel and CPU model: "show" lists them.',
  examples: [
    { line: 'banger vm snapshot create dev --name before-upgrade', brief: 'keep this moment' },
    { line: 'banger vm snapshot restore before-upgrade --force', brief: 'go back to it' },
    { line: 'banger vm fork --snapshot before-upgrade', brief: 'or make a new VM of it' },
  ],
  commands: {
    create: { brief: 'Keep this moment of a VM', load: () => import('./commands/vm/snapshot/create.ts') },
    list: { brief: 'List snapshots', load: () => import('./commands/vm/snapshot/list.ts') },
    show: {
      brief: 'Show a snapshot and what it needs',
      load: () => import('./commands/vm/snapshot/show.ts'),
    },
    restore: {
      brief: 'Put a VM back to a snapshot',
      load: () => import('./commands/vm/snapshot/restore.ts'),
    },
    delete: { brief: 'Delete snapshots', load: () => import('./commands/vm/snapshot/delete.ts') },
    export: {
      brief: 'Write a snapshot to one file, to be carried elsewhere',
      load: () => import('./commands/vm/snapshot/export.ts'),
    },
    import: {
      brief: 'Read a snapshot that was exported',
      load: () => import('./commands/vm/snapshot/import.ts'),
    },
  },
};

const workspace: Group = {
  brief: 'Copies of git repos in VMs: bring them up to date, bring changes out',
  description:
    'A VM has at most one copy of a git repo of this host ("vm run PATH" makes one, too). Nothing that happens in the copy reaches ' +
    'the repo by itself, nor the other way round.',
  examples: [
    {
      line: 'banger vm workspace prepare dev .',
      brief: 'copy this repo into a running VM, or bring the copy up to date',
    },
    { line: 'banger vm workspace status dev', brief: 'what was changed since, and where' },
    { line: 'banger vm workspace export dev --apply', brief: 'merge that onto the files here' },
  ],
  commands: {
    prepare: {
      brief: 'Copy a repo into a running VM, or bring the copy up to date',
      load: () => import('./commands/vm/workspace/prepare.ts'),
    },
    status: {
      brief: 'Show what was changed since, here, in the VM and on both sides',
      load: () => import('./commands/vm/workspace/status.ts'),
    },
    export: {
      brief: "Bring a copy's changes out: as a patch, merged, or as a branch",
      load: () => import('./commands/vm/workspace/export.ts'),
    },
  },
};

const vm: Group = {
  brief: 'Create, use and remove VMs',
  description:
    'A VM is referred to by its name, its id, or the beginning of either when that fits one VM only. ' +
    'Commands that take several VMs work on them at once, report in the order given, and exit 1 if any failed; ' +
    'with --json they print an array of {ref, ok, result} or {ref, ok, error}.',
  examples: [
    {
      line: 'banger vm run --rm . -- make test',
      brief: "run this repo's tests in a VM that is deleted afterwards",
    },
    { line: 'banger vm create --name dev --memory 4G', brief: 'a VM that stays' },
    { line: 'banger vm exec dev', brief: 'a shell in it' },
  ],
  commands: {
    run: {
      brief: 'Create a VM and run a shell or a command in it',
      load: () => import('./commands/vm/run.ts'),
    },
    create: { brief: 'Create a VM and start it', load: () => import('./commands/vm/create.ts') },
    exec: { brief: 'Run a command or a shell in a running VM', load: () => import('./commands/vm/exec.ts') },
    ssh: { brief: 'Log in to a running VM with ssh', load: () => import('./commands/vm/ssh.ts') },
    'ssh-proxy': {
      brief: "Connect an ssh client's stdin and stdout to a VM",
      load: () => import('./commands/vm/ssh-proxy.ts'),
      hidden: true,
    },
    cp: { brief: 'Copy files into a VM or out of it', load: () => import('./commands/vm/cp.ts') },
    list: { brief: 'List VMs', load: () => import('./commands/vm/list.ts') },
    show: { brief: 'Show everything known about a VM', load: () => import('./commands/vm/show.ts') },
    bootstrap: {
      brief: 'Install the tools that the repo in a VM asks for',
      load: () => import('./commands/vm/bootstrap.ts'),
    },
    start: { brief: 'Start VMs that are stopped, or saved', load: () => import('./commands/vm/start.ts') },
    stop: {
      brief: 'Stop VMs, writing their data to disk first',
      load: () => import('./commands/vm/stop.ts'),
    },
    restart: { brief: 'Stop VMs and start them again', load: () => import('./commands/vm/restart.ts') },
    pause: {
      brief: 'Let VMs stand still, in memory or on disk',
      load: () => import('./commands/vm/pause.ts'),
    },
    resume: { brief: 'Let paused and saved VMs go on', load: () => import('./commands/vm/resume.ts') },
    fork: { brief: 'Copy a running VM, programs and all', load: () => import('./commands/vm/fork.ts') },
    snapshot,
    workspace,
    kill: { brief: 'End VMs at once, without asking the guest', load: () => import('./commands/vm/kill.ts') },
    delete: { brief: 'Delete VMs and their disks', load: () => import('./commands/vm/delete.ts') },
    prune: {
      brief: 'Delete all VMs that are stopped, in error or never started',
      load: () => import('./commands/vm/prune.ts'),
    },
    set: { brief: 'Change the size or network of stopped VMs', load: () => import('./commands/vm/set.ts') },
    logs: { brief: "Print a VM's console", load: () => import('./commands/vm/logs.ts') },
    stats: { brief: 'Show what a VM uses on the host', load: () => import('./commands/vm/stats.ts') },
    ports: {
      brief: 'List the ports programs in VMs listen on',
      load: () => import('./commands/vm/ports.ts'),
    },
    health: { brief: "Ask a VM's agent how the guest is", load: () => import('./commands/vm/health.ts') },
  },
  aliases: { ps: 'list', ping: 'health' },
};

const image: Group = {
  brief: 'Build and inspect images',
  description:
    'An image is a root file system and the kernel it boots with. VMs share it and never change it.',
  examples: [
    { line: 'banger image list', brief: 'what is there' },
    { line: 'banger image build debian-bookworm --force', brief: 'build the default image anew' },
  ],
  commands: {
    list: { brief: 'List images', load: () => import('./commands/image/list.ts') },
    show: { brief: 'Show an image', load: () => import('./commands/image/show.ts') },
    build: { brief: 'Build an image from Debian packages', load: () => import('./commands/image/build.ts') },
    warm: {
      brief: 'Make the template that new VMs of an image start from',
      load: () => import('./commands/image/warm.ts'),
    },
  },
};

const kernel: Group = {
  brief: 'Inspect kernels',
  description: 'A kernel comes with the image that needs it and is kept by name.',
  examples: [{ line: 'banger kernel list', brief: 'what is there' }],
  commands: {
    list: { brief: 'List kernels', load: () => import('./commands/kernel/list.ts') },
    show: { brief: 'Show a kernel', load: () => import('./commands/kernel/show.ts') },
  },
};

const daemon: Group = {
  brief: 'The background program that owns the VMs',
  description:
    'Commands start the daemon when they need it. VMs outlive it: stopping or restarting it leaves them running.',
  examples: [
    { line: 'banger daemon status', brief: 'is it running, and where does it keep things' },
    { line: 'banger daemon logs -f', brief: 'follow its log' },
  ],
  commands: {
    status: { brief: 'Show whether the daemon runs', load: () => import('./commands/daemon/status.ts') },
    start: { brief: 'Start the daemon', load: () => import('./commands/daemon/start.ts') },
    stop: { brief: 'Stop the daemon; VMs keep running', load: () => import('./commands/daemon/stop.ts') },
    logs: { brief: "Print the daemon's log", load: () => import('./commands/daemon/logs.ts') },
  },
};

const operation: Group = {
  brief: 'Long operations in progress',
  description:
    'Creating, starting, stopping and building are operations. Their ids also stand in errors and in the log.',
  examples: [
    { line: 'banger operation list', brief: 'what is going on' },
    { line: 'banger operation cancel 3f2a9c01d4e5', brief: 'give one up; what it did is undone' },
  ],
  commands: {
    list: { brief: 'List operations in progress', load: () => import('./commands/operation/list.ts') },
    cancel: { brief: 'Cancel operations', load: () => import('./commands/operation/cancel.ts') },
  },
};

const state: Group = {
  brief: 'Snapshots of the state: which VMs and images there are',
  description:
    'The state is the database that says which VMs and images there are; disks and images lie beside it and are not in a ' +
    'snapshot. A snapshot is named by its digest: the same state has the same one. SNAPSHOT is a digest (sha256:… or the ' +
    'first 6 digits of its hex or more), a ref ("latest", a name given with --ref), or a path. Nothing here needs a daemon or starts one.',
  examples: [
    { line: 'banger state export', brief: 'keep a snapshot of the state as it is now' },
    { line: 'banger state diff latest', brief: 'what has changed since' },
    { line: 'banger state verify latest', brief: 'could it be restored' },
    { line: 'banger state bootstrap latest --force', brief: 'put it in the place of the state there is' },
  ],
  commands: {
    export: { brief: 'Take a snapshot of the state', load: () => import('./commands/state/export.ts') },
    verify: {
      brief: 'Check a snapshot, or the database itself',
      load: () => import('./commands/state/verify.ts'),
    },
    bootstrap: {
      brief: 'Restore the state from a snapshot',
      load: () => import('./commands/state/bootstrap.ts'),
    },
    list: { brief: 'List snapshots', load: () => import('./commands/state/list.ts') },
    prune: { brief: 'Delete old snapshots', load: () => import('./commands/state/prune.ts') },
    push: { brief: 'Copy a snapshot to an OCI registry', load: () => import('./commands/state/push.ts') },
    pull: { brief: 'Get a snapshot from an OCI registry', load: () => import('./commands/state/pull.ts') },
    diff: { brief: 'Show how two states differ', load: () => import('./commands/state/diff.ts') },
    rebuild: {
      brief: 'Find lost VMs and images by their directories',
      load: () => import('./commands/state/rebuild.ts'),
    },
  },
};

const config: Group = {
  brief: 'The settings in config.toml',
  description:
    'The file is optional, and so is each of its keys. It is read when the daemon starts. Nothing here needs a daemon or starts one.',
  examples: [
    { line: 'banger config show', brief: 'every setting, and where it comes from' },
    { line: 'banger config check', brief: 'all mistakes in the file' },
  ],
  commands: {
    show: { brief: 'Show every setting and its source', load: () => import('./commands/config/show.ts') },
    check: { brief: 'List all mistakes in the file', load: () => import('./commands/config/check.ts') },
    path: { brief: 'Print where the file is', load: () => import('./commands/config/path.ts') },
    schema: {
      brief: 'Print a JSON Schema of the file, for editors',
      load: () => import('./commands/config/schema.ts'),
    },
  },
};

const system: Group = {
  brief: 'What banger takes on this host',
  description: 'Looks at the state and cache directories as a whole.',
  examples: [{ line: 'banger system df', brief: 'what takes how much disk, and what gives it back' }],
  commands: {
    df: { brief: 'Show what takes how much disk', load: () => import('./commands/system/df.ts') },
  },
};

export const root: Group = {
  brief: 'One-command development sandboxes on microVMs',
  description:
    'A VM boots in seconds with its own kernel, needs neither root nor a working KVM, and reaches the network only when asked to. ' +
    'Exit status: 0 done; 1 failed; 2 wrong usage; 130 cancelled; "vm run -- COMMAND" and "vm exec" exit with the status of the ' +
    'command (128+n after signal n), 127 when it does not exist, 126 when it cannot be run, 125 when banger itself failed.\n' +
    'With --json, results are JSON on stdout and errors are JSON on stderr.',
  examples: [
    { line: 'banger vm run', brief: 'a root shell in a fresh VM' },
    { line: 'banger vm run .', brief: 'the same, with a copy of this git repo in /root/repo' },
    { line: 'banger vm run --rm . -- make test', brief: 'one command, its exit status, and nothing left' },
    { line: 'banger vm run --name dev -d', brief: 'a VM in the background' },
    { line: 'banger vm exec dev -- uname -a', brief: 'a command in it' },
    { line: 'banger ps', brief: 'the VMs there are' },
    { line: 'banger vm delete dev', brief: 'remove it' },
  ],
  commands: {
    vm,
    image,
    kernel,
    operation,
    daemon,
    state,
    config,
    system,
    'ssh-config': {
      brief: 'Make ssh, scp, rsync, git and editors reach VMs as NAME.vm',
      load: () => import('./commands/ssh-config.ts'),
    },
    doctor: {
      brief: 'Check the host, the installation and the state',
      load: () => import('./commands/doctor.ts'),
    },
    ps: { brief: 'List VMs (short for vm list)', load: () => import('./commands/vm/list.ts') },
    version: { brief: 'Print version, commit and build time', load: () => import('./commands/version.ts') },
    completion: {
      brief: 'Print a completion script for a shell',
      load: () => import('./commands/completion.ts'),
    },
    '__git-remote': {
      brief: 'Connect git to a repository in a VM',
      load: () => import('./commands/git-remote.ts'),
      hidden: true,
    },
    __complete: {
      brief: 'Print completions of a command line',
      load: () => import('./commands/complete.ts'),
      hidden: true,
    },
  },
};
