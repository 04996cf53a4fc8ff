/** What `banger doctor` found, for people. */

import type { DoctorFinding, DoctorFix, DoctorReport, DoctorSeverity } from '../../api/results/doctor.ts';
import { counted } from '../../core/units.ts';
import type { Style } from './style.ts';
import { printable } from './table.ts';

const MARKS: Readonly<Record<DoctorSeverity, string>> = {
  ok: 'ok',
  info: 'info',
  warning: 'WARN',
  failure: 'FAIL',
};
const MARK_WIDTH = Math.max(...Object.values(MARKS).map((mark) => mark.length));
/** Beyond this a title does not push the others' texts to the right. */
const MAX_TITLE_WIDTH = 32;
const FIX = 'fix: ';

/** A heading per group in the order of the findings, a row per finding, what to run below it where something can be done. */
export function formatDoctorReport(report: DoctorReport, style: Style): string {
  const { findings } = report;
  const width = Math.min(MAX_TITLE_WIDTH, Math.max(0, ...findings.map(({ title }) => [...title].length)));
  const groups = [...new Set(findings.map(({ group }) => group))];
  const blocks = groups.map((group) => {
    const rows = findings.filter((finding) => finding.group === group);
    return `${style.bold(group)}\n${rows.map((finding) => formatFinding(finding, width, style)).join('')}`;
  });
  return `${blocks.join('\n')}\n${formatSummary(findings, style)}`;
}

function formatFinding(finding: DoctorFinding, width: number, style: Style): string {
  const { severity, title, found, fix } = finding;
  const mark = paint(style, severity)(MARKS[severity].padEnd(MARK_WIDTH));
  const gap = ' '.repeat(Math.max(0, width - [...title].length));
  const row = `  ${mark}  ${printable(title)}${gap}  ${printable(found)}\n`;
  if (fix === null || severity === 'ok') return row;
  return `${row}${' '.repeat(MARK_WIDTH + width + 6)}${FIX}${printable(fix)}\n`;
}

function paint(style: Style, severity: DoctorSeverity): (text: string) => string {
  switch (severity) {
    case 'ok':
      return style.green;
    case 'info':
      return style.dim;
    case 'warning':
      return style.yellow;
    case 'failure':
      return style.red;
  }
}

function formatSummary(findings: readonly DoctorFinding[], style: Style): string {
  const count = (severity: DoctorSeverity) =>
    findings.filter((finding) => finding.severity === severity).length;
  const failures = count('failure');
  const warnings = count('warning');
  const checked = `${findings.length} checked`;
  if (failures + warnings === 0) return `${style.green('all is well')}: ${checked}\n`;
  const fixable = findings.filter((finding) => finding.fixable).length;
  const summary = `${style.bold(`${counted(failures, 'failure')}, ${counted(warnings, 'warning')}`)}: ${checked}\n`;
  return fixable === 0 ? summary : `${summary}"banger doctor --fix" can mend ${fixable} of them\n`;
}

/** A line each: what would be done, was done, or could not be. */
export function formatDoctorFixes(fixes: readonly DoctorFix[], style: Style): string {
  return fixes
    .map(({ what, done, error }) => {
      if (done === null) return `  ${printable(what)}\n`;
      if (done) return `  ${style.green('done')}    ${printable(what)}\n`;
      return `  ${style.red('FAILED')}  ${printable(what)}: ${printable(error ?? 'unknown reason')}\n`;
    })
    .join('');
}
