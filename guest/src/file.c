#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads until the end or until `capacity` bytes. */
static ssize_t read_up_to(int fd, char *target, size_t capacity) {
	size_t length = 0;
	while (length < capacity) {
		ssize_t count = read(fd, target + length, capacity - length);
		if (count < 0 && errno == EINTR) continue;
		if (count < 0) return -1;
		if (count == 0) break;
		length += (size_t)count;
	}
	return (ssize_t)length;
}

static void close_keeping_errno(int fd) {
	int saved = errno;
	close(fd);
	errno = saved;
}

ssize_t file_read(const char *path, char *target, size_t capacity) {
	target[0] = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return -1;
	ssize_t length = read_up_to(fd, target, capacity - 1);
	close_keeping_errno(fd);
	target[length < 0 ? 0 : length] = 0;
	return length;
}

static char *load_from(int fd, size_t limit) {
	size_t capacity = 4096;
	size_t length = 0;
	char *bytes = NULL;
	for (;;) {
		char *grown = realloc(bytes, capacity + 1);
		if (grown == NULL) break;
		bytes = grown;
		ssize_t count = read_up_to(fd, bytes + length, capacity - length);
		if (count < 0) break;
		length += (size_t)count;
		bytes[length] = 0;
		if (length < capacity) return bytes;
		if (capacity >= limit) {
			errno = EFBIG;
			break;
		}
		capacity *= 4;
	}
	free(bytes);
	return NULL;
}

char *file_load(const char *path, size_t limit) {
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) return NULL;
	char *bytes = load_from(fd, limit);
	close_keeping_errno(fd);
	return bytes;
}

int write_all(int fd, const void *bytes, size_t length) {
	const char *at = bytes;
	while (length > 0) {
		ssize_t count = write(fd, at, length);
		if (count < 0 && errno == EINTR) continue;
		if (count < 0) return errno;
		at += count;
		length -= (size_t)count;
	}
	return 0;
}

int file_write_text(const char *path, const char *text) {
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) return errno;
	int error = write_all(fd, text, strlen(text));
	close(fd);
	return error;
}
