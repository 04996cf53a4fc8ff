# Sourced by test.sh and bench.sh: the image and kernel that real VMs boot from, built once and kept in build/.

# Makes $BANGER_TEST_WARM: a home with the template that tests start VMs of 512 MiB from, and with what the probe found out on
# this host, so that not each test's home looks again. It lies where those homes are: they link its files.
prepare_warm_home() {
  BANGER_TEST_WARM=$(mktemp -d "${TMPDIR:-/tmp}/bt-warm.XXXXXX")
  export BANGER_TEST_WARM
  trap 'rm -rf "$BANGER_TEST_WARM"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  mkdir -m 700 "$BANGER_TEST_WARM/config" "$BANGER_TEST_WARM/state"
  printf '[vm_defaults]\nmemory = "512MiB"\n' >"$BANGER_TEST_WARM/config/config.toml"
  for kind in images kernels; do ln -s "$BANGER_TEST_ARTIFACTS/$kind" "$BANGER_TEST_WARM/state/$kind"; done
  BANGER_HOME=$BANGER_TEST_WARM ./banger image warm >/dev/null
  BANGER_HOME=$BANGER_TEST_WARM ./banger daemon stop >/dev/null
}

prepare_artifacts() {
  [ -z "${BANGER_TEST_ARTIFACTS:-}" ] || return 0
  BANGER_TEST_ARTIFACTS=$PWD/build/artifacts/state
  export BANGER_TEST_ARTIFACTS
  BANGER_HOME=$PWD/build/artifacts ./banger image build debian-bookworm >/dev/null
  BANGER_HOME=$PWD/build/artifacts ./banger vm run --rm -- true
  BANGER_HOME=$PWD/build/artifacts ./banger daemon stop >/dev/null
}
