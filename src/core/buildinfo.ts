/** Which banger this is: stamped into the bundle by scripts/build.ts; run from the sources it is a development build. */

export interface BuildInfo {
  /** As in package.json. */
  readonly version: string;
  /** Twelve hex digits, `-dirty` behind them when the tree differed; `unknown` outside a checkout. */
  readonly commit: string;
  /** RFC 3339. */
  readonly builtAt: string;
  /** Digest of everything that went into the bundle: two builds of one version may still differ. */
  readonly buildId: string;
}

/** Replaced by the bundler. */
declare const __BANGER_BUILD__: BuildInfo | undefined;

const DEVELOPMENT: BuildInfo = {
  version: '0.1.0',
  commit: 'unknown',
  builtAt: 'from sources',
  buildId: 'sources',
};

export const BUILD: BuildInfo = typeof __BANGER_BUILD__ === 'undefined' ? DEVELOPMENT : __BANGER_BUILD__;

/** What client and daemon compare: they must be of one build. */
export const HANDSHAKE_VERSION: string = `${BUILD.version}+${BUILD.buildId}`;
