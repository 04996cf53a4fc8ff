#!/bin/sh
# Types (twice: core alone without Node's, then everything), lint, format, dead code, architecture. Side by side: seconds.
set -u
cd "$(dirname "$0")/.."
sh scripts/setup.sh || exit
PATH=$PWD/node_modules/.bin:$PATH
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT INT TERM

start() {
  name=$1
  shift
  { "$@" >"$log/$name" 2>&1 && echo ok >"$log/$name.ok"; } &
}
start types tsc -p tsconfig.json
start types-of-core tsc -p tsconfig.core.json
start lint oxlint --type-aware --deny-warnings
start format biome format .
start dead-code knip
start architecture node --test --test-reporter=dot test/architecture.test.ts
wait

failed=0
for name in types types-of-core lint format dead-code architecture; do
  if [ -e "$log/$name.ok" ]; then
    echo "check: $name ok"
  else
    failed=1
    echo "check: $name FAILED"
    cat "$log/$name"
  fi
done
exit $failed
