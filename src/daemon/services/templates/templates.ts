/** Puts the parts of the template service together. */

import { TemplateStore } from '../../../frozen/template-store.ts';
import type { Log } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import type { VmmDriver } from '../../../vmm/driver.ts';
import { FileVerifier } from '../images/file-verifier.ts';
import type { PlatformService } from '../images/platform-service.ts';
import { TemplateKeys } from './template-keys.ts';
import { TemplateMaker } from './template-maker.ts';
import { TemplateService } from './template-service.ts';

export function makeTemplates(deps: {
  readonly paths: BangerPaths;
  readonly driver: VmmDriver;
  readonly platforms: PlatformService;
  readonly runner: CommandRunner;
  readonly log: Log;
  readonly maxBytes: number;
}): { readonly keys: TemplateKeys; readonly templates: TemplateService } {
  const { paths, driver, platforms, runner, log, maxBytes } = deps;
  const store = new TemplateStore(paths.templatesDir);
  const keys = new TemplateKeys({ paths, driver, platforms });
  const templates = new TemplateService({
    store,
    keys,
    maker: new TemplateMaker({ paths, driver, runner, store, log }),
    verifier: new FileVerifier(runner),
    log,
    maxBytes,
  });
  return { keys, templates };
}
