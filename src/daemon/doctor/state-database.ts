/** Checks inside the database: by the daemon's word, or in a copy of it. SQLite works synchronously, so they run alone. */

import type { DatabaseSync } from 'node:sqlite';
import type { StateVerified } from '../../api/results/state.ts';
import { BangerError, errorText } from '../../core/errors.ts';
import { MIB, counted, formatSize } from '../../core/units.ts';
import { assertSchema, schemaAt } from '../../state/state-schema.ts';
import { storeError } from '../../store/errors.ts';
import { getImageById, listImages } from '../../store/images.ts';
import { MIGRATIONS } from '../../store/migrations/list.ts';
import { columnsOf } from '../../store/migrations/migration.ts';
import { migrationStatus, newerText } from '../../store/migrations/status.ts';
import { selectAll, selectOne } from '../../store/sql.ts';
import { type Check, failure, info, ok, type Outcome, orOk } from './check.ts';
import type { DoctorContext } from './context.ts';

/** A copy of the largest database that is read at all takes this long to be checked. */
const TIMEOUT_MS = 120_000;
const MAX_LINES = 20;
const RECOVER =
  'banger state list shows what can be restored; banger state rebuild makes rows again from VM directories';
const NEWEST = MIGRATIONS.at(-1)?.id ?? 0;

interface Looks {
  readonly byDaemon: (verified: StateVerified) => Outcome;
  readonly inCopy: (database: DatabaseSync, context: DoctorContext) => Outcome | readonly Outcome[];
}

function overDatabase(id: `state.${string}`, title: string, looks: Looks): Check<DoctorContext> {
  return {
    id,
    group: 'state',
    title,
    timeoutMs: TIMEOUT_MS,
    alone: true,
    run: async (context) => {
      const access = await context.state();
      switch (access.kind) {
        case 'none':
          return ok('no database yet');
        case 'unreadable':
          return info('not looked at: the database cannot be read');
        case 'daemon':
          return looks.byDaemon(access.verified);
        case 'view':
          return look(() => looks.inCopy(access.view.database, context), context.stateFile);
      }
    },
  };
}

/** What SQLite cannot read is a finding about the database, not about the check. */
function look<T>(inCopy: () => T, path: string): T | Outcome {
  try {
    return inCopy();
  } catch (error) {
    const known = storeError(path, error);
    if (!(known instanceof BangerError)) throw error;
    return failure(known.message, { fix: RECOVER });
  }
}

function isCurrent(database: DatabaseSync): boolean {
  return migrationStatus(database, MIGRATIONS).status === 'compatible';
}

const version = overDatabase('state.version', 'schema version', {
  byDaemon: ({ migrationVersion }) => ok(`${migrationVersion}`),
  inCopy: (database) => {
    const status = migrationStatus(database, MIGRATIONS);
    switch (status.status) {
      case 'compatible':
        return ok(`${status.level}`);
      case 'pending':
        if (columnsOf(database, 'images').size === 0 && columnsOf(database, 'vms').size === 0) {
          return failure('it is a database of another program: it has neither images nor VMs', {
            fix: 'move it away, or set BANGER_HOME to another directory',
          });
        }
        return info(
          `${status.level}; to come: ${status.pending.map(({ id, name }) => `${id} ${name}`).join(', ')}`,
          {
            fix: 'the next start of the daemon migrates it, and keeps a copy of what it was',
          },
        );
      case 'newer':
        return failure(newerText(status), { fix: 'use the banger that wrote it, or a newer one' });
    }
  },
});

const NOT_CURRENT = 'not looked at: the schema is of another version';

const schema = overDatabase('state.schema', 'schema', {
  byDaemon: ({ migrationVersion }) => ok(`as schema version ${migrationVersion} has it`),
  inCopy: (database) => {
    if (!isCurrent(database)) return info(NOT_CURRENT);
    try {
      assertSchema(database, schemaAt(MIGRATIONS, NEWEST));
      return ok(`as schema version ${NEWEST} has it`);
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      return failure(errorText(error), {
        fix: 'undo what another program did to it, or: banger state rebuild',
      });
    }
  },
});

/** Lines of the check, capped: a damaged database can have one for each page. */
const integrity = overDatabase('state.integrity', 'integrity', {
  byDaemon: () => ok('verified by the daemon'),
  inCopy: (database) => {
    const rows = selectAll(database, `PRAGMA integrity_check(${MAX_LINES})`);
    const lines = rows.map((row) => String(row['integrity_check']));
    if (lines.join() === 'ok') return ok('integrity_check: ok');
    return failure(`integrity_check: ${lines.join('; ')}`, {
      fix: RECOVER,
    });
  },
});

const foreignKeys = overDatabase('state.foreign-keys', 'references', {
  byDaemon: () => ok('verified by the daemon'),
  inCopy: (database) => {
    const rows = selectAll(database, 'PRAGMA foreign_key_check');
    const problems = rows
      .slice(0, MAX_LINES)
      .map((row) =>
        failure(`a row of ${String(row['table'])} names one of ${String(row['parent'])} that is not there`),
      );
    return orOk(problems, 'foreign_key_check: ok');
  },
});

const MIN_WASTE_BYTES = 16 * MIB;

const freePages = overDatabase('state.free-pages', 'free pages', {
  byDaemon: () => ok('not looked at while the daemon works on it'),
  inCopy: (database) => {
    const number = (pragma: string): number =>
      Number(Object.values(selectOne(database, `PRAGMA ${pragma}`) ?? {})[0]);
    const pageBytes = number('page_size');
    const free = number('freelist_count');
    const all = number('page_count');
    const found = `${free} of ${all} pages are free (${formatSize(free * pageBytes)})`;
    if (free * 2 <= all || free * pageBytes < MIN_WASTE_BYTES) return ok(found);
    return info(found, {
      fix: 'harmless: SQLite uses them again; the next migration or restore gives them back',
    });
  },
});

/** Of both tables: a row that cannot be read is listed by name, and harms no other. */
const rows: Check<DoctorContext> = {
  id: 'state.rows',
  group: 'state',
  title: 'rows',
  timeoutMs: TIMEOUT_MS,
  alone: true,
  run: async (context) => {
    const found = await context.rows();
    if (found === undefined) return info('not looked at: the database cannot be read');
    const access = await context.state();
    if (access.kind === 'none') return ok('no database yet');
    if (access.kind === 'view' && !isCurrent(access.view.database)) return info(NOT_CURRENT);
    const vms = found.vms.flatMap(({ name, runtime }) =>
      runtime.lastError?.startsWith('the row of VM ') === true
        ? [
            failure(runtime.lastError, {
              fix: `banger vm delete ${name}; or banger state list, for one to restore`,
            }),
          ]
        : [],
    );
    const images = access.kind === 'view' ? damagedImages(access.view.database) : [];
    return orOk(
      [...vms, ...images],
      `${counted(found.vms.length, 'VM')}, ${counted(found.images.length, 'image')}`,
    );
  },
};

function damagedImages(database: DatabaseSync): readonly Outcome[] {
  return listImages(database).flatMap(({ id }) => {
    try {
      getImageById(database, id);
      return [];
    } catch (error) {
      return [failure(errorText(error), { fix: RECOVER })];
    }
  });
}

export const DATABASE_CHECKS: readonly Check<DoctorContext>[] = [
  version,
  schema,
  integrity,
  foreignKeys,
  rows,
  freePages,
];
