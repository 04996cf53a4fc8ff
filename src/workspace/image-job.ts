/** What the worker that writes the image is told, and what it answers. */

import type { ErrorCode } from '../core/errors.ts';
import type { GitFile } from './guest-git.ts';
import type { IndexEntry } from './index-entries.ts';
import type { ObjectFormat } from './repo.ts';

export interface ImageJob {
  readonly imagePath: string;
  readonly rootPath: string;
  readonly entries: readonly IndexEntry[];
  readonly untracked: readonly string[];
  readonly indexSeconds: number;
  readonly objectFormat: ObjectFormat;
  /** One Int32: not zero once the work is to be given up. */
  readonly cancelled: SharedArrayBuffer;
}

/** Sent once the files for `.git` are there. */
export interface GitFilesReady {
  readonly gitFiles: readonly GitFile[];
}

export type ImageAnswer =
  | { readonly kind: 'progress'; readonly files: number }
  | { readonly kind: 'done'; readonly sizeBytes: number; readonly files: number; readonly bytes: number }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string; readonly hint?: string };
