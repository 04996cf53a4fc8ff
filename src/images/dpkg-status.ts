/** The packages in a dpkg database. Source: dpkg-query(1), deb-control(5). */

/** `name=version` of every installed package, sorted. */
export function installedPackages(status: string): readonly string[] {
  const packages: string[] = [];
  for (const record of status.split('\n\n')) {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(record)?.[1];
    const name = field('Package');
    const version = field('Version');
    if (name !== undefined && version !== undefined && field('Status') === 'install ok installed') {
      packages.push(`${name}=${version}`);
    }
  }
  return packages.sort();
}
