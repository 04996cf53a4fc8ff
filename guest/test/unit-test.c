/* The parts that decide without the system: parsers, decoders, containers. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/bytes.h"
#include "../src/cmdline.h"
#include "../src/configure_request.h"
#include "../src/connect_request.h"
#include "../src/environment.h"
#include "../src/exec_request.h"
#include "../src/ext4.h"
#include "../src/frame.h"
#include "../src/health.h"
#include "../src/leases.h"
#include "../src/mount_request.h"
#include "../src/network.h"
#include "../src/ports.h"
#include "../src/queue.h"
#include "../src/textbuf.h"
#include "../src/user.h"
#include "check.h"
#include "client.h"

static void frames_are_found_at_every_split(void) {
	uint8_t bytes[HEADER_BYTES + 5] = {0};
	struct frame frame;
	size_t needed;
	frame_put_header(bytes, FRAME_DATA, CHANNEL_STDIN, 0xCAFE, 5);
	memcpy(bytes + HEADER_BYTES, "hello", 5);
	for (size_t length = 0; length < sizeof bytes; length++) {
		CHECK_NUMBER(frame_parse(bytes, length, &frame, &needed), PARSE_INCOMPLETE);
		CHECK_NUMBER(needed, length < HEADER_BYTES ? HEADER_BYTES : sizeof bytes);
	}
	CHECK_NUMBER(frame_parse(bytes, sizeof bytes, &frame, &needed), PARSE_FRAME);
	CHECK_NUMBER(frame.type, FRAME_DATA);
	CHECK_NUMBER(frame.stream, 0xCAFE);
	CHECK_NUMBER(frame.length, 5);
	CHECK(memcmp(frame.payload, "hello", 5) == 0);
}

static void preambles_are_found_among_lookalikes(void) {
	uint8_t nonce[NONCE_BYTES] = {1, 2, 3}, bytes[100] = {0xB4, 0xB4, 0x42, 0xB4, 0x42, 0x4E, 0x47, 0x52, 0x0D, 0x0A, 0x1A, 1, 0, 1};
	size_t discard;
	CHECK_NUMBER(preamble_find(bytes, 20, &discard), 20);
	CHECK_NUMBER(discard, 20);
	preamble_put(bytes + 40, nonce);
	for (size_t length = 40; length < 40 + PREAMBLE_BYTES; length++) {
		CHECK_NUMBER(preamble_find(bytes, length, &discard), length);
		CHECK_NUMBER(discard, 40);
	}
	CHECK_NUMBER(preamble_find(bytes, 72, &discard), 40);
	CHECK_NUMBER(discard, 72);
	CHECK(memcmp(bytes + 40 + PREAMBLE_NONCE_OFFSET, nonce, NONCE_BYTES) == 0);
}

static void readers_stop_at_the_first_missing_field(void) {
	static const uint8_t bytes[] = {1, 2, 3, 4, 2, 0, 0, 0, 'h', 'i', 3, 0, 0, 0, 'a', 0, 'b', 9};
	struct reader reader;
	reader_init(&reader, bytes, sizeof bytes);
	CHECK_NUMBER(read_u32(&reader), 0x04030201);
	struct text text = read_str(&reader);
	CHECK(text.length == 2 && memcmp(text.bytes, "hi", 2) == 0);
	struct reader again = reader;
	CHECK_NUMBER(read_blob(&again).length, 3);
	CHECK(!reader_finished(&again));
	CHECK_NUMBER(read_str(&reader).length, 0);
	CHECK(reader.failed);
	CHECK_NUMBER(read_u16(&reader), 0);
	CHECK_NUMBER(read_u64(&again), 0);
	CHECK(again.failed);
}

static void queues_keep_order_and_limit(void) {
	struct queue queue;
	uint8_t block[1000], next_in = 0, next_out = 0;
	queue_init(&queue, 10000);
	CHECK(queue_reserve(&queue, 10001) == NULL);
	for (int round = 0; round < 2000; round++) {
		size_t in = (size_t)(round * 37 % 900), out = (size_t)(round * 53 % 950);
		for (size_t i = 0; i < in; i++) block[i] = next_in++;
		bool fits = queue_length(&queue) + in <= 10000;
		CHECK(queue_append(&queue, block, in) == fits);
		if (!fits) next_in = (uint8_t)(next_in - in);
		if (out > queue_length(&queue)) out = queue_length(&queue);
		for (size_t i = 0; i < out; i++) CHECK_NUMBER(queue_front(&queue)[i], next_out++);
		if (out > 0) queue_consume(&queue, out, round % 2 == 0 ? 0 : 100000);
	}
	queue_free(&queue);
}

static const char passwd[] =
	"root:x:0:0:root:/root:/bin/bash\nbroken\ndev:x:1000:1001:Dev:/home/dev:/bin/zsh\n#c\n1234:x:7:8::/n:/bin/n\nbare:x:9:9:::\n"
	"bad:x:99999999999:1::/:/\nlast:x:5:6::/l:/bin/l";
static const char groups[] = "root:x:0:\ndev:x:1001:\nsudo:x:27:other,dev\nnear:x:28:devel,xdev\nx\ndocker:x:999:dev";

static void users_are_resolved(void) {
	struct user user;
	CHECK(user_resolve("", passwd, groups, &user));
	CHECK(user.uid == 0 && user.gid == 0 && strcmp(user.shell, "/bin/bash") == 0 && strcmp(user.home, "/root") == 0);
	CHECK(user_resolve("dev", passwd, groups, &user));
	CHECK(user.uid == 1000 && user.gid == 1001 && user.group_count == 3);
	CHECK(user.groups[0] == 1001 && user.groups[1] == 27 && user.groups[2] == 999);
	CHECK(user_resolve("1000", passwd, groups, &user) && strcmp(user.name, "dev") == 0 && user.group_count == 3);
	/* A name of digits wins over the number. */
	CHECK(user_resolve("1234", passwd, groups, &user) && user.uid == 7);
	CHECK(user_resolve("4242", passwd, groups, &user) && user.uid == 4242 && user.gid == 4242);
	CHECK(strcmp(user.home, "/") == 0 && strcmp(user.shell, "/bin/sh") == 0);
	CHECK(user_resolve("dev:sudo", passwd, groups, &user) && user.gid == 27 && user.group_count == 1);
	CHECK(user_resolve("5:77", passwd, groups, &user) && user.gid == 77 && strcmp(user.name, "last") == 0);
	CHECK(user_resolve("bare", passwd, groups, &user) && strcmp(user.home, "/") == 0 && strcmp(user.shell, "/bin/sh") == 0);
	CHECK(user_resolve("root", "", "", &user) && user.uid == 0);
	static const char *const wrong[] = {"nobody", "dev:none", ":dev", "dev:", "bad", "-1", "4294967295", "99999999999", "roo", "r"};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) CHECK(!user_resolve(wrong[i], passwd, groups, &user));
}

