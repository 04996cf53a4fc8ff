#include "shipped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/xattr.h>

#include "bytes.h"
#include "place.h"

/* `trusted`: programs without privileges neither see nor make it. */
#define ATTRIBUTE "trusted.banger.shipped"
#define MARK_SIZE_AT 8
#define MARK_MODE_AT 16
#define MARK_BYTES 20

/* Modification time in ns, size, mode with the type. */
static void mark_of(const struct stat *status, uint8_t mark[MARK_BYTES]) {
	uint64_t ns = (uint64_t)status->st_mtim.tv_sec * 1000000000U + (uint64_t)status->st_mtim.tv_nsec;
	put_u32(mark, (uint32_t)ns);
	put_u32(mark + 4, (uint32_t)(ns >> 32));
	put_u32(mark + MARK_SIZE_AT, (uint32_t)status->st_size);
	put_u32(mark + MARK_SIZE_AT + 4, (uint32_t)((uint64_t)status->st_size >> 32));
	put_u32(mark + MARK_MODE_AT, (uint32_t)status->st_mode);
}

static uint64_t size_in(const uint8_t mark[MARK_BYTES]) {
	struct reader reader;
	reader_init(&reader, mark + MARK_SIZE_AT, 8);
	uint64_t low = read_u32(&reader);
	return low | (uint64_t)read_u32(&reader) << 32;
}

static int marked(int result) {
	return result == 0 || errno == EOPNOTSUPP || errno == EPERM ? 0 : errno;
}

int shipped_mark_file(int fd) {
	struct stat status;
	uint8_t mark[MARK_BYTES];
	if (fstat(fd, &status) != 0) return errno;
	mark_of(&status, mark);
	return marked(fsetxattr(fd, ATTRIBUTE, mark, sizeof mark, 0));
}

int shipped_mark_link(int directory, const char *name) {
	char path[PLACE_LINK_BYTES];
	struct stat status;
	uint8_t mark[MARK_BYTES];
	if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return errno;
	mark_of(&status, mark);
	place_link(path, directory, name);
	return marked(lsetxattr(path, ATTRIBUTE, mark, sizeof mark, 0));
}

bool shipped_unchanged(int directory, const char *name, const struct stat *status) {
	char path[PLACE_LINK_BYTES];
	uint8_t expected[MARK_BYTES], mark[MARK_BYTES];
	place_link(path, directory, name);
	if (lgetxattr(path, ATTRIBUTE, mark, sizeof mark) != MARK_BYTES) return false;
	mark_of(status, expected);
	bool same_time = memcmp(mark, expected, MARK_SIZE_AT) == 0;
	bool same_mode = memcmp(mark + MARK_MODE_AT, expected + MARK_MODE_AT, MARK_BYTES - MARK_MODE_AT) == 0;
	return same_time && same_mode && status->st_size >= 0 && (uint64_t)status->st_size <= size_in(mark);
}
