# Sourced by test.sh and bench.sh: the image and kernel that real VMs boot from, built once and kept in build/.

prepare_artifacts() {
  [ -z "${BANGER_TEST_ARTIFACTS:-}" ] || return 0
  BANGER_TEST_ARTIFACTS=$PWD/build/artifacts/state
  export BANGER_TEST_ARTIFACTS
  BANGER_HOME=$PWD/build/artifacts ./banger image build debian-bookworm >/dev/null
  BANGER_HOME=$PWD/build/artifacts ./banger vm run --rm -- true
  BANGER_HOME=$PWD/build/artifacts ./banger daemon stop >/dev/null
}
