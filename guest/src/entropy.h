/* The kernel's random pool. */
#ifndef BANGER_ENTROPY_H
#define BANGER_ENTROPY_H

#include "bytes.h"

#define MIN_ENTROPY_BYTES 16
#define MAX_ENTROPY_BYTES 512

/*
 * Mixes bytes of the host in, credits them, and makes the generator use them at once: a clone of a frozen machine has the
 * same pool as its siblings. Returns 0 or an errno.
 */
int entropy_add(struct text bytes);

#endif
