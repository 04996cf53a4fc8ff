#include "configure_request.h"

#include "entropy.h"
#include "user.h"

#define MODE_BITS 07777U

static bool read_file(struct reader *reader, struct configure_file *file) {
	file->path = read_str(reader);
	uint32_t mode = read_u32(reader);
	file->mode = mode & MODE_BITS;
	file->uid = read_u32(reader);
	file->gid = read_u32(reader);
	file->content = read_blob(reader);
	if (reader->failed || (mode & ~MODE_BITS) != 0) return false;
	return file->path.length > 1 && file->path.length < MAX_PATH_BYTES && file->path.bytes[0] == '/' &&
		file->path.bytes[file->path.length - 1] != '/';
}

bool configure_request_decode(struct reader *reader, struct configure_request *request) {
	read_str_into(reader, request->hostname, sizeof request->hostname);
	request->file_count = read_u32(reader);
	if (reader->failed || request->file_count > MAX_CONFIGURE_FILES) return false;
	for (size_t i = 0; i < request->file_count; i++) {
		if (!read_file(reader, &request->files[i])) return false;
	}
	request->clock_ns = read_u64(reader);
	request->entropy = read_blob(reader);
	read_str_into(reader, request->address, sizeof request->address);
	read_str_into(reader, request->gateway, sizeof request->gateway);
	request->flags = read_u32(reader);
	return reader_finished(reader) && request->entropy.length <= MAX_ENTROPY_BYTES &&
		request->clock_ns <= INT64_MAX && (request->flags & ~CONFIGURE_HAND_OVER) == 0;
}
