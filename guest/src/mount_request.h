/* The parameters of a MOUNT. */
#ifndef BANGER_MOUNT_REQUEST_H
#define BANGER_MOUNT_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "user.h"

#define MOUNT_READ_ONLY 1U
#define MAX_LABEL_BYTES 32

struct mount_request {
	char device[256];
	char type[16];
	char target[MAX_PATH_BYTES];
	uint32_t flags;
	char label[MAX_LABEL_BYTES + 1];
};

/* Decodes the payload behind the operation byte; false when anything about it is wrong. */
bool mount_request_decode(struct reader *reader, struct mount_request *request);

#endif
