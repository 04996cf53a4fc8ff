/* PACK: sends files, trees, or what there is at a path, as an archive. */
#ifndef BANGER_PACK_H
#define BANGER_PACK_H

#include <stdint.h>

#include "bytes.h"

void pack_open(uint32_t id, struct reader *reader);

#endif
