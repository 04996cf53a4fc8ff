#include "entries.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

int entries_open(struct entries *entries, int fd) {
	entries->error = 0;
	entries->stream = fdopendir(fd);
	if (entries->stream != NULL) return 0;
	int error = errno;
	close(fd);
	return error;
}

int entries_fd(const struct entries *entries) {
	return dirfd(entries->stream);
}

const char *entries_next(struct entries *entries) {
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(entries->stream);
		if (entry == NULL) {
			entries->error = errno;
			return NULL;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) return entry->d_name;
	}
}

void entries_close(struct entries *entries) {
	if (entries->stream != NULL) closedir(entries->stream);
}
