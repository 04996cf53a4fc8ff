/* The records of archives, and what becomes of them, without a session. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../src/archive.h"
#include "../src/archive_request.h"
#include "../src/bytes.h"
#include "../src/entries.h"
#include "../src/place.h"
#include "../src/unpacker.h"
#include "check.h"
#include "fakes.h"

static struct archive_input input;
static struct archive_output output;
static struct archive_record record;

/* What is read next, and nothing after it. */
static void feed(const void *bytes, size_t length) {
	input = (struct archive_input){.fd = -1, .to = length};
	memcpy(input.buffer, bytes, length);
}

static void paths_stay_below(void) {
	static const char *const good[] = {"a", "a/b", "...", "a/..b", ".a", "a\nb", "\xff\xfe"};
	static const char *const bad[] = {"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "./a"};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) CHECK(archive_path_valid(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) CHECK(!archive_path_valid(bad[i]));
	char path[MAX_ARCHIVE_PATH_BYTES + 2];
	memset(path, 'x', sizeof path);
	path[MAX_ARCHIVE_NAME_BYTES] = 0;
	CHECK(archive_path_valid(path));
	path[MAX_ARCHIVE_NAME_BYTES] = 'x';
	path[MAX_ARCHIVE_NAME_BYTES + 1] = 0;
	CHECK(!archive_path_valid(path));
	for (size_t i = 0; i < sizeof path; i++) path[i] = i % 2 == 0 ? 'x' : '/';
	path[2 * MAX_ARCHIVE_DEPTH - 1] = 0;
	CHECK(archive_path_valid(path));
	path[2 * MAX_ARCHIVE_DEPTH - 1] = '/';
	path[2 * MAX_ARCHIVE_DEPTH + 1] = 0;
	CHECK(!archive_path_valid(path));
}

static void records_are_read_at_every_split(void) {
	static const uint8_t bytes[] = {
		ARCHIVE_FILE, 3, 0, 'a', '/', 'b', 0xED, 0x09, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 5, 0, 0, 0, 0, 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 'd', 'a', 't', 'a', 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ARCHIVE_END,
	};
	struct archive_segment segment;
	for (size_t length = 0; length < 26; length++) {
		feed(bytes, length);
		CHECK_NUMBER(archive_read_record(&input, &record), EPROTO);
	}
	feed(bytes, sizeof bytes);
	CHECK_NUMBER(archive_read_record(&input, &record), 0);
	CHECK(record.kind == ARCHIVE_FILE && strcmp(record.path, "a/b") == 0);
	CHECK(record.mode == 04755 && record.mtime_ns == -1 && record.size == 5);
	CHECK_NUMBER(archive_read_segment(&input, 0, 5, &segment), 0);
	CHECK(segment.offset == 1 && segment.length == 4);
	const uint8_t *data;
	size_t length = segment.length;
	CHECK_NUMBER(archive_read_bytes(&input, &data, &length), 0);
	CHECK(length == 4 && memcmp(data, "data", 4) == 0);
	CHECK_NUMBER(archive_read_segment(&input, 5, 5, &segment), 0);
	CHECK(segment.offset == 5 && segment.length == 0);
	CHECK_NUMBER(archive_read_record(&input, &record), 0);
	CHECK_NUMBER(record.kind, ARCHIVE_END);
	CHECK_NUMBER(archive_read_record(&input, &record), EPROTO);
}

static void what_makes_no_sense_is_refused(void) {
	static const uint8_t unknown[] = {99, 1, 0, 'a'};
	static const uint8_t from_the_guest[] = {ARCHIVE_CONFLICT, 1, 0, 'a', 1};
	static const uint8_t escaping[] = {ARCHIVE_CHECK, 2, 0, '.', '.', 0};
	static const uint8_t nul[] = {ARCHIVE_CHECK, 3, 0, 'a', 0, 'b', 0};
	static const uint8_t flags[] = {ARCHIVE_CHECK, 1, 0, 'a', 2};
	static const uint8_t mode[] = {ARCHIVE_DIRECTORY, 1, 0, 'a', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t size[] = {ARCHIVE_FILE, 1, 0, 'a', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80};
	static const uint8_t content[] = {ARCHIVE_CHECK_CONTENT, 1, 0, 'a', 0, 1, 0x10};
	static const uint8_t absent[] = {ARCHIVE_CHECK_CONTENT, 1, 0, 'a', 1, 1, 0, 'x'};
	static const struct {
		const uint8_t *bytes;
		size_t length;
	} cases[] = {
		{unknown, sizeof unknown}, {from_the_guest, sizeof from_the_guest}, {escaping, sizeof escaping}, {nul, sizeof nul},
		{flags, sizeof flags}, {mode, sizeof mode}, {size, sizeof size}, {content, sizeof content}, {absent, sizeof absent},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		feed(cases[i].bytes, cases[i].length);
		CHECK_NUMBER(archive_read_record(&input, &record), EPROTO);
	}
	static const uint8_t segments[] = {
		0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0,
	};
	struct archive_segment segment;
	feed(segments, sizeof segments);
	/* Too long, before the one before, behind the end, and beyond all numbers. */
	CHECK_NUMBER(archive_read_segment(&input, 0, 5, &segment), EPROTO);
	CHECK_NUMBER(archive_read_segment(&input, 4, 10, &segment), EPROTO);
	CHECK_NUMBER(archive_read_segment(&input, 0, 5, &segment), EPROTO);
	CHECK_NUMBER(archive_read_segment(&input, 0, 5, &segment), EPROTO);
}

static void written_records_are_what_is_read(void) {
	int pair[2];
	CHECK(pipe2(pair, O_CLOEXEC) == 0);
	output = (struct archive_output){.fd = pair[1]};
	record = (struct archive_record){.kind = ARCHIVE_SYMLINK, .path = "l", .target = "to/where", .mtime_ns = INT64_MIN};
	archive_write_record(&output, &record);
	record = (struct archive_record){.kind = ARCHIVE_FILE, .path = "f", .mode = 0644, .mtime_ns = 7, .size = 9};
	archive_write_record(&output, &record);
	memcpy(archive_reserve_segment(&output, 100), "bytes", 5);
	archive_commit_segment(&output, (struct archive_segment){.offset = 2, .length = 5});
	archive_end_file(&output, 9);
	CHECK_NUMBER(archive_flush(&output), 0);
	close(pair[1]);
	input = (struct archive_input){.fd = pair[0]};
	CHECK_NUMBER(archive_read_record(&input, &record), 0);
	CHECK(strcmp(record.path, "l") == 0 && strcmp(record.target, "to/where") == 0 && record.mtime_ns == INT64_MIN);
	CHECK_NUMBER(archive_read_record(&input, &record), 0);
	CHECK(record.kind == ARCHIVE_FILE && record.mode == 0644 && record.mtime_ns == 7 && record.size == 9);
	struct archive_segment segment;
	CHECK_NUMBER(archive_read_segment(&input, 0, 9, &segment), 0);
	const uint8_t *data;
	size_t length = segment.length;
	CHECK_NUMBER(archive_read_bytes(&input, &data, &length), 0);
	CHECK(segment.offset == 2 && length == 5 && memcmp(data, "bytes", 5) == 0);
	CHECK_NUMBER(archive_read_segment(&input, 7, 9, &segment), 0);
	CHECK_NUMBER(segment.offset, 9);
	CHECK_NUMBER(archive_read_record(&input, &record), EPROTO);
	close(pair[0]);
}

/* A segment of five bytes and the end. */
static void feed_segments(uint8_t end) {
	uint8_t bytes[29] = {[8] = 5, [12] = 'h', 'e', 'l', 'l', 'o', [17] = end};
	feed(bytes, sizeof bytes);
}

static unsigned count_entries(const char *path, const char *expected) {
	struct entries entries;
	unsigned count = 0;
	if (entries_open(&entries, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) != 0) return 99;
	for (const char *name; (name = entries_next(&entries)) != NULL;) count += strcmp(name, expected) == 0 ? 1 : 10;
	entries_close(&entries);
	return count;
}

/* On a file system that has no files without names. */
static void a_temporary_name_never_stays(void) {
	static struct unpacker unpacker;
	char path[] = "/tmp/agent-test-XXXXXX";
	CHECK(mkdtemp(path) != NULL);
	unpacker = (struct unpacker){.base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .upper = -1, .staging = -1, .parent = -1};
	record = (struct archive_record){.kind = ARCHIVE_FILE, .path = "file", .mode = 0600, .size = 5};
	refuses_nameless_files = true;
	for (int round = 0; round < 2; round++) {
		feed_segments(5);
		unpacker.input = input;
		CHECK_NUMBER(unpacker_write_file(&unpacker, &record), 0);
		CHECK_NUMBER(count_entries(path, "file"), 1);
	}
	feed_segments(4);
	unpacker.input = input;
	CHECK_NUMBER(unpacker_write_file(&unpacker, &record), EPROTO);
	CHECK_NUMBER(count_entries(path, "file"), 1);
	CHECK(made_in != unpacker.staging);
	unpacker_open_staging(&unpacker, "staging");
	feed_segments(5);
	unpacker.input = input;
	CHECK_NUMBER(unpacker_write_file(&unpacker, &record), 0);
	refuses_nameless_files = false;
	CHECK(unpacker.staging >= 0 && made_in == unpacker.staging);
	close(unpacker.staging);
	CHECK_NUMBER(unlinkat(unpacker.base, "staging", AT_REMOVEDIR), 0);
	CHECK_NUMBER(count_entries(path, "file"), 1);
	CHECK_NUMBER(unlinkat(unpacker.base, "file", 0), 0);
	close(unpacker.base);
	close(unpacker.parent);
	rmdir(path);
}

/* The conflicts of a CHECK of what was shipped. */
static unsigned conflicts_of(struct unpacker *unpacker, const char *path) {
	static struct archive_record check;
	check = (struct archive_record){.kind = ARCHIVE_CHECK, .flags = ARCHIVE_CHECK_SHIPPED};
	snprintf(check.path, sizeof check.path, "%s", path);
	unpacker->conflicts = 0;
	return unpacker_check(unpacker, &check) == 0 ? unpacker->conflicts : 99;
}

static void a_mark_says_where_it_was_made(void) {
	static const char attribute[] = "trusted.banger.shipped";
	static struct unpacker unpacker;
	char path[] = "/tmp/agent-test-XXXXXX";
	uint8_t mark[64];
	CHECK(mkdtemp(path) != NULL);
	unpacker = (struct unpacker){.base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .upper = -1, .marks = true, .staging = -1, .parent = -1};
	/* Not every file system and user can have marks. */
	if (fsetxattr(unpacker.base, attribute, "", 0, 0) == 0) {
		record = (struct archive_record){.kind = ARCHIVE_FILE, .path = "foobar", .mode = 0600, .size = 5};
		feed_segments(5);
		unpacker.input = input;
		CHECK_NUMBER(unpacker_write_file(&unpacker, &record), 0);
		record = (struct archive_record){.kind = ARCHIVE_SYMLINK, .path = "link", .target = "foobar"};
		CHECK_NUMBER(unpacker_write_symlink(&unpacker, &record), 0);
		int fd = openat(unpacker.base, "foobar", O_RDONLY | O_CLOEXEC);
		CHECK_NUMBER(fgetxattr(fd, attribute, mark, sizeof mark), 28);
		/* The test vector of draft-eastlake-fnv for "foobar". */
		CHECK(get_u64(mark + 20) == UINT64_C(0x85944171f73967e8));
		CHECK_NUMBER(conflicts_of(&unpacker, "foobar") + conflicts_of(&unpacker, "link"), 0);
		/* Half of one. */
		CHECK_NUMBER(fsetxattr(fd, attribute, mark, 24, 0), 0);
		CHECK_NUMBER(conflicts_of(&unpacker, "foobar"), 1);
		CHECK_NUMBER(fsetxattr(fd, attribute, mark, 28, 0), 0);
		CHECK_NUMBER(renameat(unpacker.base, "foobar", unpacker.base, "other"), 0);
		CHECK_NUMBER(renameat(unpacker.base, "link", unpacker.base, "other link"), 0);
		CHECK_NUMBER(conflicts_of(&unpacker, "other"), 1);
		CHECK_NUMBER(conflicts_of(&unpacker, "other link"), 1);
		/* One that says nothing of a path. */
		CHECK_NUMBER(fsetxattr(fd, attribute, mark, 20, 0), 0);
		CHECK_NUMBER(conflicts_of(&unpacker, "other"), 0);
		close(fd);
		CHECK_NUMBER(unlinkat(unpacker.base, "other", 0) + unlinkat(unpacker.base, "other link", 0), 0);
		close(unpacker.parent);
	}
	close(unpacker.base);
	CHECK_NUMBER(rmdir(path), 0);
}

static void requests_are_checked(void) {
	struct unpack_request unpack;
	struct pack_request pack;
	struct reader reader;
	static const uint8_t relative[] = {1, 0, 0, 0, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t plain[] = {1, 0, 0, 0, '/', 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0};
	static const uint8_t flags[] = {1, 0, 0, 0, '/', 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0};
	static const uint8_t staged[] = {1, 0, 0, 0, '/', 0, 0, 0, 0, 3, 0, 0, 0, 'a', '/', 'b', 0, 0, 0, 0};
	static const uint8_t above[] = {1, 0, 0, 0, '/', 0, 0, 0, 0, 2, 0, 0, 0, '.', '.', 0, 0, 0, 0};
	reader_init(&reader, relative, sizeof relative);
	CHECK(!unpack_request_decode(&reader, &unpack));
	reader_init(&reader, plain, sizeof plain);
	CHECK(unpack_request_decode(&reader, &unpack) && unpack.flags == (UNPACK_MARK | UNPACK_BASE_MUST_EXIST));
	reader_init(&reader, flags, sizeof flags);
	CHECK(!unpack_request_decode(&reader, &unpack));
	reader_init(&reader, staged, sizeof staged);
	CHECK(unpack_request_decode(&reader, &unpack) && strcmp(unpack.staging, "a/b") == 0);
	reader_init(&reader, above, sizeof above);
	CHECK(!unpack_request_decode(&reader, &unpack));
	static const uint8_t two[] = {1, 0, 0, 0, '/', 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'a'};
	static const uint8_t up[] = {1, 0, 0, 0, '/', 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, '.', '.'};
	reader_init(&reader, two, sizeof two);
	CHECK(pack_request_decode(&reader, &pack) && pack.path_count == 2);
	CHECK_NUMBER(read_str(&pack.paths).length, 0);
	CHECK_NUMBER(read_str(&pack.paths).length, 1);
	reader_init(&reader, two, sizeof two - 1);
	CHECK(!pack_request_decode(&reader, &pack));
	reader_init(&reader, up, sizeof up);
	CHECK(!pack_request_decode(&reader, &pack));
}

const struct test archive_tests[] = {
	TEST(paths_stay_below),
	TEST(records_are_read_at_every_split),
	TEST(what_makes_no_sense_is_refused),
	TEST(written_records_are_what_is_read),
	TEST(a_temporary_name_never_stays),
	TEST(a_mark_says_where_it_was_made),
	TEST(requests_are_checked),
	{NULL, NULL},
};
