/**
 * What a VM's machine was started as, kept beside its handles: files on the host may have been replaced by newer ones since,
 * and a snapshot of the VM depends on those it was started with.
 */

import { z } from 'zod';
import { BangerError } from '../../../core/errors.ts';
import { ACCELERATORS } from '../../../core/model/vm.ts';
import { readJsonFile, writeFileAtomic } from '../../../host/files.ts';
import type { VmFiles } from '../../vm-files.ts';

const MAX_FILE_BYTES = 256 * 1024;
const digest = z.string().regex(/^[0-9a-f]{64}$/);

const factsSchema = z.strictObject({
  /** MachineShape: vmm/shape.ts. */
  shape: z.record(z.string().max(64), z.string().max(16_384)),
  digests: z.strictObject({ kernel: digest, initramfs: digest }),
  kernelName: z.string().max(256),
  accelerator: z.enum(ACCELERATORS),
  machine: z.string().max(64),
  /** Of the image's root file system, which the VM's disk stands on. */
  rootfsSha256: digest,
});
export type StartedAs = z.infer<typeof factsSchema>;

export async function writeMachineFacts({ machineFile }: VmFiles, facts: StartedAs): Promise<void> {
  await writeFileAtomic(machineFile, `${JSON.stringify(facts)}\n`, { mode: 0o600, durable: false });
}

/** @throws {BangerError} `invalid_state`: started by an older banger; `io_error` */
export async function readMachineFacts({ machineFile }: VmFiles, vmName: string): Promise<StartedAs> {
  const json = await readJsonFile(machineFile, MAX_FILE_BYTES);
  const facts = factsSchema.safeParse(json);
  if (facts.success) return facts.data;
  throw new BangerError('invalid_state', `it is not known what VM "${vmName}" was started as`, {
    hint: `banger vm restart ${vmName}`,
    cause: facts.error,
  });
}
