/** Puts together what the files of a repository say about its tools. Pure: whoever calls it has read the files. */

import {
  MAX_PROBLEMS,
  MAX_TOOL_FILE_BYTES,
  MAX_TOOLS,
  MISE_FILES,
  type Reading,
  TOOL_FILES,
  type ToolFile,
  type ToolingPlan,
  type ToolProblem,
  type ToolRequest,
} from './model.ts';
import { mayFitRange } from './node-range.ts';
import {
  readGoMod,
  readMiseToml,
  readNodeVersion,
  readPackageJson,
  readPythonVersion,
  readRustToolchain,
  readToolVersions,
} from './readers.ts';

const READERS: Readonly<Record<string, (text: string) => Reading>> = {
  'mise.toml': readMiseToml,
  '.mise.toml': readMiseToml,
  '.tool-versions': readToolVersions,
  '.node-version': readNodeVersion,
  '.nvmrc': readNodeVersion,
  '.python-version': readPythonVersion,
  'rust-toolchain.toml': readRustToolchain,
  'rust-toolchain': readRustToolchain,
  'go.mod': readGoMod,
  'package.json': readPackageJson,
};

export const NO_TOOLS: ToolingPlan = {
  required: false,
  tools: [],
  miseConfigs: [],
  conflicts: [],
  problems: [],
};

/** @param files what is there of TOOL_FILES, in any order; others are ignored */
export function planTools(files: readonly ToolFile[]): ToolingPlan {
  const requests: ToolRequest[] = [];
  const problems: ToolProblem[] = [];
  const miseConfigs: string[] = [];
  let required = false;
  for (const file of TOOL_FILES) {
    const text = files.find((one) => one.file === file)?.text;
    const read = READERS[file];
    if (text === undefined || read === undefined) continue;
    if (MISE_FILES.includes(file) && file.endsWith('.toml')) miseConfigs.push(file);
    if (text === null || text.length > MAX_TOOL_FILE_BYTES) {
      problems.push({ file, line: 1, what: `larger than ${MAX_TOOL_FILE_BYTES} bytes` });
      continue;
    }
    const reading = read(text);
    // What is passed over here may still be something to mise, which reads its own files.
    const asks = reading.requests.length + reading.problems.length > 0 && reading.unreadable !== true;
    if (MISE_FILES.includes(file) && asks) required = true;
    requests.push(...reading.requests.map((request) => ({ ...request, file })));
    problems.push(...reading.problems.map((problem) => ({ ...problem, file })));
  }
  const byTool = Map.groupBy(requests, ({ tool }) => tool);
  return {
    required,
    tools: [...byTool.values()].flatMap(([first]) => first ?? []).slice(0, MAX_TOOLS),
    miseConfigs,
    conflicts: [...byTool.values()].filter(isConflict).slice(0, MAX_TOOLS),
    problems: problems.slice(0, MAX_PROBLEMS),
  };
}

/** Within one file the first one counts without a word: asdf's and mise's files may list several. */
function isConflict([first, ...others]: readonly ToolRequest[]): boolean {
  return first !== undefined && others.some((other) => other.file !== first.file && !agree(first, other));
}

function agree(a: ToolRequest, b: ToolRequest): boolean {
  if (isRange(b)) return mayFitRange(b.asked, a.version);
  if (!/^\d/.test(a.version) || !/^\d/.test(b.version)) return true;
  return `${a.version}.`.startsWith(`${b.version}.`) || `${b.version}.`.startsWith(`${a.version}.`);
}

/** `engines` is what is read of package.json last; what it pins besides says the same as what was asked. */
function isRange({ file, tool, asked, version }: ToolRequest): boolean {
  return file === 'package.json' && tool === 'node' && asked !== version;
}

/** Those that mise does not find in files of its own: `node@20`. */
export function extraTools(plan: ToolingPlan): readonly string[] {
  return plan.tools
    .filter(({ file }) => !MISE_FILES.includes(file))
    .map(({ tool, version }) => `${tool}@${version}`);
}

/** For people: "node 20 (.nvmrc:1), go 1.22 (go.mod:3)". */
export function describeTools(tools: readonly ToolRequest[]): string {
  return tools.map(({ tool, version, file, line }) => `${tool} ${version} (${file}:${line})`).join(', ');
}
