import { BangerError } from '../../../core/errors.ts';
import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { sizingFlags, sizingParams } from '../../creation-flags.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatSpec } from '../../output/vm-table.ts';

export const command = defineCommand({
  description:
    'The VMs must be stopped first: changes take effect at the next start. A disk can grow, not shrink.',
  examples: [
    { line: 'banger vm stop dev', brief: 'first' },
    { line: 'banger vm set dev --vcpu 4 --memory 4G', brief: 'more of both' },
    { line: 'banger vm set dev web --no-nat', brief: 'no network for two VMs' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: {
    ...sizingFlags,
    nat: toggle('Let the VM reach the network'),
    'no-nat': toggle('Keep the VM off the network'),
    json: jsonFlag,
  },
  run(context, flags, refs) {
    if (flags.nat && flags['no-nat']) throw new BangerError('usage', '--nat and --no-nat exclude each other');
    const changes = {
      ...sizingParams(flags),
      ...((flags.nat || flags['no-nat']) && { nat: flags.nat }),
    };
    if (Object.keys(changes).length === 0) {
      throw new BangerError(
        'usage',
        'nothing to change: give --vcpu, --memory, --disk-size, --nat or --no-nat',
      );
    }
    return actOnMany(context, {
      verb: 'changing',
      refs,
      json: flags.json,
      act: (client, ref, { signal }) => client.call('vm.set', { ref, ...changes }, { signal }),
      print: (vms) =>
        vms.map((vm) => `${vm.name}: ${formatSpec(vm.spec)}${vm.spec.nat ? ' | nat' : ''}\n`).join(''),
    });
  },
});
