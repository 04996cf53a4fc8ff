/** What `doctor` finds and mends. */

/** Worst last. */
export const DOCTOR_SEVERITIES = ['ok', 'info', 'warning', 'failure'] as const;

export type DoctorSeverity = (typeof DOCTOR_SEVERITIES)[number];

export const DOCTOR_GROUPS = ['host', 'daemon', 'state', 'images', 'vms', 'config', 'security'] as const;

export type DoctorGroup = (typeof DOCTOR_GROUPS)[number];

/** What one check found. */
export interface DoctorFinding {
  /** `group.check`, stable: `host.accelerator`. A check that looks at many things has one finding for each that is wrong. */
  readonly id: string;
  readonly group: DoctorGroup;
  readonly title: string;
  readonly severity: DoctorSeverity;
  /** A sentence: what is, with the figures. */
  readonly found: string;
  /** What to run or change; null when nothing needs to be done. */
  readonly fix: string | null;
  /** Whether `doctor --fix` does that by itself. */
  readonly fixable: boolean;
  readonly durationMs: number;
}

export interface DoctorReport {
  readonly worst: DoctorSeverity;
  readonly findings: readonly DoctorFinding[];
}

/** One thing `doctor --fix` did, would do, or could not do. */
export interface DoctorFix {
  /** Of the finding it mends. */
  readonly id: string;
  /** `chmod 600 /…/state.db` */
  readonly what: string;
  /** Null when it was only asked what would be done. */
  readonly done: boolean | null;
  readonly error: string | null;
}
