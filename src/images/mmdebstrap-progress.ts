/** Makes progress out of what mmdebstrap, apt and dpkg print (mmdebstrap --verbose), and keeps what explains a failure. */

import type { ImageProgress } from './progress.ts';

const MAX_KEPT_LINES = 12;
const MAX_LINE_CHARS = 400;

export class MmdebstrapProgress {
  readonly #report: (progress: ImageProgress) => void;
  readonly #trouble: string[] = [];
  /** apt runs twice: the essential packages, then the rest. */
  #run = 0;
  #total = 0;
  #fetched = 0;
  #steps = 0;

  constructor(report: (progress: ImageProgress) => void) {
    this.#report = report;
  }

  /** The last lines that look like an explanation, oldest first. */
  get trouble(): readonly string[] {
    return this.#trouble;
  }

  line(line: string): void {
    if (/^(E|W|Err)(:|\s)|error:|dpkg: |No space left|Could not|Unable to/.test(line)) this.#keep(line);
    if (line.startsWith('I: running apt-get update')) {
      this.#report({ step: 'index', text: "reading Debian's package index" });
    } else if (line.startsWith('I: creating tarball')) {
      this.#report({ step: 'pack', text: 'collecting the files' });
    } else {
      this.#packageLine(line);
    }
  }

  #packageLine(line: string): void {
    const installed = /^\d+ upgraded, (\d+) newly installed/.exec(line)?.[1];
    if (installed !== undefined) {
      this.#run += 1;
      this.#total = Number(installed);
      this.#fetched = 0;
      this.#steps = 0;
    }
    if (this.#total === 0) return;
    if (/^Get:\d+ /.test(line)) {
      this.#fetched = Math.min(this.#fetched + 1, this.#total);
      this.#items('fetch', 'fetching', this.#fetched);
    } else if (/^(Unpacking|Setting up) /.test(line)) {
      // Each package is unpacked, then set up: two steps of equal weight.
      this.#steps = Math.min(this.#steps + 1, 2 * this.#total);
      this.#items('install', 'installing', Math.floor(this.#steps / 2));
    }
  }

  #items(step: string, verb: string, done: number): void {
    const which = this.#run === 1 ? 'base packages' : 'packages';
    const suffix = this.#run === 1 ? '_base' : '';
    this.#report({
      step: `${step}${suffix}`,
      text: `${verb} ${which}`,
      done,
      total: this.#total,
      unit: 'items',
    });
  }

  #keep(line: string): void {
    this.#trouble.push(line.slice(0, MAX_LINE_CHARS));
    if (this.#trouble.length > MAX_KEPT_LINES) this.#trouble.shift();
  }
}
