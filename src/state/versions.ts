/** Versions that decide whether a snapshot means here what it meant where it was made. */

/** What the rows mean. Raised when a column gets another meaning without a migration that says so. */
export const CONTROL_MODEL_VERSION = 1;

/** How images/, kernels/ and vms/ are laid out: rows name paths in them. */
export const CACHE_SCHEMA_VERSION = 1;