static void environments_override_by_name(void) {
	struct user user;
	char a[] = "HOME=/elsewhere", b[] = "X=1", c[] = "X=2", d[] = "XY=3";
	char *given[] = {a, b, c, d};
	CHECK(user_resolve("dev", passwd, groups, &user));
	char **environment = environment_build(&user, false, given, 4);
	CHECK(environment != NULL);
	CHECK(strcmp(environment_get(environment, "HOME"), "/elsewhere") == 0);
	CHECK(strcmp(environment_get(environment, "USER"), "dev") == 0);
	CHECK(strcmp(environment_get(environment, "X"), "2") == 0);
	CHECK(strcmp(environment_get(environment, "XY"), "3") == 0);
	CHECK(environment_get(environment, "TERM") == NULL);
	size_t count = 0;
	while (environment[count] != NULL) count++;
	free(environment);
	CHECK_NUMBER(count, 8);
}

static void command_lines_are_searched_by_word(void) {
	char value[16];
	const char *cmdline = "quiet xbanger.root=/no banger.root=/dev/vda banger.rootfstype=ext4 banger.root\n";
	CHECK(cmdline_get(cmdline, "banger.root", value, sizeof value) && strcmp(value, "/dev/vda") == 0);
	CHECK(cmdline_get(cmdline, "banger.rootfstype", value, sizeof value) && strcmp(value, "ext4") == 0);
	CHECK(!cmdline_get(cmdline, "root", value, sizeof value));
	CHECK(!cmdline_get(cmdline, "banger.root", value, 8));
	CHECK(!cmdline_get("", "a", value, sizeof value));
	CHECK(cmdline_get("a=1 a=2", "a", value, sizeof value) && strcmp(value, "2") == 0);
}

