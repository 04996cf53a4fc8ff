/* Paths below a directory, of which no part is a symbolic link that is followed. */
#ifndef BANGER_PLACE_H
#define BANGER_PLACE_H

#include <stddef.h>
#include <stdint.h>

#include "made.h"

/*
 * Opens the directory that the first `length` bytes of a path name below `base` (none: `base` itself, anew). With `made` missing ones are
 * made, 0755, and added there. Returns a descriptor, or -1 with errno: ENOENT; ENOTDIR and ELOOP when something else is in the way, of which
 * `*reached` is then the length of the path to it (also of what is missing).
 */
int place_open(int base, const char *path, size_t length, struct made *made, size_t *reached);
/* Where the path's last component begins; what is before it, less a slash, names its parent. */
const char *place_name(const char *path);
size_t place_parent_length(const char *path);
/* "/proc/self/fd/N/name": the calls for extended attributes know no directory descriptors. */
#define PLACE_LINK_BYTES 300
void place_link(char *target, int directory, const char *name);

#endif
