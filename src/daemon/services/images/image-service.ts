/** Images: the store's rows over published artifact directories, and building the ones banger knows how to make. */

import { join } from 'node:path';
import type { ImageEntry, ImageView } from '../../../api/results/image.ts';
import type { Progress } from '../../../api/contract.ts';
import { BangerError } from '../../../core/errors.ts';
import type { ImageManifest, ImageRecord } from '../../../core/model/image.ts';
import { assertImageName } from '../../../core/names.ts';
import { now } from '../../../host/clock.ts';
import { newId } from '../../../host/ids.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { buildImage, IMAGE_RECIPES } from '../../../images/image-build.ts';
import { readImageManifest } from '../../../images/manifests.ts';
import type { Store } from '../../../store/store.ts';
import type { OperationHandle } from '../../operations.ts';
import { SingleFlight } from '../../single-flight.ts';
import { imageRecord } from './image-record.ts';
import type { KernelService, LocalKernel } from './kernel-service.ts';
import type { ListedTemplate } from '../templates/template-service.ts';
import { templateView } from '../templates/template-view.ts';

export interface LocalImage {
  readonly record: ImageRecord;
  readonly manifest: ImageManifest;
  readonly kernel: LocalKernel;
}

export interface ImageServiceDeps {
  readonly paths: BangerPaths;
  readonly runner: CommandRunner;
  readonly store: Store;
  readonly kernels: KernelService;
  /** Of all images. */
  readonly listTemplates: () => Promise<readonly ListedTemplate[]>;
  /** There is a new image, perhaps in the place of another one. */
  readonly onBuilt: () => void;
}

export class ImageService {
  readonly #paths: BangerPaths;
  readonly #runner: CommandRunner;
  readonly #store: Store;
  readonly #kernels: KernelService;
  readonly #listTemplates: ImageServiceDeps['listTemplates'];
  readonly #onBuilt: () => void;
  readonly #flights = new SingleFlight<ImageManifest, Progress>();

  constructor(deps: ImageServiceDeps) {
    this.#listTemplates = deps.listTemplates;
    this.#onBuilt = deps.onBuilt;
    this.#paths = deps.paths;
    this.#runner = deps.runner;
    this.#store = deps.store;
    this.#kernels = deps.kernels;
  }