static void listening_sockets_are_read_from_proc(void) {
	static struct port ports[MAX_PORTS];
	static const char tcp[] =
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 00 100 0 0 10 0\n"
		"   1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 12346 1 00 100 0 0 10 0\n"
		"   2: nonsense\n"
		"   3: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 99 1 00 100 0 0 10 0";
	static const char udp6[] = "head\n"
		"  10: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 7 2 0 0\n";
	size_t count = ports_parse(tcp, false, false, ports, 0);
	CHECK_NUMBER(count, 2);
	CHECK(ports[0].number == 8080 && ports[0].inode == 12345 && memcmp(ports[0].address, "\177\0\0\1", 4) == 0);
	CHECK(ports[1].number == 22 && ports[1].inode == 99);
	count = ports_parse(udp6, true, true, ports, count);
	CHECK_NUMBER(count, 3);
	CHECK(ports[2].number == 53 && ports[2].address[15] == 1 && ports[2].udp && ports[2].ipv6);
	CHECK_NUMBER(ports_parse(tcp, false, true, ports, 0), 0);
	CHECK_NUMBER(ports_parse("", false, false, ports, 0), 0);
}

static void superblocks_tell_their_size(void) {
	uint8_t block[EXT4_SUPERBLOCK_BYTES] = {0};
	struct ext4_size size;
	CHECK(!ext4_parse_size(block, &size));
	put_u16(block + 0x38, 0xEF53);
	put_u32(block + 0x04, 5);
	put_u32(block + 0x18, 2);
	put_u32(block + 0x150, 1);
	CHECK(ext4_parse_size(block, &size) && size.block_bytes == 4096 && size.blocks == 5);
	put_u32(block + 0x60, 0x80);
	CHECK(ext4_parse_size(block, &size) && size.blocks == (UINT64_C(1) << 32) + 5);
	put_u32(block + 0x18, 7);
	CHECK(!ext4_parse_size(block, &size));
}

static void addresses_are_checked(void) {
	uint32_t address, netmask;
	uint8_t bytes[4];
	CHECK(network_parse_address("10.0.2.15/24", &address, &netmask));
	memcpy(bytes, &address, 4);
	CHECK(bytes[0] == 10 && bytes[3] == 15);
	memcpy(bytes, &netmask, 4);
	CHECK(bytes[2] == 255 && bytes[3] == 0);
	CHECK(network_parse_address("1.2.3.4/32", &address, &netmask) && netmask == UINT32_MAX);
	static const char *const wrong[] = {"", "10.0.2.15", "10.0.2.15/", "10.0.2.15/0", "10.0.2.15/33", "10.0.2.15/24x", "10.0.2/24",
		"10.0.2.256/24", "/24", "::1/64", "10.0.2.15/024", "10.0.2.15/-1", "1111111111111111111111111/24"};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) CHECK(!network_parse_address(wrong[i], &address, &netmask));
}

static void json_strings_are_escaped(void) {
	struct textbuf text = {.bytes = NULL};
	textbuf_add_json_string(&text, "a\"b\\c\nd\xff");
	CHECK(strcmp(text.bytes, "\"a\\\"b\\\\c\\u000ad\\u00ff\"") == 0);
	textbuf_free(&text);
	CHECK_NUMBER(health_memory_available_kib("MemTotal: 9 kB\nMemAvailable:    4321 kB\n"), 4321);
	CHECK_NUMBER(health_memory_available_kib("MemTotal: 9 kB\n"), 0);
}

/* A directory for one test. */
static char leases_dir[64];

static bool put_lease(const char *name) {
	char path[512];
	snprintf(path, sizeof path, "%s/%s", leases_dir, name);
	int fd = open(path, O_WRONLY | O_CREAT, 0644);
	return fd >= 0 && close(fd) == 0;
}

static bool remove_lease(const char *name) {
	char path[512];
	snprintf(path, sizeof path, "%s/%s", leases_dir, name);
	return unlink(path) == 0;
}

