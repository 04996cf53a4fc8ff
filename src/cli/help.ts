/** Help pages: one layout for commands and groups, made from the declarations alone. */

import type { CommandSpec, Example } from './command.ts';
import type { FlagSpec } from './flags.ts';

/** What stricli hands to a formatter, as far as it is used here. */
export interface HelpStyle {
  readonly ansiColor: boolean;
  readonly aliases?: readonly string[];
}

const TEXT_WIDTH = 96;
const HELP_ROW: readonly [string, string] = ['-h, --help', 'Print this help and exit'];

export function commandHelp(
  prefix: readonly string[],
  brief: string,
  spec: CommandSpec,
  style: HelpStyle,
): string {
  const name = prefix.join(' ');
  const others = (style.aliases ?? []).map((alias) => [...prefix.slice(0, -1), alias].join(' '));
  return sections(style, [
    [undefined, wrap(`${brief}.`)],
    ['USAGE', [`${name}${usageTail(spec)}`]],
    [undefined, wrap(spec.description)],
    ['ALSO', others],
    ['ARGUMENTS', columns(argumentRows(spec))],
    ['FLAGS', columns([...flagRows(spec), HELP_ROW])],
    ['EXAMPLES', exampleLines(spec.examples)],
  ]);
}

/** `lines` are the rows of the command list: the words after `banger`, and what it does. */
export function groupHelp(
  prefix: readonly string[],
  brief: string,
  description: string,
  commands: readonly (readonly [words: string, brief: string])[],
  examples: readonly Example[],
  style: HelpStyle,
  flags: readonly (readonly [string, string])[] = [],
): string {
  return sections(style, [
    [undefined, wrap(`${brief}.`)],
    ['USAGE', [`${prefix.join(' ')} COMMAND [ARGUMENT...] [FLAG...]`]],
    [undefined, wrap(description)],
    ['COMMANDS', columns(commands)],
    ['FLAGS', columns([...flags, HELP_ROW])],
    ['EXAMPLES', exampleLines(examples)],
    [undefined, [`banger COMMAND --help explains one command.`]],
  ]);
}

function sections(
  style: HelpStyle,
  parts: readonly (readonly [title: string | undefined, lines: readonly string[]])[],
): string {
  return parts
    .filter(([, lines]) => lines.length > 0)
    .map(([title, lines]) => {
      if (title === undefined) return `${lines.join('\n')}\n`;
      const heading = style.ansiColor ? `\u001b[1m${title}\u001b[22m` : title;
      return `${heading}\n${lines.map((line) => `  ${line}`).join('\n')}\n`;
    })
    .join('\n');
}

function usageTail(spec: CommandSpec): string {
  const argument = spec.argument;
  let tail = '';
  if (argument !== undefined) {
    const word = argument.maximum > 1 ? `${argument.placeholder}...` : argument.placeholder;
    tail += argument.minimum === 0 ? ` [${word}]` : ` ${word}`;
    const { second } = argument;
    if (second !== undefined) tail += second.required ? ` ${second.placeholder}` : ` [${second.placeholder}]`;
  }
  if (Object.keys(spec.flags).length > 0) tail += ' [FLAG...]';
  if (spec.commandBrief !== undefined) tail += ' [-- COMMAND...]';
  return tail;
}

function argumentRows(spec: CommandSpec): (readonly [string, string])[] {
  const rows: (readonly [string, string])[] = [];
  for (const argument of [spec.argument, spec.argument?.second]) {
    if (argument !== undefined) rows.push([argument.placeholder, argument.brief]);
  }
  if (spec.commandBrief !== undefined) rows.push(['COMMAND', spec.commandBrief]);
  return rows;
}

function flagRows(spec: CommandSpec): (readonly [string, string])[] {
  return Object.entries(spec.flags).map(([name, flag]) => [flagWord(name, flag), flag.brief]);
}

function flagWord(name: string, flag: FlagSpec<unknown>): string {
  const letter = flag.letter === undefined ? '    ' : `-${flag.letter}, `;
  const value = flag.placeholder === undefined ? '' : ` ${flag.placeholder}`;
  return `${letter}--${name}${value}`;
}

function exampleLines(examples: readonly Example[]): string[] {
  return columns(examples.map(({ line, brief }) => [line, `# ${brief}`]));
}

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `${left.padEnd(width)}  ${right}`.trimEnd());
}

/** Breaks paragraphs at words; lines that begin with a space are kept as they are. */
function wrap(text: string): string[] {
  return text.split('\n').flatMap((paragraph) => {
    if (paragraph.startsWith(' ') || paragraph === '') return [paragraph];
    const lines: string[] = [];
    let line = '';
    for (const word of paragraph.split(/ +/)) {
      if (line !== '' && line.length + 1 + word.length > TEXT_WIDTH) {
        lines.push(line);
        line = word;
      } else {
        line = line === '' ? word : `${line} ${word}`;
      }
    }
    return [...lines, line];
  });
}
