/** `image warm`: makes the template that VMs of one shape start from, before anybody waits for it. */

import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { ImageWarmed } from '../../../api/results/image.ts';
import { checkVmSpec, type VmPolicy } from '../../../core/policy/vm-policy.ts';
import type { OperationHandle } from '../../operations.ts';
import type { ImageService } from '../images/image-service.ts';
import type { PlatformService } from '../images/platform-service.ts';
import type { TemplateService } from './template-service.ts';
import { templateView } from './template-view.ts';

export interface ImageWarmDeps {
  readonly images: ImageService;
  readonly platforms: PlatformService;
  readonly templates: TemplateService;
  readonly policy: VmPolicy;
  readonly defaultImage: string;
}

export class ImageWarm {
  readonly #deps: ImageWarmDeps;

  constructor(deps: ImageWarmDeps) {
    this.#deps = deps;
  }

  /**
   * For the shape that `vm create` would have with the same parameters. The image is built first where it is missing.
   * @throws {BangerError} `bad_request`, `not_found` (image), `unsupported`, `limit_exceeded`, what a boot throws
   */
  async warm(params: CheckedParamsOf<'image.warm'>, operation: OperationHandle): Promise<ImageWarmed> {
    const begun = performance.now();
    const { images, platforms, templates, policy, defaultImage } = this.#deps;
    const { vcpus, memoryMib } = checkVmSpec(
      {
        vcpus: params.vcpus ?? policy.defaults.vcpus.value,
        memoryMib: params.memoryMib ?? policy.defaults.memoryMib.value,
      },
      policy,
    );
    templates.assertSupported();
    const image = await images.ensure(params.name ?? defaultImage, operation);
    operation.about(image.record.name);
    const platform = await platforms.platform(params.accel ?? policy.accel, image.kernel, operation);
    const { template, existed } = await templates.ensure({ image, platform, vcpus, memoryMib }, operation);
    return {
      image: image.record.name,
      existed,
      template: templateView(template),
      elapsedMs: performance.now() - begun,
    };
  }
}