static bool make_leases_dir(void) {
	snprintf(leases_dir, sizeof leases_dir, "/tmp/leases-%d", (int)getpid());
	leases_prepare(leases_dir);
	struct stat stats;
	return stat(leases_dir, &stats) == 0 && (stats.st_mode & 07777) == 01777;
}

static pid_t ended_process(void) {
	pid_t pid = fork();
	if (pid == 0) _exit(0);
	return waitpid(pid, NULL, 0) == pid ? pid : -1;
}

static void leases_are_files_and_processes(void) {
	char own[16], gone[16];
	snprintf(own, sizeof own, "%d", (int)getpid());
	snprintf(gone, sizeof gone, "%d", (int)ended_process());
	CHECK_NUMBER(leases_held("/nowhere/at/all"), 0);
	CHECK(make_leases_dir());
	CHECK_NUMBER(leases_held(leases_dir), 0);
	CHECK(put_lease("backup") && put_lease(".hidden"));
	CHECK_NUMBER(leases_held(leases_dir), 1);
	CHECK(put_lease(own) && put_lease("12abc"));
	CHECK_NUMBER(leases_held(leases_dir), 3);
	/* Nobody's: they go, the others stay. */
	static const char *const numbers[] = {"0", "4194305", "99999999999999999999999"};
	CHECK(put_lease(gone));
	for (size_t i = 0; i < 3; i++) CHECK(put_lease(numbers[i]));
	CHECK_NUMBER(leases_held(leases_dir), 3);
	CHECK(!remove_lease(gone));
	for (size_t i = 0; i < 3; i++) CHECK(!remove_lease(numbers[i]));
	CHECK(remove_lease("backup") && remove_lease(own) && remove_lease("12abc") && remove_lease(".hidden"));
	CHECK_NUMBER(leases_held(leases_dir), 0);
	CHECK(rmdir(leases_dir) == 0);
}

static void leases_that_nobody_holds_do_not_hide_one(void) {
	char name[16];
	CHECK(make_leases_dir());
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof name, "%u", 5000000U + i);
		CHECK(put_lease(name));
	}
	CHECK(put_lease("backup"));
	unsigned held = 0;
	for (int i = 0; i < 4; i++) held = leases_held(leases_dir);
	CHECK_NUMBER(held, 1);
	CHECK(remove_lease("backup") && rmdir(leases_dir) == 0);
}

static struct packet packet;

static bool decodes_mount(const char *device, const char *type, const char *target, uint32_t flags, const char *label) {
	struct reader reader;
	struct mount_request request;
	packet.length = 0;
	packet_str(&packet, device);
	packet_str(&packet, type);
	packet_str(&packet, target);
	packet_u32(&packet, flags);
	packet_str(&packet, label);
	reader_init(&reader, packet.bytes, packet.length);
	return mount_request_decode(&reader, &request);
}

static void mounts_are_checked(void) {
	CHECK(decodes_mount("/dev/vdb", "squashfs", "/root/repo", 1, "repo-1"));
	CHECK(!decodes_mount("/etc/x", "squashfs", "/root/repo", 0, "repo"));
	CHECK(!decodes_mount("/dev/vdb", "ext4", "/root/repo", 0, "repo"));
	CHECK(!decodes_mount("/dev/vdb", "squashfs", "repo", 0, "repo"));
	CHECK(!decodes_mount("/dev/vdb", "squashfs", "/root/repo", 2, "repo"));
	CHECK(!decodes_mount("/dev/vdb", "squashfs", "/root/repo", 0, ""));
	CHECK(!decodes_mount("/dev/vdb", "squashfs", "/root/repo", 0, "../x"));
	CHECK(!decodes_mount("/dev/vdb", "squashfs", "/root/repo", 0, "a,upperdir=b"));
	CHECK(!decodes_mount("/dev/vdb", "squashfs", "/root/repo", 0, "a23456789012345678901234567890123"));
}

static struct identity {
	const char *mac, *boot_id, *machine_id;
	uint64_t root_bytes;
} identity = {"52:54:00:12:34:56", "0f0e0d0c-0b0a-4908-8706-050403020100", "00112233445546778899aabbccddeeff", 1};

