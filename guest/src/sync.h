/* SYNC: everything written so far is on disk. */
#ifndef BANGER_SYNC_H
#define BANGER_SYNC_H

#include <stdint.h>

void sync_open(uint32_t id);

#endif
