/*
 * The records of docs/agent-protocol.md ("Archives"): a tree of files, or changes to one. The same numbers are in
 * src/guest/archive/records.ts.
 */
#ifndef BANGER_ARCHIVE_H
#define BANGER_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_ARCHIVE_PATH_BYTES 4095
#define MAX_ARCHIVE_NAME_BYTES 255
/* Components of a path: each level of a walk holds a descriptor. */
#define MAX_ARCHIVE_DEPTH 256
#define MAX_ARCHIVE_CONTENT_BYTES 4096
/* Bytes of a segment of a file as it is sent from here; what is taken may be longer. */
#define ARCHIVE_SEGMENT_BYTES (64 * 1024)

enum archive_kind {
	ARCHIVE_END = 0,
	ARCHIVE_DIRECTORY = 1,
	ARCHIVE_FILE = 2,
	ARCHIVE_SYMLINK = 3,
	ARCHIVE_DELETE = 4,
	ARCHIVE_CHECK = 5,
	ARCHIVE_CHECK_CONTENT = 6,
	ARCHIVE_CONFLICT = 7,
	ARCHIVE_SKIPPED = 8,
};

enum archive_delete_flag { ARCHIVE_DELETE_EMPTY_PARENTS = 1 };
enum archive_check_flag { ARCHIVE_CHECK_SHIPPED = 1 };
enum archive_content_flag { ARCHIVE_CONTENT_ABSENT = 1 };

enum archive_conflict { CONFLICT_CHANGED = 1, CONFLICT_DELETED = 2, CONFLICT_EXISTS = 3, CONFLICT_CONTENT = 4 };
enum archive_skip { SKIPPED_SPECIAL = 1, SKIPPED_MOUNT = 2 };

/* One record, of which a file's segments follow in the stream. */
struct archive_record {
	enum archive_kind kind;
	/* Terminated, and checked: relative, no empty, "." or ".." component. */
	char path[MAX_ARCHIVE_PATH_BYTES + 1];
	/* Of a symlink: any bytes but NUL. */
	char target[MAX_ARCHIVE_PATH_BYTES + 1];
	uint32_t mode;
	uint8_t flags;
	/* Since 1970. */
	int64_t mtime_ns;
	/* Of a file: the most it may have. */
	uint64_t size;
	/* What a checked file must have. */
	uint8_t content[MAX_ARCHIVE_CONTENT_BYTES];
	size_t content_length;
};

struct archive_segment {
	uint64_t offset;
	/* 0: the end of the file, which has `offset` bytes. */
	uint32_t length;
};

/* Records read from a descriptor; -1: from what the buffer holds, and no more. */
struct archive_input {
	int fd;
	size_t from, to;
	uint8_t buffer[64 * 1024];
};

/* Each returns 0 or an errno: EPROTO for what is no record, or no end where there should be one. */
int archive_read_record(struct archive_input *input, struct archive_record *record);
/* `end`: where the segment before it ended; the next one must not begin before it, nor end behind the file's size. */
int archive_read_segment(struct archive_input *input, uint64_t end, uint64_t size, struct archive_segment *segment);
/* Up to `*length` bytes of a segment's, in memory until the next call; `*length` is how many. */
int archive_read_bytes(struct archive_input *input, const uint8_t **bytes, size_t *length);

/* Records written to a descriptor. The first error sticks: what follows is dropped. */
struct archive_output {
	int fd;
	int error;
	size_t length;
	uint8_t buffer[ARCHIVE_SEGMENT_BYTES + 4096];
};

/* The fields its kind has; of a file, the segments are to follow. */
void archive_write_record(struct archive_output *output, const struct archive_record *record);
/* Where `length` bytes (up to ARCHIVE_SEGMENT_BYTES) can be put, to be sent with archive_commit_segment. */
uint8_t *archive_reserve_segment(struct archive_output *output, size_t length);
void archive_commit_segment(struct archive_output *output, struct archive_segment segment);
void archive_end_file(struct archive_output *output, uint64_t size);
/* Hands everything to the descriptor. Returns the first error, or 0. */
int archive_flush(struct archive_output *output);

/* Whether a path may stand in a record: 1 to 4095 bytes, no component empty, ".", ".." or over 255 bytes, at most 256 of them. */
bool archive_path_valid(const char *path);

#endif
