#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive.h"

#define DIRECTORY_MODE 0755

/* The directory `name`, which is the end of the first `length` bytes of the path. */
static int open_one(int directory, const char *name, const char *path, size_t length, struct made *made) {
	int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT || made == NULL) return fd;
	if (mkdirat(directory, name, DIRECTORY_MODE) != 0) {
		if (errno != EEXIST) return -1;
	} else if (!made_add(made, path, length)) {
		errno = ENOMEM;
		return -1;
	}
	return openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int place_open(int base, const char *path, size_t length, struct made *made, size_t *reached) {
	int fd = openat(base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t from = 0; fd >= 0 && from < length;) {
		char name[MAX_ARCHIVE_NAME_BYTES + 1];
		size_t count = strcspn(path + from, "/");
		memcpy(name, path + from, count);
		name[count] = 0;
		from += count;
		int next = open_one(fd, name, path, from, made);
		int error = errno;
		close(fd);
		fd = next;
		errno = error;
		if (reached != NULL) *reached = from;
		from++;
	}
	return fd;
}

const char *place_name(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash == NULL ? path : slash + 1;
}

size_t place_parent_length(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash == NULL ? 0 : (size_t)(slash - path);
}

void place_link(char *target, int directory, const char *name) {
	snprintf(target, PLACE_LINK_BYTES, "/proc/self/fd/%d/%s", directory, name);
}
