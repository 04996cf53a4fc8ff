#include "pack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "archive.h"
#include "archive_request.h"
#include "entries.h"
#include "place.h"
#include "process.h"
#include "session.h"
#include "worker.h"

/* The kernel's own files have no size: what they are read to at most. */
#define MAX_SIZELESS_BYTES (16 * 1024 * 1024)
#define STAT_BLOCK_BYTES 512

static struct packer {
	struct archive_output output;
	/* Of what is being sent, or what failed. */
	struct archive_record record;
	uint32_t flags;
} packer = {.output = {.fd = 1}};

/* What cannot be sent any more ends everything. */
static int put(void) {
	archive_write_record(&packer.output, &packer.record);
	return packer.output.error;
}

static int64_t mtime_of(const struct stat *status) {
	return (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
}

/* Views of the kernel's state: endless, and no use anywhere else. */
static bool is_kernels(int fd) {
	static const unsigned long magics[] = {PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC};
	struct statfs status;
	if (fstatfs(fd, &status) != 0) return false;
	for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
		if ((unsigned long)status.f_type == magics[i]) return true;
	}
	return false;
}

/* Sends the bytes from `from` to `to`, or to the file's end if that comes first. `*end` is how far it came. */
static int send_range(int fd, uint64_t from, uint64_t to, uint64_t *end) {
	while (from < to && packer.output.error == 0) {
		uint64_t left = to - from;
		size_t length = left < ARCHIVE_SEGMENT_BYTES ? (size_t)left : ARCHIVE_SEGMENT_BYTES;
		ssize_t count = pread(fd, archive_reserve_segment(&packer.output, length), length, (off_t)from);
		if (count < 0 && errno == EINTR) continue;
		if (count < 0) return errno;
		if (count == 0) break;
		archive_commit_segment(&packer.output, (struct archive_segment){.offset = from, .length = (uint32_t)count});
		from += (uint64_t)count;
	}
	*end = from;
	return packer.output.error;
}

/* Only what is no hole; a file system that does not tell has none. */
static int send_sparse(int fd, uint64_t size, uint64_t *end) {
	for (off_t at = 0; (uint64_t)at < size;) {
		off_t data = lseek(fd, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO) break;
		if (data < 0) return send_range(fd, (uint64_t)at, size, end);
		off_t hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > size) hole = (off_t)size;
		int error = send_range(fd, (uint64_t)data, (uint64_t)hole, end);
		if (error != 0 || *end < (uint64_t)hole) return error;
		at = hole;
	}
	*end = size;
	return 0;
}

static int send_content(int fd, const struct stat *status) {
	uint64_t size = (uint64_t)status->st_size, end = 0;
	bool sparse = (uint64_t)status->st_blocks * STAT_BLOCK_BYTES < size;
	if (size == 0 && is_kernels(fd)) size = MAX_SIZELESS_BYTES;
	packer.record.size = size;
	if (put() != 0) return packer.output.error;
	int error = sparse ? send_sparse(fd, size, &end) : send_range(fd, 0, size, &end);
	if (error == 0) archive_end_file(&packer.output, end);
	return error;
}

static int send_file(int directory, const char *name, const struct stat *seen) {
	struct stat status = *seen;
	packer.record.kind = ARCHIVE_FILE;
	packer.record.mode = status.st_mode & 07777;
	packer.record.mtime_ns = mtime_of(&status);
	packer.record.size = (uint64_t)status.st_size;
	if ((packer.flags & PACK_ENTRY_ONLY) != 0) {
		if (put() == 0) archive_end_file(&packer.output, 0);
		return packer.output.error;
	}
	int follow = (packer.flags & PACK_FOLLOW) != 0 ? 0 : O_NOFOLLOW;
	int fd = openat(directory, name, O_RDONLY | follow | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) return errno;
	/* It may be another one by now. */
	int error = fstat(fd, &status) != 0 ? errno : S_ISREG(status.st_mode) ? send_content(fd, &status) : ENOENT;
	close(fd);
	return error;
}

static int send_symlink(int directory, const char *name, const struct stat *status) {
	ssize_t length = readlinkat(directory, name, packer.record.target, MAX_ARCHIVE_PATH_BYTES);
	if (length < 0) return errno;
	packer.record.target[length] = 0;
	packer.record.kind = ARCHIVE_SYMLINK;
	packer.record.mtime_ns = mtime_of(status);
	return put();
}

