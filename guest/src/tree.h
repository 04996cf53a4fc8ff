/* Directories and files put in place. */
#ifndef BANGER_TREE_H
#define BANGER_TREE_H

#include <stdbool.h>
#include <sys/types.h>

#include "bytes.h"

/* Makes a directory and its missing parents, 0755; new ones belong to uid and gid. Returns 0 or an errno. */
int tree_make(const char *path, uid_t uid, gid_t gid);
/* Makes the missing parents of a path. Returns 0 or an errno. */
int tree_make_parents(const char *path, uid_t uid, gid_t gid);
/* Replaces a file: written beside it under another name, then renamed. Returns 0 or an errno. */
int tree_write(const char *path, mode_t mode, uid_t uid, gid_t gid, struct text content);
/*
 * The same for what the host says of the machine at each of its starts: a file that is so already is left alone, and a small
 * one is overwritten in its place, by one call. That takes an emulated guest a tenth of what a new file takes. A program that
 * reads it at that very moment may see some of both; a crash in between is mended by the next start.
 */
int tree_settle(const char *path, mode_t mode, uid_t uid, gid_t gid, struct text content);
/*
 * Whether something is there that is no file, or is one whose first line is another than the content's. An empty file, or one of an
 * empty line, is not foreign. */
bool tree_is_foreign(const char *path, struct text content);

#endif
