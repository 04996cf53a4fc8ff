/* UNPACK: writes an archive of the host's below a directory. */
#ifndef BANGER_UNPACK_H
#define BANGER_UNPACK_H

#include <stdint.h>

#include "bytes.h"

void unpack_open(uint32_t id, struct reader *reader);

#endif
