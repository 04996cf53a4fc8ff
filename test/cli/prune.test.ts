import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmView } from '../../src/api/results/vm.ts';
import { type Answers, type FakeOptions, fakeCli, fakeVm } from './fake-cli.ts';

const stopped = (name: string) => fakeVm(name, { state: 'stopped' });

/** Each dry run answers with the next list; the last one is also what is deleted. */
function pruneAnswers(...lists: (readonly VmView[])[]): Answers {
  let next = 0;
  return {
    'vm.prune': ({ dryRun }) => {
      const list = lists[Math.min(next, lists.length - 1)] ?? [];
      if (dryRun) next += 1;
      return list;
    },
  };
}

function deletions(calls: readonly { method: string; params: unknown }[]): number {
  return calls.filter(({ params }) => !(params as { dryRun?: boolean }).dryRun).length;
}

function asking(
  answer: string | null,
  changes: FakeOptions = {},
): FakeOptions & { readonly questions: string[] } {
  const questions: string[] = [];
  return {
    stdinIsTTY: true,
    readLine: async (question) => {
      questions.push(question);
      return answer;
    },
    ...changes,
    questions,
  };
}

test('shows the VMs, asks, and deletes after yes', async () => {
  const options = asking('y', { answers: pruneAnswers([stopped('a'), stopped('b')]) });
  const result = await fakeCli(['vm', 'prune'], options);
  assert.equal(result.status, 0);
  assert.deepEqual(options.questions, ['Delete these 2 VMs and their disks? [y/N] ']);
  assert.match(result.stdout, /^ID +NAME +STATE/);
  assert.match(result.stdout, /a: deleted\nb: deleted\n$/);
  assert.equal(deletions(result.calls), 1);
});

test('anything but yes deletes nothing; status 1', async () => {
  for (const answer of ['', 'n', 'yikes', null]) {
    const result = await fakeCli(['vm', 'prune'], asking(answer, { answers: pruneAnswers([stopped('a')]) }));
    assert.equal(result.status, 1);
    assert.equal(result.stderr, 'nothing deleted\n');
    assert.equal(deletions(result.calls), 0);
  }
});

test('a VM that stopped while the question stood is shown and asked for again', async () => {
  const options = asking('yes', {
    answers: pruneAnswers([stopped('a')], [stopped('a'), stopped('late')]),
  });
  const result = await fakeCli(['vm', 'prune'], options);
  assert.equal(options.questions.length, 2);
  assert.match(result.stderr, /the list has changed/);
  assert.equal(deletions(result.calls), 1);
});

test('--force asks nobody', async () => {
  const options = asking('n', { stdinIsTTY: false, answers: pruneAnswers([stopped('a')]) });
  const result = await fakeCli(['vm', 'prune', '-f'], options);
  assert.equal(result.status, 0);
  assert.deepEqual(options.questions, []);
  assert.equal(result.stdout, 'a: deleted\n');
});

test('nothing to prune is said without a question', async () => {
  const options = asking('n', { answers: pruneAnswers([]) });
  const result = await fakeCli(['vm', 'prune'], options);
  assert.equal(result.status, 0);
  assert.deepEqual(options.questions, []);
  assert.equal(result.stdout, 'nothing to prune\n');
});
