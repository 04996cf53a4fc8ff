/* CONNECT: a TCP connection from inside the machine, its bytes in both directions. */
#ifndef BANGER_CONNECT_H
#define BANGER_CONNECT_H

#include <stdint.h>

#include "bytes.h"

void connect_open(uint32_t id, struct reader *reader);

#endif
