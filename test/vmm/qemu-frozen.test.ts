/** Frozen machines with QEMU: the contract, and what only its own behaviour decides. */

import type { Platform } from '../../src/vmm/driver.ts';
import { EMULATED, newDriver } from './fixture.ts';
import { frozenMachineContract } from './frozen-machine.ts';

const [MICROVM] = EMULATED as readonly [Platform, Platform];

frozenMachineContract(newDriver(), MICROVM);
