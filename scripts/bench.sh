#!/bin/sh
# npm run bench [-- NAME…]: figures as ratios against baselines of the same run; exit status 1 when a bar is missed.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh
. scripts/artifacts.sh
prepare_artifacts
exec node_modules/.bin/node bench/main.bench.ts "$@"
