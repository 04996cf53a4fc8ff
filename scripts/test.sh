#!/bin/sh
# npm test [-- unit|vm|FILE…]: everything by default. Real VMs are booted from an image built once and kept in build/.
#   unit   tests beside their sources, and those of test/ that need no VM
#   vm     test/vm: real VMs
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh --dev
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
export PATH
. scripts/artifacts.sh
what=${1:-all}

run_node_tests() {
  concurrency=$1
  shift
  node --test --test-reporter=spec --test-concurrency="$concurrency" "$@"
}

unit_files() {
  find src test -name '*.test.ts' ! -path 'test/vm/*' | sort
}

vm_files() {
  find test/vm -name '*.test.ts' | sort
}

case $what in
  unit)
    make -s -C guest test
    run_node_tests 2 $(unit_files)
    ;;
  vm)
    prepare_artifacts
    run_node_tests 1 $(vm_files)
    ;;
  all)
    make -s -C guest test
    run_node_tests 2 $(unit_files)
    prepare_artifacts
    run_node_tests 1 $(vm_files)
    ;;
  *)
    prepare_artifacts
    run_node_tests 1 "$@"
    ;;
esac
