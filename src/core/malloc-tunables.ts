/**
 * How the daemon's C library keeps its memory. Node starts processes with fork(2), which copies the page tables of all memory
 * that is not a file's: with 100 MiB of it, as after a copy of a guest's memory, 11 to 22 ms for each VMM that is started, and
 * nothing else happens meanwhile. In huge pages it is 3 ms.
 *
 * glibc 2.35 and later: "Memory Allocation Tunables" in its manual. Other C libraries know nothing of the variable.
 */

type Environment = Readonly<Record<string, string | undefined>>;

const VARIABLE = 'GLIBC_TUNABLES';
const HUGE_PAGES = 'glibc.malloc.hugetlb=1';

/** For a daemon that is to be started. Where somebody has said it otherwise already, that stays. */
export function withHugePages(environment: Environment): Environment {
  const tunables = tunablesOf(environment);
  const name = HUGE_PAGES.slice(0, HUGE_PAGES.indexOf('=') + 1);
  if (tunables.some((one) => one.startsWith(name))) return environment;
  return { ...environment, [VARIABLE]: [...tunables, HUGE_PAGES].join(':') };
}

/** For what the daemon starts, which did not ask for it. Undefined: without the variable. */
export function tunablesWithoutHugePages(environment: Environment): string | undefined {
  const tunables = tunablesOf(environment).filter((one) => one !== HUGE_PAGES);
  return tunables.length === 0 ? undefined : tunables.join(':');
}

function tunablesOf(environment: Environment): readonly string[] {
  return (environment[VARIABLE] ?? '').split(':').filter((one) => one !== '');
}
