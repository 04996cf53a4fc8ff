#include "archive_request.h"

#include "archive.h"

bool unpack_request_decode(struct reader *reader, struct unpack_request *request) {
	read_str_into(reader, request->base, sizeof request->base);
	read_str_into(reader, request->upper, sizeof request->upper);
	read_str_into(reader, request->staging, sizeof request->staging);
	request->flags = read_u32(reader);
	if (!reader_finished(reader) || (request->flags & ~(uint32_t)(UNPACK_MARK | UNPACK_BASE_MUST_EXIST)) != 0) return false;
	if (request->staging[0] != 0 && !archive_path_valid(request->staging)) return false;
	return request->base[0] == '/' && (request->upper[0] == 0 || request->upper[0] == '/');
}

bool pack_request_decode(struct reader *reader, struct pack_request *request) {
	char path[MAX_ARCHIVE_PATH_BYTES + 1];
	read_str_into(reader, request->base, sizeof request->base);
	request->flags = read_u32(reader);
	request->path_count = read_u32(reader);
	request->paths = *reader;
	if (reader->failed || request->base[0] != '/' || (request->flags & ~(uint32_t)(PACK_FOLLOW | PACK_ENTRY_ONLY)) != 0) return false;
	if (request->path_count == 0 || request->path_count > MAX_PACK_PATHS) return false;
	for (uint32_t i = 0; i < request->path_count && !reader->failed; i++) {
		read_str_into(reader, path, sizeof path);
		if (path[0] != 0 && !archive_path_valid(path)) return false;
	}
	return reader_finished(reader);
}
