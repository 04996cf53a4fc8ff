import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { DoctorFinding } from '../../api/results/doctor.ts';
import { BangerError } from '../../core/errors.ts';
import { type Check, failure, ok, warning } from './check.ts';
import { type CheckResult, runChecks, type RunChecksOptions, worstOf } from './run-checks.ts';

type TestCheck = Check<null>;

function check(name: string, run: TestCheck['run'], more: Partial<TestCheck> = {}): TestCheck {
  return { id: `host.${name}`, group: 'host', title: name, timeoutMs: 5000, ...more, run };
}

const good = check('good', async () => ok('fine'));

async function results(
  checks: readonly TestCheck[],
  options: Partial<RunChecksOptions> = {},
): Promise<readonly CheckResult[]> {
  return await runChecks(checks, null, { signal: new AbortController().signal, ...options });
}

async function findingsOf(...checks: readonly TestCheck[]): Promise<readonly DoctorFinding[]> {
  return (await results(checks)).flatMap(({ findings }) => findings);
}

/** The finding of a check that went wrong; the one beside it must be as always. */
async function itsOwn(bad: TestCheck): Promise<DoctorFinding> {
  const [first, second, ...rest] = await findingsOf(bad, good);
  assert.ok(first !== undefined && second !== undefined);
  assert.deepEqual([second.id, second.severity, second.found, rest.length], ['host.good', 'ok', 'fine', 0]);
  assert.deepEqual([first.id, first.severity, first.fixable], [bad.id, 'failure', false]);
  assert.match(first.found, /^the check itself failed: /);
  return first;
}

test('what a check found becomes findings with all their fields', async () => {
  const repair = { what: 'chmod', needsLock: false, apply: async () => undefined };
  const [finding] = await findingsOf(check('a', async () => warning('bad', { fix: 'mend it', repair })));
  assert.ok(finding !== undefined && finding.durationMs >= 0);
  assert.deepEqual(
    { ...finding, durationMs: 0 },
    {
      id: 'host.a',
      group: 'host',
      title: 'a',
      severity: 'warning',
      found: 'bad',
      fix: 'mend it',
      fixable: true,
      durationMs: 0,
    },
  );
  const [plain] = await findingsOf(good);
  assert.deepEqual([plain?.fix, plain?.fixable], [null, false]);
});

test('a check that throws, before or after its first promise, is a finding about itself', async () => {
  const early = await itsOwn(
    check('early', () => {
      throw new Error('at once');
    }),
  );
  assert.match(early.found, /at once/);
  const late = await itsOwn(
    check('late', async () => {
      await Promise.resolve();
      throw new BangerError('io_error', 'later', { hint: 'do this' });
    }),
  );
  assert.match(late.found, /later/);
  assert.equal(late.fix, 'do this');
  const strange = await itsOwn(check('strange', () => Promise.reject('a text')));
  assert.match(strange.found, /a text/);
  await itsOwn(check('silent', () => Promise.reject(Object.create(null))));
});

test('what this user may not look at is said in other words', async () => {
  for (const error of [
    Object.assign(new Error("EACCES: permission denied, lstat '/x'"), { code: 'EACCES', path: '/x' }),
    new BangerError('permission', 'refusing to read /x'),
  ]) {
    const [finding] = await findingsOf(check('denied', () => Promise.reject(error)));
    assert.equal(finding?.severity, 'failure');
    assert.match(finding.found, /^this user may not look: (\/x: permission denied|refusing to read \/x)$/);
    assert.match(finding.fix ?? '', /security checks/);
  }
});

test('a check that hangs ends at its limit, and its signal aborts', async () => {
  let aborted = false;
  const hanging = check(
    'hanging',
    (_, signal) =>
      new Promise(() => {
        signal.addEventListener('abort', () => {
          aborted = true;
        });
      }),
    { timeoutMs: 20 },
  );
  assert.match((await itsOwn(hanging)).found, /did not end within 20 ms/);
  assert.ok(aborted);
});

test('what a check throws after its limit harms nobody', async () => {
  const late = Promise.withResolvers<never>();
  await itsOwn(check('late', () => late.promise, { timeoutMs: 10 }));
  late.reject(new Error('too late'));
  // An unhandled rejection would end this process.
  await new Promise((resolve) => setImmediate(resolve));
});

test('nonsense is a finding about the check', async () => {
  const nonsense: unknown[] = [
    undefined,
    null,
    'fine',
    [],
    [null],
    {},
    { severity: 'ok' },
    { severity: 'terrible', found: 'x' },
    { severity: 'ok', found: '' },
    { severity: 'ok', found: 7 },
    { severity: 'ok', found: 'x', extra: 1 },
    { severity: 'ok', found: 'x', repair: 'rm -rf' },
    [ok('x'), { severity: 'ok' }],
  ];
  for (const value of nonsense) {
    const bad = check('bad', () => Promise.resolve(value as ReturnType<typeof ok>));
    assert.match((await itsOwn(bad)).found, /nonsense/, JSON.stringify(value));
  }
});

