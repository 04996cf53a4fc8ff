import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { daemonOf, DoctorHome } from '../../../test/helpers/doctor-home.ts';
import type { DaemonStatus, NameServerStatus } from '../../api/results/daemon.ts';
import { BangerError } from '../../core/errors.ts';
import { hostPrefixOf, instanceAddressOf } from '../../core/host-address.ts';
import { tagOf } from '../../host/paths.ts';
import type { CommandRunner } from '../../host/runner.ts';
import { names } from './names.ts';

const LISTENING: NameServerStatus = { address: '127.0.0.1:42069', state: 'listening', problem: null };

/** What the check says on a host whose getent prints this, or fails so. */
async function said(
  context: TestContext,
  status: NameServerStatus | null,
  getent: (own: string) => string,
): Promise<string> {
  using home = new DoctorHome().makeDirectories();
  await daemonOf(home, context, {
    handlers: { 'daemon.status': async () => ({ names: status }) as DaemonStatus },
  });
  const own = instanceAddressOf(hostPrefixOf(Number.parseInt(tagOf(home.paths.stateDir), 16)));
  const run: CommandRunner['run'] = async (argv, options) => {
    assert.deepEqual(argv, ['getent', 'ahosts', 'probe.banger.vm']);
    assert.ok(options?.timeoutMs !== undefined && options.timeoutMs <= 2000);
    const printed = getent(own);
    if (printed === 'timeout' || printed === 'dependency_missing') throw new BangerError(printed, 'no');
    return { stdout: Buffer.from(printed), stderr: '', status: printed === '' ? 2 : 0 };
  };
  const { findings } = await home.report({ runner: { run }, checks: [names] });
  return findings.map(({ severity, found, fix }) => `${severity}: ${found} (${fix})`).join('\n');
}

const nobody = (): never => assert.fail('nobody is to be asked');

test('a host that looks them up where they are answered for', async (context) => {
  const ahosts = (own: string) => `${own}  STREAM probe.banger.vm\n${own}  DGRAM\n${own}  RAW\n`;
  assert.match(await said(context, LISTENING, ahosts), /^ok: this host looks them up at 127\.0\.0\.1:42069/);
});

test('one that looks them up elsewhere, or not at all, or is silent', async (context) => {
  const elsewhere = await said(context, LISTENING, () => '127.1.2.1 STREAM probe.banger.vm\n');
  assert.match(
    elsewhere,
    /^warning: .* elsewhere: probe\.banger\.vm is 127\.1\.2\.1, not 127\..*docs\/names\.md/,
  );
  const nowhere = await said(context, LISTENING, () => '');
  assert.match(nowhere, /^info: this host does not look them up at 127\.0\.0\.1:42069.*docs\/names\.md/);
  assert.match(await said(context, LISTENING, () => 'timeout'), /^warning: .* did not say within 2 s/);
  assert.match(await said(context, LISTENING, () => 'dependency_missing'), /^info: .* getent is not here/);
});

test('a daemon that cannot answer, is not to, or is not there: nobody else is asked', async (context) => {
  const failed = { ...LISTENING, state: 'failed', problem: 'another program has that port' } as const;
  assert.match(
    await said(context, failed, nobody),
    /^warning: nobody is answered on 127\.0\.0\.1:42069: another program has that port .*\[dns\] listen/,
  );
  assert.match(await said(context, null, nobody), /^info: turned off/);
  using home = new DoctorHome().makeDirectories();
  assert.match(await home.says('daemon.names'), /^info: no daemon/);
});
