#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "archive.h"
#include "bytes.h"

#define MODE_BITS 07777U

bool archive_path_valid(const char *path) {
	if (strlen(path) > MAX_ARCHIVE_PATH_BYTES) return false;
	for (unsigned depth = 1; depth <= MAX_ARCHIVE_DEPTH; depth++) {
		size_t length = strcspn(path, "/");
		if (length == 0 || length > MAX_ARCHIVE_NAME_BYTES) return false;
		if (path[0] == '.' && (length == 1 || (length == 2 && path[1] == '.'))) return false;
		if (path[length] == 0) return true;
		path += length + 1;
	}
	return false;
}

/* Reads more behind what is there. Returns 0 or an errno. */
static int fill(struct archive_input *input) {
	if (input->fd < 0) return EPROTO;
	if (input->from == input->to) input->from = input->to = 0;
	if (input->to == sizeof input->buffer) {
		memmove(input->buffer, input->buffer + input->from, input->to - input->from);
		input->to -= input->from;
		input->from = 0;
	}
	for (;;) {
		ssize_t count = read(input->fd, input->buffer + input->to, sizeof input->buffer - input->to);
		if (count < 0 && errno == EINTR) continue;
		if (count < 0) return errno;
		if (count == 0) return EPROTO;
		input->to += (size_t)count;
		return 0;
	}
}

/* `count` contiguous bytes, much less than the buffer has; NULL with `*error` set. */
static const uint8_t *take(struct archive_input *input, size_t count, int *error) {
	while (*error == 0 && input->to - input->from < count) *error = fill(input);
	if (*error != 0) return NULL;
	const uint8_t *bytes = input->buffer + input->from;
	input->from += count;
	return bytes;
}

static uint8_t take_u8(struct archive_input *input, int *error) {
	const uint8_t *bytes = take(input, 1, error);
	return bytes == NULL ? 0 : bytes[0];
}

static uint16_t take_u16(struct archive_input *input, int *error) {
	const uint8_t *bytes = take(input, 2, error);
	return bytes == NULL ? 0 : get_u16(bytes);
}

static uint32_t take_u32(struct archive_input *input, int *error) {
	const uint8_t *bytes = take(input, 4, error);
	return bytes == NULL ? 0 : get_u32(bytes);
}

static uint64_t take_u64(struct archive_input *input, int *error) {
	const uint8_t *bytes = take(input, 8, error);
	return bytes == NULL ? 0 : get_u64(bytes);
}

/* At most MAX_ARCHIVE_PATH_BYTES without NUL, and at least one. */
static void take_text(struct archive_input *input, char *target, int *error) {
	size_t length = take_u16(input, error);
	if (*error == 0 && (length == 0 || length > MAX_ARCHIVE_PATH_BYTES)) *error = EPROTO;
	const uint8_t *bytes = take(input, length, error);
	if (bytes == NULL) return;
	if (memchr(bytes, 0, length) != NULL) *error = EPROTO;
	memcpy(target, bytes, length);
	target[length] = 0;
}

static uint32_t take_mode(struct archive_input *input, int *error) {
	uint32_t mode = take_u32(input, error);
	if ((mode & ~MODE_BITS) != 0) *error = EPROTO;
	return mode;
}

static uint8_t take_flags(struct archive_input *input, uint8_t known, int *error) {
	uint8_t flags = take_u8(input, error);
	if ((flags & ~known) != 0) *error = EPROTO;
	return flags;
}

static void take_content(struct archive_input *input, struct archive_record *record, int *error) {
	record->flags = take_flags(input, ARCHIVE_CONTENT_ABSENT, error);
	size_t length = take_u16(input, error);
	if (length > MAX_ARCHIVE_CONTENT_BYTES || (record->flags != 0 && length != 0)) *error = EPROTO;
	const uint8_t *bytes = take(input, length, error);
	if (bytes == NULL) return;
	record->content_length = length;
	memcpy(record->content, bytes, length);
}

int archive_read_record(struct archive_input *input, struct archive_record *record) {
	int error = 0;
	record->kind = (enum archive_kind)take_u8(input, &error);
	if (error != 0 || record->kind == ARCHIVE_END) return error;
	take_text(input, record->path, &error);
	if (error == 0 && !archive_path_valid(record->path)) error = EPROTO;
	switch (record->kind) {
		case ARCHIVE_DIRECTORY:
			record->mode = take_mode(input, &error);
			record->mtime_ns = (int64_t)take_u64(input, &error);
			break;
		case ARCHIVE_FILE:
			record->mode = take_mode(input, &error);
			record->mtime_ns = (int64_t)take_u64(input, &error);
			record->size = take_u64(input, &error);
			if (record->size > INT64_MAX) error = EPROTO;
			break;
		case ARCHIVE_SYMLINK:
			take_text(input, record->target, &error);
			record->mtime_ns = (int64_t)take_u64(input, &error);
			break;
		case ARCHIVE_DELETE: record->flags = take_flags(input, ARCHIVE_DELETE_EMPTY_PARENTS, &error); break;
		case ARCHIVE_CHECK: record->flags = take_flags(input, ARCHIVE_CHECK_SHIPPED, &error); break;
		case ARCHIVE_CHECK_CONTENT: take_content(input, record, &error); break;
		/* What only the guest says. */
		case ARCHIVE_CONFLICT:
		case ARCHIVE_SKIPPED:
		default: return EPROTO;
		case ARCHIVE_END: break;
	}
	return error;
}

int archive_read_segment(struct archive_input *input, uint64_t end, uint64_t size, struct archive_segment *segment) {
	int error = 0;
	segment->offset = take_u64(input, &error);
	segment->length = take_u32(input, &error);
	if (error != 0) return error;
	bool fits = segment->offset >= end && segment->offset <= size && segment->length <= size - segment->offset;
	return fits ? 0 : EPROTO;
}

int archive_read_bytes(struct archive_input *input, const uint8_t **bytes, size_t *length) {
	int error = input->from == input->to ? fill(input) : 0;
	if (error != 0) return error;
	if (*length > input->to - input->from) *length = input->to - input->from;
	*bytes = input->buffer + input->from;
	input->from += *length;
	return 0;
}
