import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from '../errors.ts';
import { type ClientConfigFacts, clientConfig } from './client-config.ts';

const dir = mkdtempSync(join(tmpdir(), 'ssh 100%h-'));
after(() => rmSync(dir, { recursive: true }));

const facts: ClientConfigFacts = {
  identityFile: join(dir, 'id_ed25519'),
  knownHostsFile: join(dir, 'known hosts'),
  launcher: '/opt/my banger/bin/banger',
  environment: { BANGER_HOME: null, XDG_STATE_HOME: '/home/dev/my state' },
};

/** What a user may have for all hosts, below the Include. */
const FOR_ALL = `Host *
  User me
  ForwardAgent yes
  ForwardX11 yes
  ForwardX11Trusted yes
  StrictHostKeyChecking no
  UpdateHostKeys yes
  VerifyHostKeyDNS yes
  CanonicalizeHostname yes
  PermitLocalCommand yes
  LocalCommand touch x
  Tunnel yes
  AddKeysToAgent yes
  PreferredAuthentications password
  GlobalKnownHostsFile /etc/all
  ProxyUseFdpass yes
  ProxyCommand nc %h
`;

/** What ssh itself makes of it. */
function settingsFor(host: string): ReadonlyMap<string, string> {
  const file = join(dir, 'config');
  writeFileSync(file, `${clientConfig(facts)}${FOR_ALL}`);
  const lines = execFileSync('ssh', ['-F', file, '-G', host], { encoding: 'utf8' }).trim().split('\n');
  return new Map(lines.map((line) => [line.replace(/ .*/, ''), line.replace(/^\S+ ?/, '')]));
}

test('ssh understands it, and gives the guest nothing, whatever holds for other hosts', () => {
  const settings = settingsFor('dev.vm');
  const expected = {
    user: 'root',
    identityfile: facts.identityFile.replace('%', '%%'),
    identitiesonly: 'yes',
    stricthostkeychecking: 'true',
    globalknownhostsfile: '/dev/null',
    hostkeyalgorithms: 'ssh-ed25519',
    updatehostkeys: 'false',
    canonicalizehostname: 'false',
    forwardagent: 'no',
    forwardx11: 'no',
    forwardx11trusted: 'no',
    permitlocalcommand: 'no',
    tunnel: 'false',
    verifyhostkeydns: 'false',
    addkeystoagent: 'false',
    proxyusefdpass: 'no',
    preferredauthentications: 'publickey',
    loglevel: 'ERROR',
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(settings.get(name), value, name);
  assert.match(settings.get('ciphers') ?? '', /^aes128-gcm@openssh\.com,chacha20/);
  assert.match(settings.get('userknownhostsfile') ?? '', /known hosts/);
});

test('it is about our hosts, and no others', () => {
  const own = (host: string): boolean => settingsFor(host).get('identitiesonly') === 'yes';
  assert.equal(own('dev.vm'), true);
  assert.equal(own('example.org'), false);
  assert.equal(own('dev.vm.example.org'), false);
});

/** ssh_config(5), PATTERNS; newer clients refuse such hosts themselves, so they cannot be asked. */
function isMatched(host: string): boolean {
  const line = /^Host (.*)$/m.exec(clientConfig(facts))?.[1] ?? '';
  const patterns = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
  const fits = (pattern: string): boolean => {
    const part = pattern.replaceAll('*', '');
    assert.match(pattern, /^\*[^*?]+\*?$/);
    return pattern.endsWith('*') ? host.includes(part) : host.endsWith(part);
  };
  const [wanted = [], unwanted = []] = [false, true].map((not) =>
    patterns.filter((one) => one.startsWith('!') === not),
  );
  return wanted.some(fits) && !unwanted.some((one) => fits(one.slice(1)));
}

test('a shell that gets the line sees a host as one word, or the host is none of ours', () => {
  const command = /^ {2}ProxyCommand .* vm ssh-proxy (.*)$/m.exec(clientConfig(facts))?.[1] ?? '';
  const special = fc.constantFrom(...'\'\\"`$;&|<>(){}!#*?~ \n\t'.split(''), 'a', 'touch', '-x');
  const hosts = fc.array(special, { maxLength: 8 }).map((parts) => `${parts.join('')}.vm`);
  let matched = 0;
  fc.assert(
    fc.property(hosts, (host) => {
      if (!isMatched(host)) return assert.match(host, /['\\]/);
      matched += 1;
      const line = `printf %s ${command.replaceAll('%h', () => host)}`;
      assert.equal(execFileSync('sh', ['-c', line], { encoding: 'utf8' }), host);
    }),
    { numRuns: 60 },
  );
  assert.ok(matched > 5);
  for (const host of ["a'b.vm", "';x;'.vm", 'a\\.vm', "'.vm"]) assert.equal(isMatched(host), false, host);
});

test('the program is found wherever ssh is started from, by any path', () => {
  const marks = join(dir, 'called');
  const launcher = join(dir, 'it is 100% banger');
  writeFileSync(launcher, `#!/bin/sh\nenv > "${marks}.env"\nprintf '%s\\n' "$@" > "${marks}"\n`, {
    mode: 0o755,
  });
  const file = join(dir, 'config');
  writeFileSync(file, clientConfig({ ...facts, launcher }));
  const env = { ...process.env, BANGER_HOME: '/elsewhere' };
  spawnSync('ssh', ['-F', file, 'Dev.vm', 'true'], { env });
  assert.equal(execFileSync('cat', [marks], { encoding: 'utf8' }), 'vm\nssh-proxy\ndev.vm\n');
  const seen = execFileSync('cat', [`${marks}.env`], { encoding: 'utf8' });
  assert.match(seen, /^XDG_STATE_HOME=\/home\/dev\/my state$/m);
  assert.doesNotMatch(seen, /^BANGER_HOME/m);
});

test('paths that ssh or a shell would read as something else are refused', () => {
  for (const path of ["/it's", '/a"b', '/a\\b', '/$x', '/a\nb']) {
    for (const key of ['identityFile', 'knownHostsFile', 'launcher'] as const)
      assert.throws(() => clientConfig({ ...facts, [key]: path }), BangerError, `${key} ${path}`);
  }
});
