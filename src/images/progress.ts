/** What long work on images tells its caller. The same fields as the RPC's progress value. */
export interface ImageProgress {
  /** Stable name of the step (`fetch`, `install` …); a change of step ends the one before. */
  readonly step: string;
  /** For people: what is being done, to what. */
  readonly text: string;
  readonly done?: number;
  readonly total?: number;
  readonly unit?: 'bytes' | 'items';
}

export type OnImageProgress = (progress: ImageProgress) => void;
