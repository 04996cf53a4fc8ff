#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "entries.h"
#include "place.h"
#include "shipped.h"
#include "unpacker.h"

/* More are counted, not named. */
#define MAX_CONFLICTS 1000

static void conflict(struct unpacker *unpacker, const char *path, enum archive_conflict why) {
	static struct archive_record record = {.kind = ARCHIVE_CONFLICT};
	if (unpacker->conflicts++ >= MAX_CONFLICTS) return;
	memcpy(record.path, path, strlen(path) + 1);
	record.flags = (uint8_t)why;
	archive_write_record(&unpacker->output, &record);
}

/* Whether what is at the path was put there since the overlay was mounted; without one everything was. */
static bool in_upper(const struct unpacker *unpacker, const char *path) {
	struct stat status;
	if (unpacker->upper < 0) return true;
	int directory = place_open(unpacker->upper, path, place_parent_length(path), NULL, NULL);
	if (directory < 0) return false;
	bool found = fstatat(directory, place_name(path), &status, AT_SYMLINK_NOFOLLOW) == 0;
	close(directory);
	return found;
}

static int check_entry(struct unpacker *unpacker, int directory, char *path, enum archive_conflict why, unsigned depth);

/* Everything in it, at any depth. */
static int check_directory(struct unpacker *unpacker, int directory, char *path, enum archive_conflict why, unsigned depth) {
	struct entries entries;
	size_t length = strlen(path);
	int fd = openat(directory, place_name(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) return errno;
	int error = entries_open(&entries, fd);
	for (const char *name; error == 0 && (name = entries_next(&entries)) != NULL;) {
		size_t more = strlen(name);
		if (length + 1 + more > MAX_ARCHIVE_PATH_BYTES || depth == 0) {
			/* What no archive can name was not shipped. */
			conflict(unpacker, path, why);
			break;
		}
		path[length] = '/';
		memcpy(path + length + 1, name, more + 1);
		error = check_entry(unpacker, entries_fd(&entries), path, why, depth - 1);
		path[length] = 0;
	}
	if (error == 0) error = entries.error;
	entries_close(&entries);
	return error;
}

/* `why`: what it is called when it was not shipped just so. Changes the path's buffer behind its end. */
static int check_entry(struct unpacker *unpacker, int directory, char *path, enum archive_conflict why, unsigned depth) {
	struct stat status;
	if (fstatat(directory, place_name(path), &status, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT ? 0 : errno;
	if (!in_upper(unpacker, path)) return 0;
	if (S_ISDIR(status.st_mode)) return check_directory(unpacker, directory, path, why, depth);
	if (!shipped_unchanged(directory, path, &status)) conflict(unpacker, path, why);
	return 0;
}

/* Something else stands in the place of a parent: it must be what was shipped, to be deleted before the path is written. */
static int check_obstacle(struct unpacker *unpacker, const char *path, size_t length, enum archive_conflict why) {
	char obstacle[MAX_ARCHIVE_PATH_BYTES + 1];
	memcpy(obstacle, path, length);
	obstacle[length] = 0;
	int directory = place_open(unpacker->base, obstacle, place_parent_length(obstacle), NULL, NULL);
	if (directory < 0) return errno == ENOENT ? 0 : errno;
	int error = check_entry(unpacker, directory, obstacle, why, MAX_ARCHIVE_DEPTH);
	close(directory);
	return error;
}

static bool is_absent(int directory, const char *name) {
	struct stat status;
	return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

int unpacker_check(struct unpacker *unpacker, const struct archive_record *record) {
	bool shipped = (record->flags & ARCHIVE_CHECK_SHIPPED) != 0;
	enum archive_conflict why = shipped ? CONFLICT_CHANGED : CONFLICT_EXISTS;
	size_t reached = 0;
	errno = ENOENT;
	int directory = unpacker->base < 0 ? -1 : place_open(unpacker->base, record->path, place_parent_length(record->path), NULL, &reached);
	if (directory < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP) return errno;
	bool blocked = directory < 0 && errno != ENOENT;
	if (shipped && (directory < 0 || is_absent(directory, place_name(record->path)))) conflict(unpacker, record->path, CONFLICT_DELETED);
	else if (blocked) return check_obstacle(unpacker, record->path, reached, why);
	if (directory < 0) return 0;
	char path[MAX_ARCHIVE_PATH_BYTES + 1];
	memcpy(path, record->path, strlen(record->path) + 1);
	int error = check_entry(unpacker, directory, path, why, MAX_ARCHIVE_DEPTH);
	close(directory);
	return error;
}

/* Whether the file has just these bytes. */
static bool has_content(int directory, const struct archive_record *record) {
	uint8_t bytes[MAX_ARCHIVE_CONTENT_BYTES + 1];
	struct stat status;
	int fd = openat(directory, place_name(record->path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) return false;
	bool same = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == (off_t)record->content_length;
	if (same) same = pread(fd, bytes, sizeof bytes, 0) == (ssize_t)record->content_length;
	close(fd);
	return same && memcmp(bytes, record->content, record->content_length) == 0;
}

int unpacker_check_content(struct unpacker *unpacker, const struct archive_record *record) {
	bool wants_absent = (record->flags & ARCHIVE_CONTENT_ABSENT) != 0;
	int directory = unpacker->base < 0 ? -1 : place_open(unpacker->base, record->path, place_parent_length(record->path), NULL, NULL);
	bool fits = directory < 0 ? wants_absent : wants_absent ? is_absent(directory, place_name(record->path)) : has_content(directory, record);
	if (directory >= 0) close(directory);
	if (!fits) conflict(unpacker, record->path, CONFLICT_CONTENT);
	return 0;
}
