import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WorkspaceTools } from '../model/workspace.ts';
import type { ToolingPlan } from './model.ts';
import { planTools } from './plan.ts';
import { toolsAfter, withTools, workspaceTools } from './workspace-tools.ts';

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
  assert.deepEqual(workspaceTools(plan), {
    required: true,
    trust: ['mise.toml'],
    extra: ['go@1.22'],
    asked: ['node@20', 'go@1.22'],
  });
});

test('what is installed counts on while nothing new is asked for', () => {
  const mise = '/bin/mise';
  const plan = (toml: string, go?: string) =>
    planTools([
      { file: 'mise.toml', text: `[tools]\n${toml}` },
      ...(go ? [{ file: 'go.mod', text: go }] : []),
    ]);
  const node = plan('node = "20"');
  const installed = { ...toolsAfter(null, node).tools!, mise };
  const after = (next: ToolingPlan, before: WorkspaceTools = installed): [string | undefined, boolean] => {
    const { tools: found, isNew } = toolsAfter(before, next);
    return [found?.mise, isNew];
  };
  assert.deepEqual(after(node), [mise, false]);
  assert.deepEqual(after(plan('node = "22"')), [undefined, true], 'in the same file');
  assert.deepEqual(after(plan('node = "20"', 'go 1.22')), [undefined, true]);
  const both = { ...toolsAfter(null, plan('node = "20"', 'go 1.22')).tools!, mise };
  assert.deepEqual(after(node, both), [mise, false], 'less than before');
  assert.deepEqual(toolsAfter(installed, planTools([])), { tools: null, isNew: false });
  const { asked: _, ...old } = installed;
  assert.deepEqual(
    after(plan('node = "22"'), old),
    [mise, false],
    'a row of an earlier version does not know',
  );
  assert.equal(toolsAfter(null, node).isNew, true);
});
