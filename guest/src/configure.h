/* CONFIGURE: makes this machine the one the host wants. */
#ifndef BANGER_CONFIGURE_H
#define BANGER_CONFIGURE_H

#include <stdint.h>

#include "bytes.h"

void configure_open(uint32_t id, struct reader *reader);

#endif
