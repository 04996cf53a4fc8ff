#include "configure_request.h"

#include <string.h>

#include "entropy.h"
#include "network.h"
#include "user.h"

#define MODE_BITS 07777U
#define KEEP_FOREIGN 0x10000U

static bool read_file(struct reader *reader, struct configure_file *file) {
	file->path = read_str(reader);
	uint32_t mode = read_u32(reader);
	file->mode = mode & MODE_BITS;
	file->keep_foreign = (mode & KEEP_FOREIGN) != 0;
	file->uid = read_u32(reader);
	file->gid = read_u32(reader);
	file->content = read_blob(reader);
	if (reader->failed || (mode & ~(MODE_BITS | KEEP_FOREIGN)) != 0) return false;
	return file->path.length > 1 && file->path.length < MAX_PATH_BYTES && file->path.bytes[0] == '/' &&
		file->path.bytes[file->path.length - 1] != '/';
}

/* Of the form of `pattern`, where x stands for a lower-case hex digit; or empty. */
static bool has_form(const char *text, const char *pattern) {
	if (*text == 0) return true;
	if (strlen(text) != strlen(pattern)) return false;
	for (size_t i = 0; pattern[i] != 0; i++) {
		bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
		if (pattern[i] == 'x' ? !hex : text[i] != pattern[i]) return false;
	}
	return true;
}

static bool read_identity(struct reader *reader, struct configure_request *request) {
	uint8_t mac[MAC_BYTES];
	read_str_into(reader, request->mac, sizeof request->mac);
	read_str_into(reader, request->boot_id, sizeof request->boot_id);
	read_str_into(reader, request->machine_id, sizeof request->machine_id);
	request->root_bytes = read_u64(reader);
	if (reader->failed || request->root_bytes > INT64_MAX) return false;
	if (request->mac[0] != 0 && !network_parse_mac(request->mac, mac)) return false;
	/* All zeros: no id (machine-id(5)), and what a machine has before it has a boot id. */
	if (strcmp(request->machine_id, "00000000000000000000000000000000") == 0) return false;
	if (strcmp(request->boot_id, BOOT_ID_UNKNOWN) == 0) return false;
	return has_form(request->boot_id, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") &&
		has_form(request->machine_id, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
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
	return read_identity(reader, request) && reader_finished(reader) && request->entropy.length <= MAX_ENTROPY_BYTES &&
		request->clock_ns <= INT64_MAX && (request->flags & ~(CONFIGURE_HAND_OVER | CONFIGURE_PROVISIONAL)) == 0;
}
