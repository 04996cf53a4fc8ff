/** Images and kernels as the store and the artifact directories keep them. */

/** A row of the `images` table: same columns as the Go program's, so that its users can move over. */
export interface ImageRecord {
  readonly id: string;
  readonly name: string;
  /** Artifacts lie in banger's own directory (built, pulled, promoted), not at host paths of the user. */
  readonly managed: boolean;
  readonly artifactDir: string;
  readonly rootfsPath: string;
  readonly workSeedPath: string | null;
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly modulesDir: string;
  /** Bytes the root file system occupied when it was built. */
  readonly buildSize: string;
  readonly seededSshPublicKeyFingerprint: string | null;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** `images/<name>/manifest.json`: written last, by the publishing rename. */
export interface ImageManifest {
  readonly manifestVersion: 1;
  readonly name: string;
  readonly distro: string;
  readonly arch: 'amd64' | 'arm64';
  readonly kernelName: string;
  readonly rootfs: {
    readonly file: string;
    readonly format: 'raw' | 'qcow2';
    readonly sizeBytes: number;
    readonly virtualSizeBytes: number;
    readonly sha256: string;
  };
  readonly source: string;
  readonly builtAt: string;
  /** Packages with versions, for an image built from a distribution. */
  readonly packages: readonly string[];
}

/** `kernels/<name>/manifest.json`. */
export interface KernelManifest {
  readonly manifestVersion: 1;
  readonly name: string;
  readonly distro: string;
  readonly arch: 'amd64' | 'arm64';
  /** `uname -r` of the kernel. */
  readonly release: string;
  readonly vmlinux: { readonly file: string; readonly sizeBytes: number; readonly sha256: string };
  /** Module files in the order to load them, by the transport that needs them. Paths relative to the kernel's directory. */
  readonly modules: {
    readonly mmio: readonly string[];
    readonly pci: readonly string[];
    /** After those, where the agent is reached over vsock. Left out by versions that knew no such VMM. */
    readonly vsock?: readonly string[] | undefined;
  };
  readonly source: string;
  readonly importedAt: string;
}
