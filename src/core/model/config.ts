/** What `banger config` tells of settings. */

/** A mistake in config.toml or the environment. */
export interface ConfigProblem {
  /** Path of the file, or name of the variable. */
  readonly where: string;
  /** From 1; null for a variable. */
  readonly line: number | null;
  readonly column: number | null;
  /** `vm_defaults.vcpu`, `file_sync[2].mode` (of lists counted from 1); null: no key is concerned. */
  readonly key: string | null;
  readonly message: string;
  /** What is allowed there, or what to do instead. */
  readonly hint: string | null;
}

/** `auto`: derived from this host. */
export type ConfigSource = 'file' | 'environment' | 'default' | 'auto';

/** A key with what holds for it. */
export interface ConfigEntry {
  /** As it is written in the file: `log_level`, `idle.pause_after`. */
  readonly key: string;
  /** As it would be written there (in JSON); null: what `note` says. */
  readonly value: unknown;
  readonly source: ConfigSource;
  /** In the file; null for other sources. */
  readonly line: number | null;
  readonly column: number | null;
  /** What holds without a value; the name of the variable. */
  readonly note: string | null;
}

export interface ConfigShown {
  readonly file: string;
  readonly exists: boolean;
  readonly entries: readonly ConfigEntry[];
  /** Equal digests: the same settings, however they are written. */
  readonly digest: string;
}

export interface ConfigChecked {
  readonly file: string;
  readonly exists: boolean;
  /** In the order of the file, then those of the environment. */
  readonly problems: readonly ConfigProblem[];
  /** Mistakes of the file beyond these: only so many are listed. */
  readonly unlisted: number;
}
