/* The parameters of UNPACK and PACK. */
#ifndef BANGER_ARCHIVE_REQUEST_H
#define BANGER_ARCHIVE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "user.h"

#define MAX_PACK_PATHS 65536

enum unpack_flag {
	/* What is written gets the mark of what was shipped. */
	UNPACK_MARK = 1,
	/* The base is not made if missing. */
	UNPACK_BASE_MUST_EXIST = 2,
};

enum pack_flag {
	/* The top one is what a symbolic link there leads to. */
	PACK_FOLLOW = 1,
	/* Only what is at the paths themselves: no content, nothing below a directory. */
	PACK_ENTRY_ONLY = 2,
};

struct unpack_request {
	/* Absolute; `upper` may be empty. */
	char base[MAX_PATH_BYTES], upper[MAX_PATH_BYTES];
	/* Below the base, or empty. */
	char staging[MAX_PATH_BYTES];
	uint32_t flags;
};

struct pack_request {
	char base[MAX_PATH_BYTES];
	uint32_t flags;
	/* Checked; what is left of the payload. Empty is the base's content. */
	struct reader paths;
	uint32_t path_count;
};

/* Decode the payload behind the operation byte; false when anything about it is wrong. */
bool unpack_request_decode(struct reader *reader, struct unpack_request *request);
bool pack_request_decode(struct reader *reader, struct pack_request *request);

#endif
