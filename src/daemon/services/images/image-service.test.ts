import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { someImage } from '../../../../test/helpers/store-records.ts';
import { createRunner } from '../../../host/runner.ts';
import { openStore } from '../../../store/store.ts';
import { ImageService } from './image-service.ts';
import { KernelService } from './kernel-service.ts';

test('a broken image or kernel is listed with what is wrong with it, and hides no other', async () => {
  using state = new StateDirectory();
  const { paths } = state;
  using store = openStore(paths.stateDb);
  for (const name of ['damaged', 'gone', 'sound']) {
    state.addImage(name);
    store.upsertImage(someImage({ name, artifactDir: join(paths.imagesDir, name) }));
  }
  rmSync(join(paths.imagesDir, 'gone'), { recursive: true });
  writeFileSync(join(paths.imagesDir, 'damaged', 'manifest.json'), '{');
  const runner = createRunner();
  const kernels = new KernelService({ paths, runner, store, onBuilt: () => undefined });
  const images = new ImageService({
    ...{ paths, runner, store, kernels },
    listTemplates: async () => [],
    onBuilt: () => undefined,
  });

  const listed = new Map((await images.list()).map((image) => [image.name, image.problem]));
  assert.equal(listed.get('sound'), null);
  assert.match(listed.get('gone') ?? '', /"gone" has lost its files in .*: banger image build gone/);
  assert.match(listed.get('damaged') ?? '', /damaged\/manifest\.json is not JSON/);
  await assert.rejects(images.show('gone'), /has lost its files/);

  for (const name of ['cloud', 'other']) state.addKernel(name);
  writeFileSync(join(paths.kernelsDir, 'other', 'manifest.json'), '{');
  const [sound, broken] = await kernels.list();
  assert.equal(sound?.problem, null);
  assert.match(broken?.problem ?? '', /^kernel "other": .*manifest\.json is not JSON$/);
});
