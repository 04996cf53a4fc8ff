#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "entries.h"
#include "place.h"
#include "shipped.h"
#include "unpacker.h"

#define TEMPORARY_BYTES 64
#define NS_PER_S 1000000000

/* A file that is being written: it has no name, or a temporary one in `directory`. */
struct fresh {
	int fd, directory;
	char name[TEMPORARY_BYTES];
};

static void forget_parent(struct unpacker *unpacker) {
	if (unpacker->parent >= 0) close(unpacker->parent);
	unpacker->parent = -1;
}

/* Whether both are of one file system. */
static bool is_near(int one, int other) {
	struct stat first, second;
	return one >= 0 && other >= 0 && fstat(one, &first) == 0 && fstat(other, &second) == 0 && first.st_dev == second.st_dev;
}

/* The directory a path lies in, made if missing; -1 with errno. */
static int parent_of(struct unpacker *unpacker, const char *path) {
	size_t length = place_parent_length(path);
	bool same = strlen(unpacker->parent_path) == length && memcmp(unpacker->parent_path, path, length) == 0;
	if (unpacker->parent >= 0 && same) return unpacker->parent;
	forget_parent(unpacker);
	unpacker->parent = place_open(unpacker->base, path, length, &unpacker->made, NULL);
	unpacker->parent_is_near = is_near(unpacker->parent, unpacker->staging);
	memcpy(unpacker->parent_path, path, length);
	unpacker->parent_path[length] = 0;
	return unpacker->parent;
}

/* Nanoseconds before 1970 too: tv_nsec counts upwards from a whole second. */
static void times_of(int64_t mtime_ns, struct timespec times[2]) {
	int64_t seconds = mtime_ns / NS_PER_S, rest = mtime_ns % NS_PER_S;
	if (rest < 0) {
		seconds--;
		rest += NS_PER_S;
	}
	times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
	times[1] = (struct timespec){.tv_sec = seconds, .tv_nsec = rest};
}

/* A name nobody uses: workers do not share a pid. */
static void temporary_name(char *name) {
	static unsigned serial;
	snprintf(name, TEMPORARY_BYTES, ".banger-new-%d-%u", getpid(), serial++);
}

/* Where what goes into the directory is written first. */
static int staging_for(const struct unpacker *unpacker, int directory) {
	return unpacker->parent_is_near ? unpacker->staging : directory;
}

static int open_fresh(struct fresh *fresh, int directory) {
	fresh->name[0] = 0;
	fresh->directory = directory;
	fresh->fd = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fresh->fd >= 0) return 0;
	/* ENOENT, EISDIR, EINVAL: how kernels and file systems that have no such thing say so (open(2)). */
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL) return errno;
	do {
		temporary_name(fresh->name);
		fresh->fd = openat(directory, fresh->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	} while (fresh->fd < 0 && errno == EEXIST);
	if (fresh->fd >= 0) return 0;
	fresh->name[0] = 0;
	return errno;
}

static int write_at(int fd, const uint8_t *bytes, size_t length, uint64_t offset) {
	while (length > 0) {
		ssize_t count = pwrite(fd, bytes, length, (off_t)offset);
		if (count < 0 && errno == EINTR) continue;
		if (count < 0) return errno;
		bytes += count;
		length -= (size_t)count;
		offset += (uint64_t)count;
	}
	return 0;
}

/* Takes the segments. What is not sent is a hole. */
static int fill(struct archive_input *input, int fd, uint64_t size) {
	struct archive_segment segment;
	for (uint64_t end = 0;;) {
		int error = archive_read_segment(input, end, size, &segment);
		if (error != 0) return error;
		if (segment.length == 0) return segment.offset == end || ftruncate(fd, (off_t)segment.offset) == 0 ? 0 : errno;
		for (end = segment.offset; error == 0 && segment.length > 0;) {
			const uint8_t *bytes;
			size_t length = segment.length;
			error = archive_read_bytes(input, &bytes, &length);
			if (error == 0) error = write_at(fd, bytes, length, end);
			segment.length -= (uint32_t)length;
			end += length;
		}
		if (error != 0) return error;
	}
}

/* Gives a nameless file a temporary name, to be renamed over what has the final one. */
static int name_fresh(struct fresh *fresh, const char *own) {
	do {
		temporary_name(fresh->name);
		if (linkat(AT_FDCWD, own, fresh->directory, fresh->name, AT_SYMLINK_FOLLOW) == 0) return 0;
	} while (errno == EEXIST);
	fresh->name[0] = 0;
	return errno;
}

