/** Translates requests into calls of services, and nothing more: what is decided is decided there. */

import type { Method, ResultOf } from '../api/contract.ts';
import { LONG_METHODS } from '../api/contract.ts';
import type { Handlers, RequestContext } from '../rpc/server-types.ts';
import type { DaemonServices } from './composition.ts';
import { daemonConfigHandlers } from './config-handlers.ts';
import type { OperationHandle } from './operations.ts';
import { daemonRefusals, stateServiceHandlers } from './state-handlers.ts';

/** Requests that only look are not registered as operations: they are done before anyone could list them. */
function asOperation<T>(
  services: DaemonServices,
  context: RequestContext,
  work: (operation: OperationHandle) => Promise<T>,
): Promise<T> {
  const { operationId, method, signal } = context;
  const progress: OperationHandle['progress'] = (value) => context.progress(value);
  if (!LONG_METHODS.has(method)) return work({ signal, progress, about: () => undefined });
  return services.operations.run({ operationId, method, signal, progress }, work);
}

export function createHandlers(services: DaemonServices): Handlers {
  const {
    vms,
    snapshots,
    snapshotRestore,
    snapshotFiles,
    forks,
    exec,
    images,
    kernels,
    workspaces,
    toolBootstrap,
    operations,
  } = services;
  const long = <M extends Method>(
    context: RequestContext,
    work: (operation: OperationHandle) => Promise<ResultOf<M>>,
  ): Promise<ResultOf<M>> => asOperation(services, context, work);
  return {
    'daemon.status': async () => services.status(),
    'daemon.stop': async () => {
      services.requestStop();
      return null;
    },
    'operation.list': async () => operations.list(),
    'operation.cancel': async ({ id }) => {
      operations.cancel(id);
      return null;
    },
    'vm.create': (params, context) =>
      long<'vm.create'>(context, async (operation) => {
        const created = await vms.create(params, operation);
        if (params.ephemeral) services.deleteOnHangup(created.vm.id, context.connection);
        return created;
      }),
    'vm.bootstrap': ({ ref }, context) =>
      long<'vm.bootstrap'>(context, (operation) => toolBootstrap.install(ref, operation)),
    'vm.start': ({ ref }, context) => long<'vm.start'>(context, (operation) => vms.start(ref, operation)),
    'vm.stop': ({ ref }, context) => long<'vm.stop'>(context, (operation) => vms.stop(ref, operation)),
    'vm.restart': ({ ref }, context) =>
      long<'vm.restart'>(context, (operation) => vms.restart(ref, operation)),
    'vm.pause': ({ ref, save }, context) =>
      long<'vm.pause'>(context, (operation) => vms.pause(ref, save, operation)),
    'vm.resume': ({ ref }, context) => long<'vm.resume'>(context, (operation) => vms.resume(ref, operation)),
    'vm.kill': ({ ref, signal }, context) =>
      long<'vm.kill'>(context, (operation) => vms.kill(ref, signal, operation)),
    'vm.fork': (params, context) =>
      long<'vm.fork'>(context, async (operation) => {
        const forked = await forks.fork(params, operation);
        if (params.ephemeral)
          for (const { id } of forked.vms) services.deleteOnHangup(id, context.connection);
        return forked;
      }),
    'vm.cp': (params, context) =>
      long<'vm.cp'>(context, (operation) => services.copies.copy(params, operation)),
    'snapshot.create': (params, context) =>
      long<'snapshot.create'>(context, (operation) => snapshots.create(params, operation)),
    'snapshot.list': ({ ref }) => snapshots.list(ref),
    'snapshot.show': ({ snapshot }) => snapshots.show(snapshot),
    'snapshot.delete': ({ snapshot }) => snapshots.delete(snapshot),
    'snapshot.restore': (params, context) =>
      long<'snapshot.restore'>(context, (operation) => snapshotRestore.restore(params, operation)),
    'snapshot.stream': async () => snapshotFiles.streams.open(),
    'snapshot.export': (params, context) =>
      long<'snapshot.export'>(context, (operation) => snapshotFiles.exports.export(params, operation)),
    'snapshot.import': (params, context) =>
      long<'snapshot.import'>(context, (operation) => snapshotFiles.imports.import(params, operation)),
    'vm.delete': ({ ref }, context) => long<'vm.delete'>(context, (operation) => vms.delete(ref, operation)),
    'vm.prune': ({ dryRun }, context) =>
      long<'vm.prune'>(context, (operation) => vms.prune(dryRun, operation)),
    'vm.list': async () => vms.list(),
    'vm.show': ({ ref }) => vms.show(ref),
    'vm.set': (params, context) => long<'vm.set'>(context, (operation) => vms.set(params, operation)),
    'vm.stats': ({ ref }) => vms.stats(ref),
    'vm.ports': ({ ref }, context) => exec.ports(ref, context.signal),
    'vm.health': ({ ref }, context) => exec.health(ref, context.signal),
    'vm.logs': async (params) => exec.logs(params),
    'vm.exec': (params, context) => exec.exec(params, context.signal),
    'vm.ssh': ({ name }, context) => services.ssh.connect(name, context.signal),
    'ssh.setup': ({ ref }, context) => services.ssh.setup(ref, context.signal),
    'workspace.plan': (params, context) => workspaces.describe(params, context.signal),
    'workspace.prepare': (params, context) =>
      long<'workspace.prepare'>(context, (operation) => services.prepare.prepare(params, operation)),
    'workspace.status': ({ ref }, context) =>
      long<'workspace.status'>(context, (operation) => services.workspaceStatus.status(ref, operation)),
    'workspace.export': (params, context) =>
      long<'workspace.export'>(context, (operation) => services.workspaceExport.export(params, operation)),
    'workspace.apply': (params, context) =>
      long<'workspace.apply'>(context, (operation) => services.workspaceExport.apply(params, operation)),
    'workspace.fetch': (params, context) =>
      long<'workspace.fetch'>(context, (operation) => services.workspaceExport.fetch(params, operation)),
    'image.list': () => images.list(),
    'image.show': ({ name }) => images.show(name),
    'image.build': ({ name, force }, context) =>
      long<'image.build'>(context, (operation) => images.build(name, force, operation)),
    'image.warm': (params, context) =>
      long<'image.warm'>(context, (operation) => services.warm.warm(params, operation)),
    'system.df': (_, { signal }) => services.disk.measure(signal),
    'kernel.list': () => kernels.list(),
    'kernel.show': ({ name }) => kernels.show(name),
    ...daemonRefusals(),
    ...daemonConfigHandlers(services.startedWith),
    ...stateServiceHandlers(
      () => services.state,
      (context, work) => asOperation(services, context, work),
    ),
  };
}
