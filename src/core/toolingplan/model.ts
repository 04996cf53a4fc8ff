/** What a repository says about the tools it wants. */

/** A tool that a file of the repository asks for. */
export interface ToolRequest {
  /** As mise calls it: `node`, `python`, `npm:prettier`. */
  readonly tool: string;
  /** As mise takes it: `20`, `3.12.1`, `lts`. */
  readonly version: string;
  /** As it stands in the file. */
  readonly asked: string;
  /** At the top of the repository. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

/** Something in such a file that was passed over. */
export interface ToolProblem {
  readonly file: string;
  readonly line: number;
  readonly what: string;
}

export interface ToolingPlan {
  /** Asked for in mise's or asdf's own files, which say that the repository is worked on with them. */
  readonly required: boolean;
  /** One per tool, the request that counts, in the order of TOOL_FILES. */
  readonly tools: readonly ToolRequest[];
  /** Settings of mise in the repository: it reads them only when they are trusted. */
  readonly miseConfigs: readonly string[];
  /** Requests for one tool that cannot all be met; the first is the one that counts. */
  readonly conflicts: readonly (readonly ToolRequest[])[];
  readonly problems: readonly ToolProblem[];
}

/** One file's content, to be read as its name says. */
export interface ToolFile {
  readonly file: string;
  /** Null: there is more of it than MAX_TOOL_FILE_BYTES. */
  readonly text: string | null;
}

/** What a reader finds in one file. */
export interface Reading {
  readonly requests: readonly Omit<ToolRequest, 'file'>[];
  readonly problems: readonly Omit<ToolProblem, 'file'>[];
  /** Not in the format its name says: nobody can read it. */
  readonly unreadable?: true;
}

/** Files whose requests make a bootstrap necessary. */
export const MISE_FILES: readonly string[] = ['mise.toml', '.mise.toml', '.tool-versions'];

/** All files that are read; of two that ask for the same tool the earlier one counts. */
export const TOOL_FILES: readonly string[] = [
  ...MISE_FILES,
  '.node-version',
  '.nvmrc',
  '.python-version',
  'rust-toolchain.toml',
  'rust-toolchain',
  'go.mod',
  'package.json',
];

/** Of one file. They are written by hand and small. */
export const MAX_TOOL_FILE_BYTES = 64 * 1024;
/** Of all files together. */
export const MAX_TOOLS = 32;
export const MAX_PROBLEMS = 16;

/** Both become arguments of a program and text on a terminal: nothing that is an option, and nothing that is not seen. */
const TOOL_NAME = /^[A-Za-z0-9][A-Za-z0-9._:@/+[\]=,-]{0,99}$/;
const VERSION = /^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,63}$/;

export function isToolName(text: string): boolean {
  return TOOL_NAME.test(text);
}

export function isVersion(text: string): boolean {
  return VERSION.test(text);
}
