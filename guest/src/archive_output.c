#include <string.h>

#include "archive.h"
#include "bytes.h"
#include "file.h"

#define SEGMENT_HEADER_BYTES 12
/* More than any record but a file's segments has. */
#define MAX_RECORD_BYTES (2 * (MAX_ARCHIVE_PATH_BYTES + 2) + 32)

int archive_flush(struct archive_output *output) {
	if (output->error == 0) output->error = write_all(output->fd, output->buffer, output->length);
	output->length = 0;
	return output->error;
}

/* Where `count` bytes can be put; they are sent when `length` counts them. */
static uint8_t *reserve(struct archive_output *output, size_t count) {
	if (sizeof output->buffer - output->length < count) archive_flush(output);
	return output->buffer + output->length;
}

static void add_u8(struct archive_output *output, uint8_t value) {
	output->buffer[output->length++] = value;
}

static void add_u32(struct archive_output *output, uint32_t value) {
	put_u32(output->buffer + output->length, value);
	output->length += 4;
}

static void add_u64(struct archive_output *output, uint64_t value) {
	put_u64(output->buffer + output->length, value);
	output->length += 8;
}

static void add_text(struct archive_output *output, const char *text) {
	size_t length = strlen(text);
	put_u16(output->buffer + output->length, (uint16_t)length);
	memcpy(output->buffer + output->length + 2, text, length);
	output->length += 2 + length;
}

void archive_write_record(struct archive_output *output, const struct archive_record *record) {
	reserve(output, MAX_RECORD_BYTES);
	add_u8(output, (uint8_t)record->kind);
	if (record->kind == ARCHIVE_END) return;
	add_text(output, record->path);
	switch (record->kind) {
		case ARCHIVE_DIRECTORY:
		case ARCHIVE_FILE:
			add_u32(output, record->mode);
			add_u64(output, (uint64_t)record->mtime_ns);
			if (record->kind == ARCHIVE_FILE) add_u64(output, record->size);
			break;
		case ARCHIVE_SYMLINK:
			add_text(output, record->target);
			add_u64(output, (uint64_t)record->mtime_ns);
			break;
		case ARCHIVE_CONFLICT:
		case ARCHIVE_SKIPPED: add_u8(output, record->flags); break;
		/* What only the host says. */
		case ARCHIVE_DELETE:
		case ARCHIVE_CHECK:
		case ARCHIVE_CHECK_CONTENT:
		case ARCHIVE_END: break;
	}
}

uint8_t *archive_reserve_segment(struct archive_output *output, size_t length) {
	return reserve(output, SEGMENT_HEADER_BYTES + length) + SEGMENT_HEADER_BYTES;
}

void archive_commit_segment(struct archive_output *output, struct archive_segment segment) {
	put_u64(output->buffer + output->length, segment.offset);
	put_u32(output->buffer + output->length + 8, segment.length);
	output->length += SEGMENT_HEADER_BYTES + segment.length;
}

void archive_end_file(struct archive_output *output, uint64_t size) {
	reserve(output, SEGMENT_HEADER_BYTES);
	archive_commit_segment(output, (struct archive_segment){.offset = size});
}
