/* libFuzzer target: the decoders of payloads and of the system's own texts, called directly. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../src/archive.h"
#include "../src/archive_request.h"
#include "../src/cmdline.h"
#include "../src/configure_request.h"
#include "../src/connect_request.h"
#include "../src/exec_request.h"
#include "../src/ext4.h"
#include "../src/health.h"
#include "../src/mount_request.h"
#include "../src/network.h"
#include "../src/ports.h"
#include "../src/user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode_exec(const uint8_t *data, size_t size) {
	struct reader reader;
	struct exec_request request;
	reader_init(&reader, data, size);
	if (exec_request_decode(&reader, &request) != DECODE_OK) return;
	size_t total = 0;
	for (size_t i = 0; i < request.argc; i++) total += strlen(request.argv[i]);
	for (size_t i = 0; i < request.variable_count; i++) total += strlen(request.variables[i]);
	if (request.argv[request.argc] != NULL || total > size) abort();
	exec_request_free(&request);
}

static void decode_configure(const uint8_t *data, size_t size) {
	static struct configure_request request;
	struct reader reader;
	reader_init(&reader, data, size);
	if (!configure_request_decode(&reader, &request)) return;
	/* Each of them becomes a line of a file, or a name. */
	if (strpbrk(request.mac, "\n/ ") != NULL || strpbrk(request.boot_id, "\n/ ") != NULL) abort();
	if (strlen(request.machine_id) != 0 && strspn(request.machine_id, "0123456789abcdef") != 32) abort();
	for (size_t i = 0; i < request.file_count; i++) {
		if (request.files[i].path.length >= MAX_PATH_BYTES || request.files[i].path.bytes[0] != '/') abort();
	}
}

static void decode_mount(const uint8_t *data, size_t size) {
	struct mount_request request;
	struct reader reader;
	reader_init(&reader, data, size);
	if (mount_request_decode(&reader, &request) && strpbrk(request.label, "/,.=:") != NULL) abort();
}

static void decode_connect(const uint8_t *data, size_t size) {
	struct connect_request request;
	struct reader reader;
	reader_init(&reader, data, size);
	if (!connect_request_decode(&reader, &request)) return;
	if (request.count == 0 || request.count > MAX_CONNECT_TARGETS) abort();
	for (unsigned i = 0; i < request.count; i++) {
		if (request.targets[i].length == 0 || request.targets[i].address.v4.sin_port == 0) abort();
	}
}

static void decode_archive_requests(const uint8_t *data, size_t size) {
	static struct unpack_request unpack;
	static struct pack_request pack;
	struct reader reader;
	reader_init(&reader, data, size);
	if (unpack_request_decode(&reader, &unpack) && (unpack.base[0] != '/' || unpack.staging[0] == '/')) abort();
	reader_init(&reader, data, size);
	if (!pack_request_decode(&reader, &pack)) return;
	for (uint32_t i = 0; i < pack.path_count; i++) {
		struct text path = read_str(&pack.paths);
		if (path.length > 0 && path.bytes[0] == '/') abort();
	}
	if (!reader_finished(&pack.paths)) abort();
}

static int take_file(struct archive_input *input, uint64_t size) {
	struct archive_segment segment;
	const uint8_t *bytes;
	for (uint64_t end = 0;;) {
		int error = archive_read_segment(input, end, size, &segment);
		if (error != 0 || segment.length == 0) return error;
		if (segment.offset < end || segment.offset + segment.length > size) abort();
		end = segment.offset + segment.length;
		for (size_t left = segment.length, length = left; left > 0; length = left) {
			error = archive_read_bytes(input, &bytes, &length);
			if (error != 0) return error;
			if (length == 0 || length > left) abort();
			left -= length;
		}
	}
}

/* As much of it as the reader's buffer holds. */
static void read_archive(const uint8_t *data, size_t size) {
	static struct archive_input input;
	static struct archive_record record;
	input.fd = -1;
	input.from = 0;
	input.to = size < sizeof input.buffer ? size : sizeof input.buffer;
	memcpy(input.buffer, data, input.to);
	while (archive_read_record(&input, &record) == 0 && record.kind != ARCHIVE_END) {
		if (!archive_path_valid(record.path) || record.content_length > MAX_ARCHIVE_CONTENT_BYTES) abort();
		if (record.kind == ARCHIVE_FILE && take_file(&input, record.size) != 0) return;
	}
}

/* Texts: the first half as one argument, the second as the other. */
static void parse_texts(char *text, size_t size, uint8_t what) {
	static struct port ports[MAX_PORTS];
	struct user user;
	uint32_t address, netmask;
	uint8_t mac[MAC_BYTES];
	char value[32];
	char *second = text + size / 2;
	switch (what % 5) {
		case 0: ports_parse(text, (what & 0x80) != 0, (what & 0x40) != 0, ports, 0); break;
		case 1:
			if (user_resolve("dev", text, text, &user) && (user.group_count == 0 || user.group_count > MAX_GROUPS)) abort();
			break;
		case 2:
			if (user_resolve(second, "dev:x:1:2::/h:/s\n", "g:x:3:dev\n", &user) && user.uid == UINT32_MAX) abort();
			break;
		case 3: cmdline_get(text, "banger.root", value, sizeof value); break;
		default:
			health_memory_available_kib(text);
			network_parse_address(text, &address, &netmask);
			if (network_parse_mac(text, mac) && strlen(text) != 17) abort();
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size < 1) return 0;
	/* Beyond the numbers that have always been here: the corpus keeps its meaning. */
	if (data[0] == 0xFF) {
		decode_connect(data + 1, size - 1);
		return 0;
	}
	if (data[0] == 0xFE) {
		decode_archive_requests(data + 1, size - 1);
		return 0;
	}
	if (data[0] == 0xFD) {
		read_archive(data + 1, size - 1);
		return 0;
	}
	switch (data[0] % 5) {
		case 0: decode_exec(data + 1, size - 1); return 0;
		case 1: decode_configure(data + 1, size - 1); return 0;
		case 2: decode_mount(data + 1, size - 1); return 0;
		case 3:
			if (size > EXT4_SUPERBLOCK_BYTES) {
				struct ext4_size ext4;
				ext4_parse_size(data + 1, &ext4);
			}
			return 0;
		default: break;
	}
	char *text = malloc(size);
	if (text == NULL) return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	parse_texts(text, size - 1, (uint8_t)(data[0] / 5));
	free(text);
	return 0;
}
