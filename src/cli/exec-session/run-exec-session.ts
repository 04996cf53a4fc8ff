/** A program in the guest on this terminal: bytes, keys, window size, signals, exit status. */

import { type CloseResult, exitStatusOf, STATUS_BANGER_FAILED } from '../../core/channel/close.ts';
import { BangerError, errorText } from '../../core/errors.ts';
import { openStream } from '../../rpc/stream-client.ts';
import type { ClientStream } from '../../rpc/stream-types.ts';
import { failureOf } from './failure.ts';
import { type InputPump, pumpInput } from './input-pump.ts';
import { OutputWriter } from './output-writer.ts';
import { enterRawMode } from './raw-mode.ts';
import { handleSignals } from './signals.ts';
import type { ExecSessionOptions } from './types.ts';

const STATUS_SIGNAL_BASE = 128;
const SIGPIPE = 13;
/** A program that was given up is killed in the guest after 2 s. */
const GIVE_UP_WITHIN_MS = 3000;

/**
 * Runs the session to its end and returns the exit status of the whole command: the program's own; 128+n when signal n ended it;
 * 127 and 126 for a program that is not there or cannot be run; 141 when stdout's reader went away; 125 for what else failed.
 * Afterwards the terminal is as it was and stdin is not read any more: nothing of this keeps the process alive, except output
 * given up because nobody reads it, which only `process.exit` drops.
 * @throws {BangerError} `cancelled`, when `options.signal` is aborted. Other failures are a status and told to `onFailure`.
 */
export async function runExecSession(options: ExecSessionOptions): Promise<number> {
  return new ExecSession(options).run();
}

class ExecSession {
  readonly #options: ExecSessionOptions;
  readonly #cleanup = new DisposableStack();
  readonly #stdout: OutputWriter;
  readonly #stderr: OutputWriter;
  readonly #stream: ClientStream;
  #input: InputPump | undefined;
  /** Why the status is not the program's. The first reason counts. */
  #status: number | undefined;
  #resulted = false;
  #outputBytes = 0;
  #leave: () => void = () => undefined;
  readonly #left: Promise<void>;

  constructor(options: ExecSessionOptions) {
    this.#options = options;
    this.#left = new Promise((resolve) => {
      this.#leave = resolve;
    });
    this.#stdout = this.#cleanup.adopt(
      new OutputWriter(options.stdout, (error) => this.#onStdoutFailure(error)),
      (writer) => writer.dispose(),
    );
    // Nobody reads the errors any more: the program goes on, as it would with its own stderr closed.
    this.#stderr = this.#cleanup.adopt(new OutputWriter(options.stderr, () => undefined), (writer) =>
      writer.dispose(),
    );
    this.#stream = openStream({
      streamSocketPath: options.ticket.streamSocketPath,
      ticket: options.ticket.ticket,
      onStdout: (chunk, taken) => this.#onStdout(chunk, taken),
      onStderr: (chunk, taken) => this.#stderr.write(chunk, taken),
      onWritable: () => this.#input?.resume(),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  }

  async run(): Promise<number> {
    try {
      this.#connectTerminal();
      this.#connectInput();
      const result = await Promise.race([this.#stream.result, this.#left]);
      this.#resulted = true;
      this.#input?.stop();
      await Promise.race([this.#drained(), this.#left]);
      return this.#statusOf(result ?? undefined);
    } catch (error) {
      if (!(error instanceof BangerError) || error.code === 'cancelled') throw error;
      // Of a session that was given up its end is no news.
      if (this.#status === undefined) this.#report(error);
      return this.#status ?? STATUS_BANGER_FAILED;
    } finally {
      this.#input?.stop();
      this.#stream.destroy();
      this.#cleanup.dispose();
    }
  }

  #connectTerminal(): void {
    const { stdin, tty, stdout, stderr } = this.#options;
    const source = this.#options.signals ?? process;
    const raw = tty && stdin?.isTTY === true;
    const screen = [stdout, stderr].find((output) => output.isTTY === true);
    const onResize = () => {
      if (screen?.rows !== undefined && screen.columns !== undefined) {
        this.#stream.resize(screen.rows, screen.columns);
      }
    };
    if (tty && screen !== undefined) {
      screen.on('resize', onResize);
      this.#cleanup.defer(() => screen.off('resize', onResize));
    }
    if (raw) this.#cleanup.defer(enterRawMode(stdin, source, onResize));
    this.#cleanup.defer(
      handleSignals({
        source,
        raw,
        forward: (number) => this.#onSignal(number),
        giveUp: (number) => this.#giveUp(STATUS_SIGNAL_BASE + number),
      }),
    );
  }

  #connectInput(): void {
    const { stdin } = this.#options;
    if (stdin === null) this.#stream.endInput();
    else this.#input = pumpInput(stdin, this.#stream);
  }

  #onSignal(number: number): void {
    // The program has ended, and what it wrote is stuck: nobody is left to forward to.
    if (this.#resulted) this.#giveUp(STATUS_SIGNAL_BASE + number);
    else this.#stream.sendSignal(number);
  }

  /** Ends the program, and this session at the latest when the guest must have killed it. */
  #giveUp(status: number): void {
    this.#status ??= status;
    this.#input?.stop();
    if (this.#resulted) {
      this.#leave();
      return;
    }
    this.#stream.reset();
    const timer = setTimeout(this.#leave, GIVE_UP_WITHIN_MS);
    this.#cleanup.defer(() => clearTimeout(timer));
  }

  #onStdout(chunk: Uint8Array, taken: () => void): void {
    const { maxOutputBytes = Number.POSITIVE_INFINITY } = this.#options;
    this.#outputBytes += chunk.length;
    if (this.#outputBytes <= maxOutputBytes) {
      this.#stdout.write(chunk, taken);
      return;
    }
    taken();
    if (this.#status !== undefined) return;
    this.#report(new BangerError('limit_exceeded', `the VM sent more than ${maxOutputBytes} bytes`));
    this.#giveUp(STATUS_BANGER_FAILED);
  }

  #onStdoutFailure(error: NodeJS.ErrnoException): void {
    if (error.code === 'EPIPE') {
      this.#giveUp(STATUS_SIGNAL_BASE + SIGPIPE);
      return;
    }
    this.#report(
      new BangerError('io_error', `cannot write to stdout: ${errorText(error)}`, { cause: error }),
    );
    this.#giveUp(STATUS_BANGER_FAILED);
  }

  async #drained(): Promise<void> {
    await Promise.all([this.#stdout.drained(), this.#stderr.drained()]);
  }

  #statusOf(result: CloseResult | undefined): number {
    if (this.#status !== undefined || result === undefined) return this.#status ?? STATUS_BANGER_FAILED;
    if (result.kind === 'failed') this.#report(failureOf(result));
    return exitStatusOf(result);
  }

  #report(error: BangerError): void {
    if (this.#options.onFailure !== undefined) this.#options.onFailure(error);
    else this.#options.stderr.write(`banger: ${error.message}\n`);
  }
}
