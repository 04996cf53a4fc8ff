/* Small files, whole. */
#ifndef BANGER_FILE_H
#define BANGER_FILE_H

#include <stddef.h>
#include <sys/types.h>

/* Reads at most `capacity - 1` bytes and terminates them. Returns how many, or -1 with errno. */
ssize_t file_read(const char *path, char *target, size_t capacity);
/* Reads a whole file of at most `limit` bytes into a fresh, terminated allocation. NULL with errno (EFBIG over the limit). */
char *file_load(const char *path, size_t limit);
/* Writes a short text into an existing file (procfs, sysfs). Returns 0 or an errno. */
int file_write_text(const char *path, const char *text);
/* Writes all bytes to a blocking descriptor. Returns 0 or an errno. */
int write_all(int fd, const void *bytes, size_t length);

#endif