test('anything at all that a check returns or throws gives findings of the right shape', async () => {
  await fc.assert(
    fc.asyncProperty(fc.anything({ withNullPrototype: true }), fc.boolean(), async (value, throws) => {
      const any = check('any', async () => {
        if (throws) throw value;
        return value as ReturnType<typeof ok>;
      });
      for (const finding of await findingsOf(any)) {
        assert.equal(typeof finding.found, 'string');
        assert.notEqual(finding.found, '');
        assert.ok(['ok', 'info', 'warning', 'failure'].includes(finding.severity));
      }
    }),
    { numRuns: 300 },
  );
});

test('texts are fit for a terminal', async () => {
  const hostile = 'a\u001b[31mred\nline\u0000\u202eback \u2028x';
  const [finding] = await findingsOf(check('a', async () => failure(hostile, { fix: hostile })));
  assert.doesNotMatch(finding?.found ?? '', /[\p{Cc}\u202e\u2028]/u);
  assert.doesNotMatch(finding?.fix ?? '', /[\p{Cc}\u202e\u2028]/u);
  assert.match(finding?.found ?? '', /^a \[31mred line back {2}x$/);
  const [long] = await findingsOf(check('a', async () => ok('x'.repeat(10_000))));
  assert.ok((long?.found.length ?? 0) < 2100);
  const [empty] = await findingsOf(check('a', async () => ok('\n')));
  assert.notEqual(empty?.found, '');
});

test('more outcomes than anyone reads are counted; the worst of those left out is kept', async () => {
  const many = [
    ...Array.from({ length: 100 }, (_, index) => warning(`${index}`)),
    ok('x'),
    failure('y'),
    ok('z'),
  ];
  const findings = await findingsOf(check('many', async () => many));
  assert.equal(findings.length, 101);
  assert.deepEqual(
    [findings.at(-1)?.severity, findings.at(-1)?.found],
    ['failure', '… and 3 more like these'],
  );
});

test('checks run side by side, up to the limit, and results keep the order of the checks', async () => {
  let running = 0;
  let most = 0;
  const gate = Promise.withResolvers<void>();
  const waiting = (name: string): TestCheck =>
    check(name, async () => {
      running += 1;
      most = Math.max(most, running);
      if (running === 3) gate.resolve();
      // Nobody gets on until three are here: one after the other they would never end.
      await gate.promise;
      running -= 1;
      return ok(name);
    });
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  const found = await results(names.map(waiting), { concurrency: 3 });
  assert.equal(most, 3);
  assert.deepEqual(
    found.map(({ id }) => id),
    names.map((name) => `host.${name}`),
  );
});

test('a slow check in front does not move to the end', async () => {
  const gate = Promise.withResolvers<void>();
  const slow = check('slow', async () => {
    await gate.promise;
    return ok('slow');
  });
  const quick = check('quick', async () => {
    gate.resolve();
    return ok('quick');
  });
  assert.deepEqual(
    (await results([slow, quick])).map(({ id }) => id),
    ['host.slow', 'host.quick'],
  );
});

test('those that want to be alone run after the others, one by one, and stand in their place', async () => {
  const order: string[] = [];
  let inside = 0;
  const alone = (name: string): TestCheck =>
    check(
      name,
      async () => {
        inside += 1;
        assert.equal(inside, 1);
        await new Promise((resolve) => setImmediate(resolve));
        order.push(name);
        inside -= 1;
        return ok(name);
      },
      { alone: true },
    );
  const usual = check('usual', async () => {
    order.push('usual');
    return ok('usual');
  });
  const found = await results([alone('a'), usual, alone('b')]);
  assert.deepEqual(order, ['usual', 'a', 'b']);
  assert.deepEqual(
    found.map(({ id }) => id),
    ['host.a', 'host.usual', 'host.b'],
  );
});

test('progress names each check and counts', async () => {
  const told: [string, number, number][] = [];
  await results([good, check('two', async () => ok('x'))], {
    concurrency: 1,
    onProgress: (...one) => told.push(one),
  });
  assert.deepEqual(told, [
    ['good', 0, 2],
    ['two', 1, 2],
  ]);
});

test('cancelling ends all of it, also a check that does not listen', async () => {
  const abort = new AbortController();
  const deaf = check('deaf', () => {
    abort.abort();
    return new Promise(() => undefined);
  });
  await assert.rejects(results([deaf, good], { signal: abort.signal }), { code: 'cancelled' });
  await assert.rejects(results([good], { signal: AbortSignal.abort() }), { code: 'cancelled' });
});

test('the worst severity counts', () => {
  assert.equal(worstOf([]), 'ok');
  assert.equal(worstOf(['ok', 'info']), 'info');
  assert.equal(worstOf(['failure', 'warning', 'ok']), 'failure');
});

test('a check that has something to remove is waited for when it is cancelled, and not for ever', async () => {
  for (const [windUpMs, expected] of [
    [60_000, true],
    [undefined, false],
  ] as const) {
    const stop = new AbortController();
    let removed = false;
    const check: Check<null> = {
      id: 'host.test',
      group: 'host',
      title: 'makes a file',
      timeoutMs: 60_000,
      ...(windUpMs === undefined ? {} : { windUpMs }),
      run: async (_, signal) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        await new Promise((resolve) => setTimeout(resolve, 30));
        removed = true;
        return ok('it was told to end');
      },
    };
    const running = runChecks([check], null, { signal: stop.signal });
    setImmediate(() => stop.abort());
    await running.catch(() => undefined);
    assert.equal(removed, expected);
  }
});