static bool decodes_configure(const char *path, uint32_t mode, uint64_t clock_ns, uint32_t flags) {
	struct reader reader;
	static struct configure_request request;
	packet.length = 0;
	packet_str(&packet, "name");
	packet_u32(&packet, 1);
	packet_str(&packet, path);
	packet_u32(&packet, mode);
	packet_u32(&packet, 1);
	packet_u32(&packet, 2);
	packet_str(&packet, "content");
	packet_u64(&packet, clock_ns);
	packet_str(&packet, "0123456789abcdef");
	packet_str(&packet, "10.0.2.15/24");
	packet_str(&packet, "");
	packet_u32(&packet, flags);
	packet_str(&packet, identity.mac);
	packet_str(&packet, identity.boot_id);
	packet_str(&packet, identity.machine_id);
	packet_u64(&packet, identity.root_bytes);
	reader_init(&reader, packet.bytes, packet.length);
	return configure_request_decode(&reader, &request) && strcmp(request.mac, identity.mac) == 0 &&
		strcmp(request.boot_id, identity.boot_id) == 0 && strcmp(request.machine_id, identity.machine_id) == 0 &&
		request.root_bytes == identity.root_bytes && request.file_count == 1 && request.files[0].gid == 2 &&
		request.clock_ns == clock_ns && request.entropy.length == 16;
}

static void configurations_are_checked(void) {
	CHECK(decodes_configure("/etc/hosts", 0644, UINT64_C(1700000000000000000), 1));
	CHECK(!decodes_configure("etc/hosts", 0644, 1, 0));
	CHECK(!decodes_configure("/", 0644, 1, 0));
	CHECK(!decodes_configure("/etc/", 0644, 1, 0));
	CHECK(!decodes_configure("/etc/hosts", 0100644, 1, 0));
	CHECK(!decodes_configure("/etc/hosts", 0644, UINT64_MAX, 0));
	CHECK(decodes_configure("/etc/hosts", 0644, 1, 2));
	CHECK(!decodes_configure("/etc/hosts", 0644, 1, 4));
}

static bool decodes_identity(const char *mac, const char *boot_id, const char *machine_id, uint64_t root_bytes) {
	struct identity saved = identity;
	identity = (struct identity){mac, boot_id, machine_id, root_bytes};
	bool decoded = decodes_configure("/etc/hosts", 0644, 1, 0);
	identity = saved;
	return decoded;
}

static void identities_are_checked(void) {
	CHECK(decodes_identity("", "", "", 0));
	static const char *const macs[] = {"52:54:00:12:34:5", "52:54:00:12:34:567", "52-54-00-12-34-56", "52:54:00:12:34:5g",
		"53:54:00:12:34:56", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "52:54:00:12:34:56:78", " 2:54:00:12:34:56"};
	for (size_t i = 0; i < sizeof macs / sizeof macs[0]; i++) CHECK(!decodes_identity(macs[i], "", "", 0));
	static const char *const boot_ids[] = {"00000000-0000-0000-0000-000000000000", "0f0e0d0c-0b0a-4908-8706-05040302010",
		"0f0e0d0c-0b0a-4908-8706-0504030201000", "0F0e0d0c-0b0a-4908-8706-050403020100", "0f0e0d0c/0b0a-4908-8706-050403020100", "x"};
	for (size_t i = 0; i < sizeof boot_ids / sizeof boot_ids[0]; i++) CHECK(!decodes_identity("", boot_ids[i], "", 0));
	static const char *const machine_ids[] = {"00000000000000000000000000000000", "00112233445546778899aabbccddeef",
		"00112233445546778899aabbccddeefff", "00112233445546778899AABBCCDDEEFF", "00112233-4455-4677-8899-aabbccddeeff"};
	for (size_t i = 0; i < sizeof machine_ids / sizeof machine_ids[0]; i++) CHECK(!decodes_identity("", "", machine_ids[i], 0));
	CHECK(!decodes_identity("", "", "", UINT64_MAX));
}

static bool connect_decodes(const char *address, uint16_t port, struct connect_request *request) {
	struct packet *parameters = connect_packet(address, port);
	struct reader reader;
	reader_init(&reader, parameters->bytes, parameters->length);
	return connect_request_decode(&reader, request);
}