static int skip(enum archive_skip why) {
	packer.record.kind = ARCHIVE_SKIPPED;
	packer.record.flags = (uint8_t)why;
	return put();
}

static int send_entry(int directory, const char *name, dev_t device, unsigned depth);

/* What is in an open directory, which is closed. Its path is in the record, before and afterwards. Links in it are not followed. */
static int send_entries(int fd, dev_t device, unsigned depth) {
	struct entries entries;
	size_t length = strlen(packer.record.path);
	uint32_t flags = packer.flags;
	packer.flags &= ~(uint32_t)PACK_FOLLOW;
	int error = entries_open(&entries, fd);
	for (const char *name; error == 0 && (name = entries_next(&entries)) != NULL;) {
		size_t from = length == 0 ? 0 : length + 1, more = strlen(name);
		if (depth == 0 || from + more > MAX_ARCHIVE_PATH_BYTES) {
			error = ENAMETOOLONG;
			break;
		}
		if (length > 0) packer.record.path[length] = '/';
		memcpy(packer.record.path + from, name, more + 1);
		error = send_entry(entries_fd(&entries), name, device, depth - 1);
		/* Gone since the directory was read: as if it had been gone before. */
		if (error == ENOENT) error = 0;
		if (error == 0) packer.record.path[length] = 0;
	}
	if (error == 0) error = entries.error;
	entries_close(&entries);
	packer.flags = flags;
	return error;
}

/* After its content, whose arrival would change its time. */
static int send_directory(int directory, const char *name, const struct stat *status, dev_t device, unsigned depth) {
	int follow = (packer.flags & PACK_FOLLOW) != 0 ? 0 : O_NOFOLLOW;
	int error = 0;
	if ((packer.flags & PACK_ENTRY_ONLY) == 0) {
		int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | follow | O_CLOEXEC);
		if (fd < 0) return errno;
		if (status->st_dev != device && is_kernels(fd)) {
			close(fd);
			return skip(SKIPPED_MOUNT);
		}
		error = send_entries(fd, status->st_dev, depth);
	}
	if (error != 0) return error;
	packer.record.kind = ARCHIVE_DIRECTORY;
	packer.record.mode = status->st_mode & 07777;
	packer.record.mtime_ns = mtime_of(status);
	return put();
}

/* `device`: of the directory above; 0 at the top. */
static int send_entry(int directory, const char *name, dev_t device, unsigned depth) {
	struct stat status;
	int follow = (packer.flags & PACK_FOLLOW) != 0 ? 0 : AT_SYMLINK_NOFOLLOW;
	if (fstatat(directory, name, &status, follow) != 0) return errno;
	if (S_ISDIR(status.st_mode)) return send_directory(directory, name, &status, device == 0 ? status.st_dev : device, depth);
	if (S_ISLNK(status.st_mode)) return send_symlink(directory, name, &status);
	if (S_ISREG(status.st_mode)) return send_file(directory, name, &status);
	return skip(SKIPPED_SPECIAL);
}

/* One of the paths that were asked for, in the record. */
static int send_path(int base) {
	struct stat status;
	char *path = packer.record.path;
	if (path[0] == 0) {
		if (fstat(base, &status) != 0) return errno;
		int fd = place_open(base, path, 0, NULL, NULL);
		return fd < 0 ? errno : send_entries(fd, status.st_dev, MAX_ARCHIVE_DEPTH);
	}
	int directory = place_open(base, path, place_parent_length(path), NULL, NULL);
	if (directory < 0) return errno;
	int error = send_entry(directory, place_name(path), 0, MAX_ARCHIVE_DEPTH);
	close(directory);
	return error;
}

static int work(const void *argument) {
	const struct pack_request *request = argument;
	struct reader paths = request->paths;
	packer.flags = request->flags;
	int base = open(request->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (base < 0) return worker_fail("pack", request->base, errno);
	for (uint32_t i = 0; i < request->path_count; i++) {
		read_str_into(&paths, packer.record.path, sizeof packer.record.path);
		int error = send_path(base);
		if (error != 0) return worker_fail("pack", packer.record.path[0] == 0 ? request->base : packer.record.path, error);
	}
	packer.record.kind = ARCHIVE_END;
	put();
	return archive_flush(&packer.output) == 0 ? 0 : 1;
}

void pack_open(uint32_t id, struct reader *reader) {
	struct pack_request request;
	if (!pack_request_decode(reader, &request)) session_fail(id, "bad-request", EINVAL);
	else process_begin_worker(id, false, work, &request);
}
