/** What the state library throws beyond BangerError's plain codes: named as the seed document names them. */

import { BangerError, type BangerErrorOptions } from '../core/errors.ts';
import { visible } from './visible.ts';

/** Which check refused an artifact, in about the order of the checks. */
export type VerifyReason =
  | 'size'
  | 'manifest'
  | 'version'
  | 'kind'
  | 'format'
  | 'encoding'
  | 'encoded_checksum'
  | 'decode'
  | 'payload_size'
  | 'checksum'
  | 'digest'
  | 'control_model_version'
  | 'cache_schema_version'
  | 'migration_version'
  | 'schema'
  | 'grammar'
  | 'rows'
  | 'redump';

/** An artifact that is not what it says, or not for this program. Nothing was made or changed. */
export class ErrVerify extends BangerError {
  readonly reason: VerifyReason;

  /**
   * The message the user sees is `<reason>: <message>`: the reason survives the RPC in it. Parts of `message` may come
   * out of the artifact.
   */
  constructor(reason: VerifyReason, message: string, options: BangerErrorOptions = {}) {
    super('verify_failed', `${reason}: ${visible(message)}`, options);
    this.name = 'ErrVerify';
    this.reason = reason;
  }
}

/** There is a state database already, and nobody said that it may be replaced. */
export class ErrNotFresh extends BangerError {
  constructor(message: string, options: BangerErrorOptions = {}) {
    super('not_fresh', message, options);
    this.name = 'ErrNotFresh';
  }
}
