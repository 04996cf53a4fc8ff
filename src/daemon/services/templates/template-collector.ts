/**
 * Which templates something can still start from. A template's key can come again only while the image, the kernel, the
 * agent, the VMM and what was found to work on this host are what they were: the key is made anew of what is here now.
 */

import type { AcceleratorChoice } from '../../../core/model/vm.ts';
import { BangerError } from '../../../core/errors.ts';
import type { Template } from '../../../frozen/template-store.ts';
import type { ImageService, LocalImage } from '../images/image-service.ts';
import type { PlatformService } from '../images/platform-service.ts';
import type { TemplateKeys } from './template-keys.ts';

const CHOICES: readonly AcceleratorChoice[] = ['auto', 'kvm', 'tcg'];

export class TemplateCollector {
  readonly #images: Pick<ImageService, 'find' | 'list'>;
  readonly #platforms: Pick<PlatformService, 'known'>;
  readonly #keys: Pick<TemplateKeys, 'of'>;

  constructor(deps: {
    images: Pick<ImageService, 'find' | 'list'>;
    platforms: Pick<PlatformService, 'known'>;
    keys: Pick<TemplateKeys, 'of'>;
  }) {
    this.#images = deps.images;
    this.#platforms = deps.platforms;
    this.#keys = deps.keys;
  }

  /** In doubt (an image that cannot be read, a host not probed since something changed) it is: its time to be evicted comes. */
  async isUseful(template: Template, signal: AbortSignal): Promise<boolean> {
    const { manifest } = template;
    try {
      const images = await this.#images.list();
      const image = images.find(
        (one) => one.problem === null && one.rootfs.sha256 === manifest.image.rootfsSha256,
      );
      // A broken image may be the one.
      if (image === undefined) return images.some(({ problem }) => problem !== null);
      const local = await this.#images.find(image.name);
      if (local === undefined) return true;
      return await this.#canComeAgain(template, local, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof BangerError)) throw error;
      return true;
    }
  }

  async #canComeAgain({ key, manifest }: Template, image: LocalImage, signal: AbortSignal): Promise<boolean> {
    const { vcpus, memoryMib, accelerator } = manifest;
    const known = await Promise.all(CHOICES.map((accel) => this.#platforms.known(accel, image.kernel)));
    const platforms = known.filter((platform) => platform?.accelerator === accelerator);
    const keys = await Promise.all(
      platforms.flatMap((platform) =>
        platform === undefined
          ? []
          : [this.#keys.of({ image, platform, vcpus, memoryMib }, signal).then((facts) => facts.key)],
      ),
    );
    return keys.length === 0 || keys.includes(key);
  }
}
