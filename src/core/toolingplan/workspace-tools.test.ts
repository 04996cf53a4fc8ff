import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planTools } from './plan.ts';
import { withTools, workspaceTools } from './workspace-tools.ts';

const workspace = { guestPath: '/root/repo', tools: null };
const tools = { required: true, trust: [], extra: ['go@1.22'], mise: '/bin/mise' };

test('a command in the workspace is wrapped once the tools are there', () => {
  const wrap = (argv: readonly string[], cwd: string) => withTools(argv, cwd, { ...workspace, tools });
  assert.deepEqual(wrap(['make', '-k'], '/root/repo'), ['/bin/mise', 'exec', 'go@1.22', '--', 'make', '-k']);
  assert.deepEqual(wrap(['make'], '/root/repo/sub'), ['/bin/mise', 'exec', 'go@1.22', '--', 'make']);
  for (const cwd of ['', '/', '/root/repository', 'repo']) assert.deepEqual(wrap(['make'], cwd), ['make']);
  assert.deepEqual(wrap([], '/root/repo'), [], 'a shell');
  assert.deepEqual(withTools(['make'], '/root/repo', workspace), ['make']);
  assert.deepEqual(withTools(['make'], '/root/repo', null), ['make']);
  const { mise: _, ...notYet } = tools;
  assert.deepEqual(withTools(['make'], '/root/repo', { ...workspace, tools: notYet }), ['make']);
});

test('what stays with the VM', () => {
  assert.equal(workspaceTools(planTools([])), null);
  assert.equal(workspaceTools(planTools([{ file: 'mise.toml', text: '[env]\nA = 1' }])), null);
  const plan = planTools([
    { file: 'mise.toml', text: '[tools]\nnode = "20"' },
    { file: 'go.mod', text: 'go 1.22' },
  ]);
  assert.deepEqual(workspaceTools(plan), { required: true, trust: ['mise.toml'], extra: ['go@1.22'] });
});
