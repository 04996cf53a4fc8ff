/** Results of the methods about images, their templates, and kernels. */

import type { ImageManifest, KernelManifest } from '../../core/model/image.ts';
import type { Accelerator } from '../../core/model/vm.ts';

/** A frozen, booted guest that VMs of one shape start from. */
export interface TemplateView {
  /** The first 12 hex digits. */
  readonly key: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly accelerator: Accelerator;
  readonly machine: string;
  /** Blocks on the disk. */
  readonly allocatedBytes: number;
  readonly createdAt: string;
  /** When a VM was last started from it; when it was made, if none was. */
  readonly usedAt: string;
}

export interface ImageWarmed {
  readonly image: string;
  /** It was there already. */
  readonly existed: boolean;
  readonly template: TemplateView;
  readonly elapsedMs: number;
}

export interface ImageView extends ImageManifest {
  /** Last used first. */
  readonly templates: readonly TemplateView[];
  readonly id: string;
  readonly artifactDir: string;
  readonly createdAt: string;
  readonly usedBy: readonly string[];
}

/** An image whose files cannot be used: its row is there all the same, and VMs may stand on it. */
export interface BrokenImageView {
  readonly name: string;
  readonly id: string;
  readonly artifactDir: string;
  readonly createdAt: string;
  readonly usedBy: readonly string[];
  /** What is wrong, and what to run. */
  readonly problem: string;
}

export type ImageEntry = (ImageView & { readonly problem: null }) | BrokenImageView;

/** A kernel, with where it lies. */
export interface KernelView extends KernelManifest {
  readonly dir: string;
  readonly usedBy: readonly string[];
}

/** A kernel's directory whose manifest cannot be read. */
export interface BrokenKernelView {
  readonly name: string;
  readonly dir: string;
  readonly usedBy: readonly string[];
  readonly problem: string;
}

export type KernelEntry = (KernelView & { readonly problem: null }) | BrokenKernelView;
