#include "exec_request.h"

#include <stdlib.h>
#include <string.h>

/* Copies `count` strings to `*text`, terminated, and points `pointers` to them. */
static void read_strings(struct reader *reader, char **pointers, size_t count, char **text) {
	for (size_t i = 0; i < count && !reader->failed; i++) {
		struct text string = read_str(reader);
		pointers[i] = *text;
		memcpy(*text, string.bytes, string.length);
		(*text)[string.length] = 0;
		*text += string.length + 1;
	}
}

enum decode_result exec_request_decode(struct reader *reader, struct exec_request *request) {
	memset(request, 0, sizeof *request);
	request->flags = read_u32(reader);
	request->rows = read_u16(reader);
	request->columns = read_u16(reader);
	read_str_into(reader, request->user, sizeof request->user);
	read_str_into(reader, request->cwd, sizeof request->cwd);
	request->argc = read_u32(reader);
	if (reader->failed || (request->flags & ~(EXEC_TTY | EXEC_STDIN)) != 0) return DECODE_BAD;
	/* Each string takes at least its length field, so a count is also bounded by what is left. */
	if (request->argc > MAX_ARGUMENTS || request->argc > reader->left / 4) return DECODE_BAD;
	/* The strings' own bytes and one terminator each, which their length fields have paid for. */
	size_t pointers = (request->argc + 1 + MAX_VARIABLES) * sizeof(char *);
	request->memory = malloc(pointers + reader->left + 1);
	if (request->memory == NULL) return DECODE_NO_MEMORY;
	request->argv = request->memory;
	request->variables = request->argv + request->argc + 1;
	char *text = (char *)request->memory + pointers;
	read_strings(reader, request->argv, request->argc, &text);
	request->argv[request->argc] = NULL;
	request->variable_count = read_u32(reader);
	bool fits = !reader->failed && request->variable_count <= MAX_VARIABLES && request->variable_count <= reader->left / 4;
	if (fits) read_strings(reader, request->variables, request->variable_count, &text);
	if (fits && reader_finished(reader)) return DECODE_OK;
	exec_request_free(request);
	return DECODE_BAD;
}

void exec_request_free(struct exec_request *request) {
	free(request->memory);
	request->memory = NULL;
}
