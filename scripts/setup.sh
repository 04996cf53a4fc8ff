#!/bin/sh
# Makes a checkout runnable: host packages, npm packages, the guest agent, the bundle. Says what it does and why.
# Safe to interrupt (each part is redone unless it was finished) and to run twice at once (the second waits).
#   usage: setup.sh [--dev]    --dev: also what the tests and fuzzers need
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

say() { echo "banger: $*"; }
fail() {
  say "$*"
  exit 125
}

# program:package, in one place. The run-time ones are checked at every start (scripts/launch.sh).
run_time='qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap mke2fs:e2fsprogs
  debugfs:e2fsprogs git:git xz:xz-utils'
# The kernel's headers come with libc6-dev, which gcc only recommends.
build_time='make:make musl-gcc:musl-tools musl-gcc:libc6-dev cc:gcc cc:libc6-dev'
test_time='sqlite3:sqlite3 unsquashfs:squashfs-tools clang:clang cpio:cpio python3:python3 strace:strace docker-registry:docker-registry
  skopeo:skopeo openssl:openssl ssh:openssh-client ssh-keygen:openssh-client rsync:rsync curl:curl
  ip:iproute2 dnsmasq:dnsmasq-base'

missing_packages() {
  for pair in $1; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
  done | sort -u | tr '\n' ' '
}

install_host_packages() {
  packages=$(missing_packages "$1")
  [ -n "$packages" ] || return 0
  command -v apt-get >/dev/null || fail "these programs are needed and this host has no apt-get: $packages"
  if [ "$(id -u)" = 0 ]; then
    sudo=
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo='sudo -n'
  else
    fail "needs packages of this host; run: sudo apt-get install --no-install-recommends $packages"
  fi
  say "installing the host's packages: $packages(QEMU and the tools that make disks and images)"
  log=build/apt.log
  # Another apt may hold its lock for a while (unattended upgrades); lists may be missing or old.
  if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y \
    --no-install-recommends $packages >"$log" 2>&1; then
    $sudo apt-get -o DPkg::Lock::Timeout=300 -qq update >"$log" 2>&1 || true
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y \
      --no-install-recommends $packages >>"$log" 2>&1 || {
      tail -n 5 "$log"
      fail "apt-get could not install: $packages(whole log: $log)"
    }
  fi
}

install_npm_packages() {
  if [ -x node_modules/.bin/node ] && cmp -s package-lock.json build/npm.stamp; then return 0; fi
  command -v npm >/dev/null || fail "needs npm (any version from 9): sudo apt-get install npm"
  say 'installing npm packages, the pinned Node 24 among them'
  rm -f build/npm.stamp
  npm ci --no-audit --no-fund --loglevel=error >build/npm.log 2>&1 || {
    tail -n 15 build/npm.log
    fail 'npm ci failed (whole log: build/npm.log)'
  }
  [ -x node_modules/.bin/node ] || fail 'npm ci brought no Node for this machine: x64 and arm64 Linux are supported'
  cp package-lock.json build/npm.stamp
}

build_agent() {
  make -s -C guest >build/make.log 2>&1 || {
    tail -n 15 build/make.log
    fail 'the guest agent could not be built (whole log: build/make.log)'
  }
}

build_bundle() {
  newer=$(find src scripts package-lock.json -newer dist/stamp -type f -print -quit 2>/dev/null || echo missing)
  if [ -z "$newer" ] && [ -e dist/stamp ]; then return 0; fi
  say 'bundling the programs'
  node_modules/.bin/node scripts/build.ts
}

mkdir -p build 2>/dev/null && [ -w build ] ||
  fail "this checkout is to be set up, and you cannot write to $PWD; its owner can: npm run build"
exec 9>build/setup.lock
flock -n 9 || {
  say 'another set-up is under way; waiting for it'
  flock 9
}
# Stamped with the time before the work: what changes while it runs is newer than the stamp.
touch build/begun
# Who is not root makes images in a user namespace, for which the ids come from these programs.
[ "$(id -u)" = 0 ] || run_time="$run_time newuidmap:uidmap"
install_host_packages "$run_time $build_time"
[ "${1:-}" != --dev ] || install_host_packages "$test_time"
install_npm_packages
build_agent
build_bundle
touch -r build/begun dist/stamp
