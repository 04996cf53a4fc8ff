/**
 * Progress on stderr. On a terminal: one line that is replaced while the step, its share and its time go on, and
 * cleared at the end. Elsewhere: a plain line for a step that takes long, and nothing for quick ones.
 */

import type { Progress } from '../../api/contract.ts';
import { formatDuration, formatSize } from '../../core/units.ts';
import type { CliIo } from '../cli-context.ts';
import { printable } from './table.ts';

export interface ProgressDisplay extends Disposable {
  update(progress: Progress): void;
  /** A line that stays. */
  note(line: string): void;
}

/** Quick work ends before anything is drawn. */
const FIRST_DRAW_MS = 150;
const REDRAW_MS = 100;
/** Off a terminal a step is only worth a line when somebody may wonder what is going on. */
const PLAIN_AFTER_MS = 10_000;
const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const CLEAR_LINE = '\r\u001b[2K';

type Io = Pick<CliIo, 'stderr' | 'env'>;

export function createProgress(io: Io): ProgressDisplay {
  return io.stderr.isTTY && io.env['TERM'] !== 'dumb' ? new LiveLine(io) : new PlainLines(io);
}

/** The text of one step: what, how much of it, for how long. */
export function progressLine(progress: Progress, elapsedMs: number): string {
  const share = shareOf(progress);
  const elapsed = elapsedMs < 1000 ? '' : formatDuration(Math.floor(elapsedMs / 1000) * 1000);
  return [printable(progress.text), share, elapsed].filter((part) => part !== '').join('  ');
}

function shareOf({ done, total, unit }: Progress): string {
  if (done === undefined) return '';
  const show = (amount: number) => (unit === 'bytes' ? formatSize(amount) : String(amount));
  if (total === undefined || total <= 0) return show(done);
  const percent = Math.min(100, Math.floor((done / total) * 100));
  return `${percent}% (${show(done)} of ${show(total)})`;
}

/** The cursor is never hidden, so there is nothing to restore however this process ends. */
class LiveLine implements ProgressDisplay {
  readonly #io: Io;
  #current: Progress | undefined;
  #stepStartedMs = 0;
  #frame = 0;
  #drawn = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(io: Io) {
    this.#io = io;
  }

  update(progress: Progress): void {
    if (progress.announce === true) this.note(printable(progress.text));
    if (progress.step !== this.#current?.step) this.#stepStartedMs = performance.now();
    this.#current = progress;
    this.#timer ??= setTimeout(() => this.#tick(), FIRST_DRAW_MS);
    this.#timer.unref();
  }

  note(line: string): void {
    this.#clear();
    this.#io.stderr.write(`${line}\n`);
  }

  #tick(): void {
    const current = this.#current;
    if (current === undefined) return;
    this.#frame = (this.#frame + 1) % SPINNER.length;
    const line = `${SPINNER[this.#frame]} ${progressLine(current, performance.now() - this.#stepStartedMs)}`;
    // One column less: a line that fills the last one wraps, and then a clear leaves half of it behind.
    const width = Math.max(10, this.#io.stderr.columns - 1);
    this.#io.stderr.write(`${CLEAR_LINE}${[...line].slice(0, width).join('')}`);
    this.#drawn = true;
    this.#timer = setTimeout(() => this.#tick(), REDRAW_MS);
    this.#timer.unref();
  }

  #clear(): void {
    if (this.#drawn) this.#io.stderr.write(CLEAR_LINE);
    this.#drawn = false;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#current = undefined;
    this.#clear();
  }
}

class PlainLines implements ProgressDisplay {
  readonly #io: Io;
  #current: Progress | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(io: Io) {
    this.#io = io;
  }

  update(progress: Progress): void {
    if (progress.announce === true) this.note(printable(progress.text));
    const sameStep = progress.step === this.#current?.step;
    this.#current = progress;
    if (sameStep) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#print(), PLAIN_AFTER_MS);
    this.#timer.unref();
  }

  note(line: string): void {
    this.#io.stderr.write(`${line}\n`);
  }

  #print(): void {
    if (this.#current !== undefined) this.#io.stderr.write(`${progressLine(this.#current, 0)} …\n`);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
