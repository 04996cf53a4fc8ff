/*
 * The mark on what a host has written: it is gone, or does not fit any more, once somebody else has, or has moved it. `path` is where it
 * is to be, or is, below the base, as in the archive.
 */
#ifndef BANGER_SHIPPED_H
#define BANGER_SHIPPED_H

#include <stdbool.h>
#include <sys/stat.h>

/*
 * Mark a file, or the symbolic link `name` of a directory, as it is now. Return 0 or an errno; a file system without such marks is
 * no error: everything on it counts as written by somebody else.
 */
int shipped_mark_file(int fd, const char *path);
int shipped_mark_link(int directory, const char *name, const char *path);
/*
 * Whether the path's last component, in `directory`, has the mark of what `status` says, or of more of it: a machine that lost its power
 * may keep a file's time, mode and mark and lose what is in it. Whoever else makes a file shorter changes its time.
 */
bool shipped_unchanged(int directory, const char *path, const struct stat *status);

#endif
