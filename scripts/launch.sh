# Sourced by bin/banger and bin/bangerd with $root set: the quick path to a program that is set up already.
# Every command here but the last costs each start; so no subprocess but one find.

# Programs used at run time; which package brings each is in scripts/setup.sh.
host_programs='qemu-system-x86_64 qemu-img mmdebstrap mke2fs debugfs git xz'

is_set_up() {
  [ -x "$root/node_modules/.bin/node" ] && [ -e "$root/dist/stamp" ] && [ -x "$root/build/guest/banger-agent" ] || return 1
  [ -z "$(find "$root/src" "$root/guest" "$root/scripts" "$root/package-lock.json" -newer "$root/dist/stamp" -type f -print -quit)" ] || return 1
  for tool in $host_programs; do
    command -v "$tool" >/dev/null || return 1
  done
}

launch() {
  program=$1
  shift
  # mke2fs and debugfs lie in the administrator's directories, which are not in every user's PATH.
  PATH=$PATH:/usr/sbin:/sbin
  export PATH
  if ! is_set_up; then sh "$root/scripts/setup.sh" >&2; fi
  # Compiled code is kept beside the bundle, where its owner may write; elsewhere Node does without.
  export NODE_COMPILE_CACHE="$root/dist/cache"
  case $program in
    banger) bundle=banger.cjs ;;
    *) bundle=$program.js ;;
  esac
  exec "$root/node_modules/.bin/node" "$root/dist/$bundle" "$@"
}
