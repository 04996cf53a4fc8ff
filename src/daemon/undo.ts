/** Steps with their undo beside them: a failure undoes what was begun, in reverse, and joins the errors. */

import { BangerError, errorText } from '../core/errors.ts';

export class Undo {
  readonly #undos: { readonly name: string; readonly undo: () => Promise<void> }[] = [];

  /** Registers the undo first, then does the step: a step that fails half-way is undone too. */
  async step<T>(name: string, work: () => Promise<T>, undo?: () => Promise<void>): Promise<T> {
    if (undo !== undefined) this.#undos.push({ name, undo });
    return await work();
  }

  /** Runs every undo, last first, whatever the others do. Returns what went wrong. */
  async rollBack(): Promise<readonly string[]> {
    const failures: string[] = [];
    for (const { name, undo } of this.#undos.reverse()) {
      try {
        await undo();
      } catch (error) {
        failures.push(`${name}: ${errorText(error)}`);
      }
    }
    return failures;
  }
}

/** Runs `work`; when it throws, everything it did is undone before the error is passed on. */
export async function withUndo<T>(work: (undo: Undo) => Promise<T>): Promise<T> {
  const undo = new Undo();
  try {
    return await work(undo);
  } catch (error) {
    const failures = await undo.rollBack();
    if (failures.length === 0) throw error;
    const known = error instanceof BangerError ? error : undefined;
    throw new BangerError(
      known?.code ?? 'internal',
      `${errorText(error)}; and undoing it failed: ${failures.join('; ')}`,
      { cause: error, ...(known?.hint === undefined ? {} : { hint: known.hint }) },
    );
  }
}
