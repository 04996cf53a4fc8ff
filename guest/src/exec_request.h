/* The parameters of an EXEC. */
#ifndef BANGER_EXEC_REQUEST_H
#define BANGER_EXEC_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "user.h"

#define EXEC_TTY 1U
#define EXEC_STDIN 2U
#define MAX_ARGUMENTS 8192
#define MAX_VARIABLES 4096

struct exec_request {
	uint32_t flags;
	uint16_t rows, columns;
	char user[2 * MAX_NAME_BYTES];
	char cwd[MAX_PATH_BYTES];
	/* NULL-terminated. Empty: the user's login shell. */
	char **argv;
	size_t argc;
	/* `NAME=value`. */
	char **variables;
	size_t variable_count;
	/* What the pointers above lie in. */
	void *memory;
};

enum decode_result { DECODE_OK, DECODE_BAD, DECODE_NO_MEMORY };

/* Decodes the payload behind the operation byte. On DECODE_OK the caller owes exec_request_free. */
enum decode_result exec_request_decode(struct reader *reader, struct exec_request *request);
void exec_request_free(struct exec_request *request);

#endif
