#ifndef BANGER_LEASES_H
#define BANGER_LEASES_H

/* Where programs of any user ask that the machine not be put to sleep: docs/idle.md. */
#define LEASES_DIR "/run/banger-leases"

/* Makes the directory. Errors are left alone: then nobody can ask. */
void leases_prepare(const char *path);

/*
 * How many are held: files in the directory; one whose name is a number counts while that process exists, and is removed when
 * it is found not to.
 */
unsigned leases_held(const char *path);

#endif
