/** Keys and self-signed certificates, made for one test by openssl. */

import { readFileSync } from 'node:fs';
import { createRunner } from '../../src/host/runner.ts';
import type { Scratch } from './fixture.ts';

export interface Certificate {
  /** PEM. */
  readonly key: string;
  readonly certificate: string;
  readonly certificatePath: string;
}

export async function makeCertificate(scratch: Scratch, hosts: readonly string[]): Promise<Certificate> {
  const keyPath = scratch.path('key.pem');
  const certificatePath = scratch.path('certificate.pem');
  const names = hosts.map((host) => `DNS:${host}`).join();
  await createRunner().run([
    'openssl',
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-keyout', keyPath, '-out', certificatePath, '-subj', '/CN=banger test'],
    ...['-addext', `subjectAltName=${names}`],
  ]);
  return {
    key: readFileSync(keyPath, 'utf8'),
    certificate: readFileSync(certificatePath, 'utf8'),
    certificatePath,
  };
}
