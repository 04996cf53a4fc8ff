/* POWEROFF: ends every program, then the machine. */
#ifndef BANGER_POWER_H
#define BANGER_POWER_H

#include <stdint.h>

#include "bytes.h"

void power_open(uint32_t id, struct reader *reader);

#endif
