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
#define MARK_PATH_AT 20
#define MARK_BYTES 28
/* Of a mark that says nothing of a path, as older agents made them: it holds anywhere. */
#define MARK_BYTES_WITHOUT_PATH MARK_PATH_AT

/* FNV-1a of 64 bits, with the offset basis and prime of draft-eastlake-fnv. */
static uint64_t digest_of(const char *path) {
	uint64_t digest = UINT64_C(0xcbf29ce484222325);
	for (; *path != 0; path++) digest = (digest ^ (uint8_t)*path) * UINT64_C(0x100000001b3);
	return digest;
}

/* Modification time in ns, size, mode with the type, and where: attributes go along when a file is moved. */
static void mark_of(const struct stat *status, const char *path, uint8_t mark[MARK_BYTES]) {
	put_u64(mark, (uint64_t)status->st_mtim.tv_sec * 1000000000U + (uint64_t)status->st_mtim.tv_nsec);
	put_u64(mark + MARK_SIZE_AT, (uint64_t)status->st_size);
	put_u32(mark + MARK_MODE_AT, (uint32_t)status->st_mode);
	put_u64(mark + MARK_PATH_AT, digest_of(path));
}

static int marked(int result) {
	return result == 0 || errno == EOPNOTSUPP || errno == EPERM ? 0 : errno;
}

int shipped_mark_file(int fd, const char *path) {
	struct stat status;
	uint8_t mark[MARK_BYTES];
	if (fstat(fd, &status) != 0) return errno;
	mark_of(&status, path, mark);
	return marked(fsetxattr(fd, ATTRIBUTE, mark, sizeof mark, 0));
}

int shipped_mark_link(int directory, const char *name, const char *path) {
	char link[PLACE_LINK_BYTES];
	struct stat status;
	uint8_t mark[MARK_BYTES];
	if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return errno;
	mark_of(&status, path, mark);
	place_link(link, directory, name);
	return marked(lsetxattr(link, ATTRIBUTE, mark, sizeof mark, 0));
}

bool shipped_unchanged(int directory, const char *path, const struct stat *status) {
	char link[PLACE_LINK_BYTES];
	uint8_t expected[MARK_BYTES], mark[MARK_BYTES];
	place_link(link, directory, place_name(path));
	ssize_t length = lgetxattr(link, ATTRIBUTE, mark, sizeof mark);
	if (length != MARK_BYTES && length != MARK_BYTES_WITHOUT_PATH) return false;
	mark_of(status, path, expected);
	bool same_time = memcmp(mark, expected, MARK_SIZE_AT) == 0;
	/* The mode, and the path if it has one. */
	bool same_rest = memcmp(mark + MARK_MODE_AT, expected + MARK_MODE_AT, (size_t)length - MARK_MODE_AT) == 0;
	return same_time && same_rest && status->st_size >= 0 && (uint64_t)status->st_size <= get_u64(mark + MARK_SIZE_AT);
}