/* A rename takes the place of anything but a directory. What is of the host's own, it may replace by force. */
static int check_replaceable(const struct unpacker *unpacker, int directory, const char *name) {
	struct stat status;
	if (unpacker->marks || fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return 0;
	return S_ISREG(status.st_mode) || S_ISLNK(status.st_mode) || S_ISDIR(status.st_mode) ? 0 : EEXIST;
}

static int publish(struct fresh *fresh, int directory, const char *name) {
	char own[PLACE_LINK_BYTES];
	snprintf(own, sizeof own, "/proc/self/fd/%d", fresh->fd);
	if (fresh->name[0] == 0) {
		if (linkat(AT_FDCWD, own, directory, name, AT_SYMLINK_FOLLOW) == 0) return 0;
		int error = errno == EEXIST ? name_fresh(fresh, own) : errno;
		if (error != 0) return error;
	}
	if (renameat(fresh->directory, fresh->name, directory, name) != 0) return errno;
	fresh->name[0] = 0;
	return 0;
}

static int finish(const struct unpacker *unpacker, int fd, const struct archive_record *record) {
	struct timespec times[2];
	times_of(record->mtime_ns, times);
	if (fchmod(fd, record->mode) != 0 || futimens(fd, times) != 0) return errno;
	return unpacker->marks ? shipped_mark_file(fd, record->path) : 0;
}

int unpacker_write_file(struct unpacker *unpacker, const struct archive_record *record) {
	struct fresh fresh;
	int directory = parent_of(unpacker, record->path);
	if (directory < 0) return errno;
	int error = open_fresh(&fresh, staging_for(unpacker, directory));
	if (error != 0) return error;
	error = fill(&unpacker->input, fresh.fd, record->size);
	if (error == 0) error = finish(unpacker, fresh.fd, record);
	if (error == 0) error = check_replaceable(unpacker, directory, place_name(record->path));
	if (error == 0) error = publish(&fresh, directory, place_name(record->path));
	if (close(fresh.fd) != 0 && error == 0) error = errno;
	if (fresh.name[0] != 0) unlinkat(fresh.directory, fresh.name, 0);
	return error;
}

int unpacker_write_symlink(struct unpacker *unpacker, const struct archive_record *record) {
	char name[TEMPORARY_BYTES];
	struct timespec times[2];
	int directory = parent_of(unpacker, record->path);
	if (directory < 0) return errno;
	int staging = staging_for(unpacker, directory);
	temporary_name(name);
	if (symlinkat(record->target, staging, name) != 0) return errno;
	times_of(record->mtime_ns, times);
	int error = utimensat(staging, name, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
	if (error == 0 && unpacker->marks) error = shipped_mark_link(staging, name, record->path);
	if (error == 0) error = check_replaceable(unpacker, directory, place_name(record->path));
	if (error == 0 && renameat(staging, name, directory, place_name(record->path)) != 0) error = errno;
	if (error != 0) unlinkat(staging, name, 0);
	return error;
}

int unpacker_write_directory(struct unpacker *unpacker, const struct archive_record *record) {
	struct timespec times[2];
	int fd = place_open(unpacker->base, record->path, strlen(record->path), &unpacker->made, NULL);
	if (fd < 0) return errno;
	if (!made_take(&unpacker->made, record->path)) {
		close(fd);
		return 0;
	}
	times_of(record->mtime_ns, times);
	int error = fchmod(fd, record->mode) == 0 && futimens(fd, times) == 0 ? 0 : errno;
	close(fd);
	return error;
}

static int delete_tree(int directory, const char *name, unsigned depth);

static int empty_directory(int fd, unsigned depth) {
	struct entries entries;
	int error = entries_open(&entries, fd);
	for (const char *name; error == 0 && (name = entries_next(&entries)) != NULL;) error = delete_tree(entries_fd(&entries), name, depth);
	if (error == 0) error = entries.error;
	entries_close(&entries);
	return error;
}

/* Deletes whatever has the name; nothing there is no error. */
static int delete_tree(int directory, const char *name, unsigned depth) {
	if (unlinkat(directory, name, 0) == 0 || errno == ENOENT) return 0;
	/* EISDIR is Linux's, EPERM what POSIX has. */
	if (errno != EISDIR && errno != EPERM) return errno;
	if (depth == 0) return ELOOP;
	int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) return errno == ENOTDIR ? EPERM : errno;
	int error = empty_directory(fd, depth - 1);
	if (error == 0 && unlinkat(directory, name, AT_REMOVEDIR) != 0 && errno != ENOENT) error = errno;
	return error;
}

/* Up to the base, as long as they have become empty. */
static void delete_empty_parents(const struct unpacker *unpacker, const char *path) {
	char parent[MAX_ARCHIVE_PATH_BYTES + 1];
	snprintf(parent, sizeof parent, "%s", path);
	for (size_t length = place_parent_length(parent); length > 0; length = place_parent_length(parent)) {
		parent[length] = 0;
		int directory = place_open(unpacker->base, parent, place_parent_length(parent), NULL, NULL);
		if (directory < 0) return;
		bool gone = unlinkat(directory, place_name(parent), AT_REMOVEDIR) == 0;
		close(directory);
		if (!gone) return;
	}
}

int unpacker_delete(struct unpacker *unpacker, const struct archive_record *record) {
	size_t length = place_parent_length(record->path);
	forget_parent(unpacker);
	int directory = place_open(unpacker->base, record->path, length, NULL, NULL);
	/* With something else in the place of a parent, the path does not exist either. */
	if (directory < 0) return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : errno;
	int error = delete_tree(directory, place_name(record->path), MAX_ARCHIVE_DEPTH);
	close(directory);
	if (error == 0 && (record->flags & ARCHIVE_DELETE_EMPTY_PARENTS) != 0) delete_empty_parents(unpacker, record->path);
	return error;
}

void unpacker_open_staging(struct unpacker *unpacker, const char *path) {
	int parent = place_open(unpacker->base, path, place_parent_length(path), NULL, NULL);
	if (parent < 0) return;
	mkdirat(parent, place_name(path), 0700);
	unpacker->staging = openat(parent, place_name(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	close(parent);
	int copy = unpacker->staging < 0 ? -1 : fcntl(unpacker->staging, F_DUPFD_CLOEXEC, 0);
	if (copy >= 0) empty_directory(copy, MAX_ARCHIVE_DEPTH);
	forget_parent(unpacker);
}
