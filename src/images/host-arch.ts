/** This host's architecture in Debian's words; undefined when banger makes nothing for it. */
export function hostArch(): 'amd64' | 'arm64' | undefined {
  if (process.arch === 'x64') return 'amd64';
  return process.arch === 'arm64' ? 'arm64' : undefined;
}
