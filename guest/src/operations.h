/* The operations an OPEN frame can ask for. */
#ifndef BANGER_OPERATIONS_H
#define BANGER_OPERATIONS_H

#include <stdint.h>

#include "bytes.h"

enum operation {
	OPERATION_EXEC = 1,
	OPERATION_CONFIGURE = 2,
	OPERATION_HEALTH = 3,
	OPERATION_PORTS = 4,
	OPERATION_CLOCK = 5,
	OPERATION_RESEED = 6,
	OPERATION_SYNC = 7,
	OPERATION_POWEROFF = 8,
	OPERATION_MOUNT = 9,
	OPERATION_CONNECT = 10,
	OPERATION_PREPARE_COPIES = 11,
	OPERATION_UNPACK = 12,
	OPERATION_PACK = 13,
};

/* Starts the operation in the payload of an OPEN frame, or answers why not. */
void operation_open(uint32_t id, const uint8_t *payload, uint32_t length);

#endif
