#!/bin/sh
# npm test [-- unit|images|vm|FILE…]: everything by default. Real VMs are booted from an image built once and kept in build/.
#   unit     tests beside their sources, and those of test/ that need no VM
#   images   test/images: builds real images, as root and as an ordinary user
#   vm       test/vm and test/vmm: real VMs
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh --dev
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
export PATH
# Hundreds of test processes load the same modules: what Node makes of one is kept, its types taken out.
export NODE_COMPILE_CACHE=$PWD/build/compile-cache
. scripts/artifacts.sh
what=${1:-all}

run_node_tests() {
  concurrency=$1
  shift
  node --test --test-reporter=spec --test-concurrency="$concurrency" "$@"
}

unit_files() {
  find src test -name '*.test.ts' ! -path 'test/vm/*' ! -path 'test/vmm/*' ! -path 'test/images/*' | sort
}

image_files() {
  find test/images -name '*.test.ts' | sort
}

vm_files() {
  find test/vmm test/vm -name '*.test.ts' | sort
}

# Three at once on two processors: some wait for a download, a disk or a time to pass. Virtual machines are work enough for two.
unit() {
  run_node_tests 3 $(unit_files)
}

images() {
  run_node_tests 2 $(image_files)
}

vm() {
  prepare_artifacts
  prepare_warm_home
  run_node_tests 2 $(vm_files)
}

case $what in
  unit | images | vm) "$what" ;;
  all)
    # Builds of images wait more than they work: beside the unit tests.
    run_node_tests 3 $(unit_files) $(image_files)
    vm
    ;;
  *)
    prepare_artifacts
    run_node_tests 1 "$@"
    ;;
esac