  /**
   * An image ready to boot, with its kernel: built first where it is missing and banger knows how.
   * @throws {BangerError} `not_found`; whatever the build throws
   */
  async ensure(name: string, operation: OperationHandle): Promise<LocalImage> {
    assertImageName(name);
    const known = this.#store.getImageByName(name);
    const manifest = await readImageManifest(join(this.#paths.imagesDir, name));
    if (known !== undefined && manifest !== undefined) {
      return { record: known, manifest, kernel: await this.#kernels.ensure(manifest.kernelName, operation) };
    }
    return await this.#buildAndRegister(name, operation, false);
  }

  /** The image as it is here, with its kernel; undefined when either is missing. Makes nothing. */
  async find(name: string): Promise<LocalImage | undefined> {
    const record = this.#store.getImageByName(name);
    const manifest = record && (await readImageManifest(record.artifactDir));
    const kernel = manifest && (await this.#kernels.find(manifest.kernelName));
    return record && manifest && kernel && { record, manifest, kernel };
  }

  /**
   * Builds an image by name. Kept as it is when it is there already, unless forced.
   * @throws {BangerError} `not_found` (no recipe of that name), `in_use` (forced, but VMs stand on it)
   */
  async build(name: string, force: boolean, operation: OperationHandle): Promise<ImageView> {
    assertImageName(name);
    if (force) this.#assertReplaceable(name);
    await this.#buildAndRegister(name, operation, force);
    return await this.show(name);
  }

  /** All of them: a broken one is listed with what is wrong with it. */
  async list(): Promise<readonly ImageEntry[]> {
    const templates = await this.#listTemplates();
    return await Promise.all(this.#store.listImages().map((record) => this.#entry(record, templates)));
  }

  /** @throws {BangerError} `not_found` */
  async show(name: string): Promise<ImageView> {
    const record = this.#store.getImageByName(name);
    if (record === undefined) throw notFound(name);
    return await this.#view(record, await this.#listTemplates());
  }

  async #buildAndRegister(name: string, operation: OperationHandle, force: boolean): Promise<LocalImage> {
    const recipe = IMAGE_RECIPES[name];
    const dir = join(this.#paths.imagesDir, name);
    const published = await readImageManifest(dir);
    if (recipe === undefined && published === undefined) throw notFound(name);
    if (published === undefined || force) {
      const text = `building image ${name} from its distribution's packages, which takes minutes the first time`;
      operation.progress({ step: 'build_image', text, announce: true });
    }
    // Kernel and root file system come from the same mirror and the same two cores: one after the other.
    const kernelName = recipe?.kernelName ?? published?.kernelName;
    if (kernelName === undefined) throw notFound(name);
    const kernel = await this.#kernels.ensure(kernelName, operation);
    const manifest =
      published !== undefined && !force
        ? published
        : await this.#flights.join(
            name,
            { signal: operation.signal, onProgress: operation.progress },
            (signal, onProgress) => {
              const { imagesDir, scratchDir } = this.#paths;
              const runner = this.#runner;
              // Minutes go by: a VM that was made on the old image meanwhile would find another one under its disk.
              const beforePublish = (): void => this.#assertReplaceable(name);
              return buildImage({
                name,
                imagesDir,
                scratchDir,
                runner,
                signal,
                onProgress,
                kernelName,
                beforePublish,
              });
            },
          );
    const record = this.#register(name, dir, manifest, kernel);
    if (manifest !== published) this.#onBuilt();
    return { record, manifest, kernel };
  }

  #register(name: string, dir: string, manifest: ImageManifest, kernel: LocalKernel): ImageRecord {
    const known = this.#store.getImageByName(name);
    const at = now();
    const id = known?.id ?? newId();
    this.#store.upsertImage(
      imageRecord({ id, dir, manifest, kernel, createdAt: known?.createdAt ?? at, updatedAt: at }),
    );
    const record = this.#store.getImageByName(name);
    if (record === undefined) throw new Error(`image ${name} vanished while it was being registered`);
    return record;
  }

  #assertReplaceable(name: string): void {
    const record = this.#store.getImageByName(name);
    if (record === undefined) return;
    const users = this.#usedBy(record);
    if (users.length === 0) return;
    throw new BangerError('in_use', `image "${record.name}" is the disk under VM ${users.join(', ')}`, {
      hint: `banger vm delete ${users.join(' ')}`,
    });
  }

  async #entry(record: ImageRecord, templates: readonly ListedTemplate[]): Promise<ImageEntry> {
    try {
      return { ...(await this.#view(record, templates)), problem: null };
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      const { id, name, artifactDir, createdAt } = record;
      const problem = error.hint === undefined ? error.message : `${error.message}: ${error.hint}`;
      return { id, name, artifactDir, createdAt, usedBy: this.#usedBy(record), problem };
    }
  }

  #usedBy({ id }: ImageRecord): readonly string[] {
    return this.#store.vmsUsingImage(id).map((vm) => vm.name);
  }

  async #view(record: ImageRecord, templates: readonly ListedTemplate[]): Promise<ImageView> {
    const manifest = await readImageManifest(record.artifactDir);
    if (manifest === undefined) {
      throw new BangerError(
        'io_error',
        `image "${record.name}" has lost its files in ${record.artifactDir}`,
        {
          hint: `banger image build ${record.name} makes them again`,
        },
      );
    }
    const { sha256 } = manifest.rootfs;
    const own = templates.filter((template) => template.manifest.image.rootfsSha256 === sha256);
    return {
      ...manifest,
      templates: own.map(templateView),
      id: record.id,
      artifactDir: record.artifactDir,
      createdAt: record.createdAt,
      usedBy: this.#usedBy(record),
    };
  }
}

function notFound(name: string): BangerError {
  return new BangerError('not_found', `no image "${name}"`, {
    hint: `images banger can make: ${Object.keys(IMAGE_RECIPES).join(', ')}; those here: banger image list`,
  });
}
