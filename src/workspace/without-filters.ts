/** Settings under which git runs none of the filters that a repository's configuration names (Git LFS among them). */

import type { GitSettings } from './guest-git-config.ts';

/** Through the environment, because a filter's name may hold any character (git-config(1), GIT_CONFIG_COUNT). */
export function withoutFilters(settings: GitSettings): Record<string, string> {
  const names = [...settings.keys()].filter((name) =>
    /^filter\..+\.(?:smudge|clean|process|required)$/s.test(name),
  );
  const variables: Record<string, string> = { GIT_CONFIG_COUNT: String(names.length) };
  for (const [index, name] of names.entries()) {
    variables[`GIT_CONFIG_KEY_${index}`] = name;
    variables[`GIT_CONFIG_VALUE_${index}`] = name.endsWith('.required') ? 'false' : '';
  }
  return variables;
}
