/* The parameters of a CONFIGURE. */
#ifndef BANGER_CONFIGURE_REQUEST_H
#define BANGER_CONFIGURE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "boot_id.h"
#include "bytes.h"
#include "machine_id.h"

#define CONFIGURE_HAND_OVER 1U
/* Somebody else's configuration follows, which is then the first. */
#define CONFIGURE_PROVISIONAL 2U
#define MAX_CONFIGURE_FILES 256
/* HOST_NAME_MAX of Linux and its terminator. */
#define HOSTNAME_CAPACITY 65

struct configure_file {
	/* Absolute and shorter than MAX_PATH_BYTES. */
	struct text path;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct text content;
	/* Only in the place of nothing, or of one with the same first line. */
	bool keep_foreign;
};

/* Its texts point into the payload. */
struct configure_request {
	char hostname[HOSTNAME_CAPACITY];
	struct configure_file files[MAX_CONFIGURE_FILES];
	size_t file_count;
	/* 0: leave the clock alone. */
	uint64_t clock_ns;
	struct text entropy;
	char address[20];
	char gateway[16];
	uint32_t flags;
	/* `52:54:00:12:34:56`; empty: as it is. */
	char mac[18];
	/* Empty: the kernel's own. */
	char boot_id[BOOT_ID_CAPACITY];
	/* Empty: as it is. */
	char machine_id[MACHINE_ID_CAPACITY];
	/* Of the root disk; 0: whatever it has. */
	uint64_t root_bytes;
};

/* Decodes the payload behind the operation byte; false when anything about it is wrong. */
bool configure_request_decode(struct reader *reader, struct configure_request *request);

#endif