static void connects_are_checked(void) {
	static const char *const bad[] = {"localhost", "1.2.3", "1.2.3.4.5", "::1%lo", "[::1]", "01.2.3.4x", " 1.2.3.4", ":::",
		"0000:0000:0000:0000:0000:0000:255.255.255.255:0000"};
	struct connect_request request;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) CHECK(!connect_decodes(bad[i], 80, &request));
	CHECK(!connect_decodes("127.0.0.1", 0, &request));
	CHECK(connect_decodes("10.0.2.15", 65535, &request));
	CHECK_NUMBER(request.count, 1);
	CHECK_NUMBER(request.targets[0].address.v4.sin_family, AF_INET);
	CHECK_NUMBER(ntohs(request.targets[0].address.v4.sin_port), 65535);
	CHECK_NUMBER(ntohl(request.targets[0].address.v4.sin_addr.s_addr), 0x0A00020F);
	CHECK(connect_decodes("fe80::1", 1, &request));
	CHECK_NUMBER(request.count, 1);
	CHECK_NUMBER(request.targets[0].length, sizeof(struct sockaddr_in6));
	CHECK(connect_decodes("", 8080, &request));
	CHECK_NUMBER(request.count, 2);
	CHECK_NUMBER(ntohl(request.targets[0].address.v4.sin_addr.s_addr), INADDR_LOOPBACK);
	CHECK(IN6_IS_ADDR_LOOPBACK(&request.targets[1].address.v6.sin6_addr));
	/* Neither too little nor too much. */
	struct packet *parameters = connect_packet("::1", 80);
	struct reader reader;
	for (size_t length = 0; length <= parameters->length + 1; length++) {
		reader_init(&reader, parameters->bytes, length);
		CHECK(connect_request_decode(&reader, &request) == (length == parameters->length));
	}
}

static void exec_requests_are_cut_at_every_byte(void) {
	struct reader reader;
	struct exec_request request;
	packet.length = 0;
	packet_u32(&packet, EXEC_STDIN);
	packet_u16(&packet, 1);
	packet_u16(&packet, 2);
	packet_str(&packet, "dev");
	packet_str(&packet, "/tmp");
	packet_u32(&packet, 2);
	packet_str(&packet, "sh");
	packet_str(&packet, "");
	packet_u32(&packet, 1);
	packet_str(&packet, "A=b");
	for (size_t length = 0; length < packet.length; length++) {
		/* An allocation of its own, so that a sanitizer sees every byte read past the end. */
		uint8_t *bytes = malloc(length + 1);
		memcpy(bytes, packet.bytes, length);
		reader_init(&reader, bytes, length);
		CHECK_NUMBER(exec_request_decode(&reader, &request), DECODE_BAD);
		free(bytes);
	}
	reader_init(&reader, packet.bytes, packet.length);
	CHECK_NUMBER(exec_request_decode(&reader, &request), DECODE_OK);
	CHECK(request.argc == 2 && strcmp(request.argv[0], "sh") == 0 && request.argv[1][0] == 0 && request.argv[2] == NULL);
	CHECK(request.variable_count == 1 && strcmp(request.variables[0], "A=b") == 0 && strcmp(request.cwd, "/tmp") == 0);
	exec_request_free(&request);
	packet.bytes[packet.length++] = 0;
	reader_init(&reader, packet.bytes, packet.length);
	CHECK_NUMBER(exec_request_decode(&reader, &request), DECODE_BAD);
}

const struct test unit_tests[] = {
	TEST(frames_are_found_at_every_split),
	TEST(preambles_are_found_among_lookalikes),
	TEST(readers_stop_at_the_first_missing_field),
	TEST(queues_keep_order_and_limit),
	TEST(users_are_resolved),
	TEST(environments_override_by_name),
	TEST(command_lines_are_searched_by_word),
	TEST(listening_sockets_are_read_from_proc),
	TEST(superblocks_tell_their_size),
	TEST(addresses_are_checked),
	TEST(json_strings_are_escaped),
	TEST(leases_are_files_and_processes),
	TEST(leases_that_nobody_holds_do_not_hide_one),
	TEST(mounts_are_checked),
	TEST(configurations_are_checked),
	TEST(identities_are_checked),
	TEST(connects_are_checked),
	TEST(exec_requests_are_cut_at_every_byte),
	{NULL, NULL},
};
