/** Which banger this is. */

/** The version in package.json: a test holds the two together. */
export const VERSION = '0.1.0';

export interface BuildInfo {
  readonly version: string;
  /** Abbreviated commit, with `-dirty` when the tree differed from it; `unknown` outside a checkout and for unbuilt sources. */
  readonly commit: string;
  /** RFC 3339; `unknown` for unbuilt sources. */
  readonly builtAt: string;
  /** Digest of the sources a bundle was made from; `sources` when they run unbuilt. */
  readonly buildId: string;
}

/** Put in by the bundler (scripts/build.ts); not defined when the sources run as they are. */
declare const __BANGER_BUILD__: BuildInfo | undefined;

const FROM_SOURCES: BuildInfo = {
  version: VERSION,
  commit: 'unknown',
  builtAt: 'unknown',
  buildId: 'sources',
};

export const BUILD: BuildInfo = typeof __BANGER_BUILD__ === 'undefined' ? FROM_SOURCES : __BANGER_BUILD__;

/** What a client and a daemon compare: two builds of one version are no match for each other while the contract grows. */
export const HANDSHAKE_VERSION = `${BUILD.version}+${BUILD.buildId}`;

/** `banger 0.1.0 (3f2a9c01d4e5)` */
export function versionLine(program: string): string {
  return `${program} ${BUILD.version} (${BUILD.commit})`;
}
