#include "mount_request.h"

#include <string.h>

bool mount_request_decode(struct reader *reader, struct mount_request *request) {
	read_str_into(reader, request->device, sizeof request->device);
	read_str_into(reader, request->type, sizeof request->type);
	read_str_into(reader, request->target, sizeof request->target);
	request->flags = read_u32(reader);
	read_str_into(reader, request->label, sizeof request->label);
	if (!reader_finished(reader) || (request->flags & ~MOUNT_READ_ONLY) != 0) return false;
	if (strncmp(request->device, "/dev/", 5) != 0 || request->target[0] != '/') return false;
	size_t length = strlen(request->label);
	return strcmp(request->type, "squashfs") == 0 && length > 0 &&
		strspn(request->label, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}
