#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "user.h"

#define DIRECTORY_MODE 0755
/* What is worth keeping in its place: one block of a disk. */
#define OVERWRITE_BYTES 4096

static int make_one(const char *path, uid_t uid, gid_t gid) {
	if (mkdir(path, DIRECTORY_MODE) != 0) return errno == EEXIST ? 0 : errno;
	return lchown(path, uid, gid) == 0 ? 0 : errno;
}

int tree_make_parents(const char *path, uid_t uid, gid_t gid) {
	char part[MAX_PATH_BYTES];
	const char *last = strrchr(path, '/');
	if (last == NULL || last == path) return 0;
	if ((size_t)(last - path) >= sizeof part) return ENAMETOOLONG;
	memcpy(part, path, (size_t)(last - path));
	part[last - path] = 0;
	struct stat status;
	if (stat(part, &status) == 0) return 0;
	for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		int error = make_one(part, uid, gid);
		*slash = '/';
		if (error != 0) return error;
	}
	return make_one(part, uid, gid);
}

int tree_make(const char *path, uid_t uid, gid_t gid) {
	int error = tree_make_parents(path, uid, gid);
	return error != 0 ? error : make_one(path, uid, gid);
}

static int fill(int fd, mode_t mode, uid_t uid, gid_t gid, struct text content) {
	int error = write_all(fd, content.bytes, content.length);
	/* The owner first: a change of owner takes setuid bits away. */
	if (error == 0 && fchown(fd, uid, gid) != 0) error = errno;
	if (error == 0 && fchmod(fd, mode) != 0) error = errno;
	return error;
}

int tree_write(const char *path, mode_t mode, uid_t uid, gid_t gid, struct text content) {
	char temporary[MAX_PATH_BYTES + 16];
	int printed = snprintf(temporary, sizeof temporary, "%s.banger-new", path);
	if (printed < 0 || (size_t)printed >= sizeof temporary) return ENAMETOOLONG;
	int error = tree_make_parents(path, uid, gid);
	if (error != 0) return error;
	/* Left behind by a machine that died in between. */
	if (unlink(temporary) != 0 && errno != ENOENT) return errno;
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) return errno;
	error = fill(fd, mode, uid, gid, content);
	if (close(fd) != 0 && error == 0) error = errno;
	if (error == 0 && rename(temporary, path) != 0) error = errno;
	if (error != 0) unlink(temporary);
	return error;
}

/* Whether the file is one of its own, with this owner and mode. */
static bool is_plain(const struct stat *status, mode_t mode, uid_t uid, gid_t gid) {
	return S_ISREG(status->st_mode) && status->st_nlink == 1 && (status->st_mode & 07777) == mode && status->st_uid == uid &&
		status->st_gid == gid;
}

static bool has_content(int fd, off_t size, struct text content) {
	char bytes[OVERWRITE_BYTES];
	if (size != (off_t)content.length) return false;
	return pread(fd, bytes, content.length, 0) == (ssize_t)content.length && memcmp(bytes, content.bytes, content.length) == 0;
}

static int overwrite(int fd, off_t size, struct text content) {
	if (pwrite(fd, content.bytes, content.length, 0) != (ssize_t)content.length) return EIO;
	return size <= (off_t)content.length || ftruncate(fd, (off_t)content.length) == 0 ? 0 : errno;
}

int tree_settle(const char *path, mode_t mode, uid_t uid, gid_t gid, struct text content) {
	struct stat status;
	int fd = content.length > OVERWRITE_BYTES ? -1 : open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) return tree_write(path, mode, uid, gid, content);
	bool plain = fstat(fd, &status) == 0 && is_plain(&status, mode, uid, gid);
	bool settled = plain && has_content(fd, status.st_size, content);
	if (!settled && plain) settled = overwrite(fd, status.st_size, content) == 0;
	close(fd);
	return settled ? 0 : tree_write(path, mode, uid, gid, content);
}

bool tree_is_foreign(const char *path, struct text content) {
	char bytes[OVERWRITE_BYTES];
	const char *end = memchr(content.bytes, '\n', content.length);
	size_t line = end == NULL ? content.length : (size_t)(end - content.bytes) + 1;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) return errno != ENOENT;
	struct stat status;
	bool is_file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
	ssize_t count = is_file && line <= sizeof bytes ? pread(fd, bytes, line, 0) : -1;
	close(fd);
	if (count == 0 || (count == 1 && status.st_size == 1 && bytes[0] == '\n')) return false;
	return count != (ssize_t)line || memcmp(bytes, content.bytes, line) != 0;
}
