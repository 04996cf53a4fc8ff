/*
 * LD_PRELOAD: makes file calls of this process fail, those on files below $FAULT_DIR only.
 *
 * Armed from inside the process by reading a link that does not exist:
 *   /fault-injection/arm/N/ERRNO/PERSISTENT/CLASSES   the N-th call of the classes (1: those that need space, 2: the
 *                                                     others) fails with ERRNO; with PERSISTENT 1 all after it, too
 *   /fault-injection/disarm                           answers "CALLS FIRED NAME...": counted, failed, and which failed
 *
 * With $FAULT_LOG, calls that decide what survives a power cut are appended to that file, when they succeed:
 *   "fsync PATH", "rename FROM TO", "unlink PATH"
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NEEDS_SPACE = 1, OTHER = 2 };
enum { MAX_FD = 65536 };

static atomic_int armed, fail_errno, persistent, classes;
static atomic_long wanted, calls, fired;
static const char *_Atomic first_failed;
static atomic_uchar tracked[MAX_FD];
static char prefix[4096];
static int log_fd = -1;

__attribute__((constructor)) static void init(void) {
  const char *dir = getenv("FAULT_DIR");
  if (dir != NULL) snprintf(prefix, sizeof prefix, "%s/", dir);
  const char *log = getenv("FAULT_LOG");
  if (log != NULL) log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int fails(int class, const char *name) {
  if (!atomic_load(&armed) || !(atomic_load(&classes) & class)) return 0;
  long call = atomic_fetch_add(&calls, 1) + 1;
  long target = atomic_load(&wanted);
  if (call < target || (call > target && !atomic_load(&persistent))) return 0;
  if (atomic_fetch_add(&fired, 1) == 0) atomic_store(&first_failed, name);
  errno = atomic_load(&fail_errno);
  return 1;
}

/* The directory under test itself counts: it is opened to be synced, and read. */
static int below(const char *path) {
  size_t length = strlen(prefix);
  if (length == 0 || path == NULL || strncmp(path, prefix, length - 1) != 0) return 0;
  return path[length - 1] == '/' || path[length - 1] == '\0';
}

static int is_tracked(int fd) { return fd >= 0 && fd < MAX_FD && atomic_load(&tracked[fd]); }

static int track(int fd) {
  if (fd >= 0 && fd < MAX_FD) atomic_store(&tracked[fd], 1);
  return fd;
}

#define REAL(type, name, ...)                                                   \
  static type (*real)(__VA_ARGS__);                                             \
  if (real == NULL) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int logged(int result, const char *call, const char *path, const char *to) {
  if (result == 0 && log_fd >= 0) dprintf(log_fd, "%s %s%s%s\n", call, path, to == NULL ? "" : " ", to == NULL ? "" : to);
  return result;
}

static int logged_fd(int result, const char *call, int fd) {
  char link[64], path[4096] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  if (log_fd >= 0 && readlink(link, path, sizeof path - 1) > 0) logged(result, call, path, NULL);
  return result;
}

static ssize_t control(const char *command, char *buffer, size_t size) {
  char text[4096] = "ok";
  long n;
  int error, again, which;
  if (sscanf(command, "arm/%ld/%d/%d/%d", &n, &error, &again, &which) == 4) {
    atomic_store(&wanted, n), atomic_store(&fail_errno, error);
    atomic_store(&persistent, again), atomic_store(&classes, which);
    atomic_store(&calls, 0), atomic_store(&fired, 0), atomic_store(&first_failed, NULL);
    atomic_store(&armed, 1);
  } else if (strcmp(command, "disarm") == 0) {
    atomic_store(&armed, 0);
    const char *name = atomic_load(&first_failed);
    snprintf(text, sizeof text, "%ld %ld %s", atomic_load(&calls), atomic_load(&fired), name ? name : "-");
  } else {
    errno = EINVAL;
    return -1;
  }
  size_t length = strlen(text);
  if (length > size) length = size;
  memcpy(buffer, text, length);
  return (ssize_t)length;
}

ssize_t readlink(const char *restrict path, char *restrict buffer, size_t size) {
  static const char door[] = "/fault-injection/";
  REAL(ssize_t, "readlink", const char *, char *, size_t);
  if (strncmp(path, door, sizeof door - 1) == 0) return control(path + sizeof door - 1, buffer, size);
  return real(path, buffer, size);
}

static int open_class(int flags) { return flags & O_CREAT ? NEEDS_SPACE : OTHER; }

#define MODE(flags)                                   \
  mode_t mode = 0;                                    \
  if ((flags) & (O_CREAT | O_TMPFILE)) {              \
    va_list arguments;                                \
    va_start(arguments, flags);                       \
    mode = (mode_t)va_arg(arguments, int);            \
    va_end(arguments);                                \
  }

#define OPEN(function)                                                          \
  int function(const char *path, int flags, ...) {                              \
    MODE(flags)                                                                 \
    REAL(int, #function, const char *, int, ...);                               \
    if (!below(path)) return real(path, flags, mode);                           \
    if (fails(open_class(flags), #function)) return -1;                         \
    return track(real(path, flags, mode));                                      \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(function)                                                        \
  int function(int dir, const char *path, int flags, ...) {                     \
    MODE(flags)                                                                 \
    REAL(int, #function, int, const char *, int, ...);                          \
    if (!below(path) && !is_tracked(dir)) return real(dir, path, flags, mode);  \
    if (fails(open_class(flags), #function)) return -1;                         \
    return track(real(dir, path, flags, mode));                                 \
  }
OPENAT(openat)
OPENAT(openat64)

/* Closes in any case, as Linux does: close(2). */
int close(int fd) {
  REAL(int, "close", int);
  int was_tracked = is_tracked(fd);
  if (was_tracked) atomic_store(&tracked[fd], 0);
  return real(fd);
}

#define ON_FD(type, function, class, parameters, arguments)                     \
  type function parameters {                                                    \
    REAL_OF(type, function, parameters);                                        \
    if (is_tracked(fd) && fails(class, #function)) return (type)-1;             \
    return real arguments;                                                      \
  }
#define REAL_OF(type, function, parameters)                                     \
  static type(*real) parameters;                                                \
  if (real == NULL) real = (type(*) parameters)dlsym(RTLD_NEXT, #function)

ON_FD(ssize_t, read, OTHER, (int fd, void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, readv, OTHER, (int fd, const struct iovec *parts, int count), (fd, parts, count))
ON_FD(ssize_t, pread, OTHER, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pread64, OTHER, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(ssize_t, write, NEEDS_SPACE, (int fd, const void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, writev, NEEDS_SPACE, (int fd, const struct iovec *parts, int count), (fd, parts, count))
ON_FD(ssize_t, pwrite, NEEDS_SPACE, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pwrite64, NEEDS_SPACE, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(ssize_t, pwritev, NEEDS_SPACE, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
ON_FD(int, ftruncate, NEEDS_SPACE, (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, NEEDS_SPACE, (int fd, off64_t size), (fd, size))
ON_FD(int, fallocate, NEEDS_SPACE, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
ON_FD(int, fallocate64, NEEDS_SPACE, (int fd, int mode, off64_t at, off64_t size), (fd, mode, at, size))
ON_FD(int, fchmod, OTHER, (int fd, mode_t mode), (fd, mode))
ON_FD(ssize_t, sendfile, NEEDS_SPACE, (int fd, int from, off_t *at, size_t size), (fd, from, at, size))
ON_FD(ssize_t, sendfile64, NEEDS_SPACE, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size))
ON_FD(DIR *, fdopendir, OTHER, (int fd), (fd))
ON_FD(int, __fxstat64, OTHER, (int version, int fd, struct stat64 *stat), (version, fd, stat))
ON_FD(int, fstat, OTHER, (int fd, struct stat *stat), (fd, stat))
ON_FD(int, fstat64, OTHER, (int fd, struct stat64 *stat), (fd, stat))

#define ON_PATH(type, function, class, parameters, arguments, failure)          \
  type function parameters {                                                    \
    REAL_OF(type, function, parameters);                                        \
    if (below(path) && fails(class, #function)) return failure;                 \
    return real arguments;                                                      \
  }

#define SYNC(function)                                                          \
  int function(int fd) {                                                        \
    REAL(int, #function, int);                                                  \
    if (!is_tracked(fd)) return real(fd);                                       \
    return fails(NEEDS_SPACE, #function) ? -1 : logged_fd(real(fd), "fsync", fd); \
  }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *path, const char *to) {
  REAL(int, "rename", const char *, const char *);
  if (!below(path)) return real(path, to);
  return fails(NEEDS_SPACE, "rename") ? -1 : logged(real(path, to), "rename", path, to);
}

int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  if (!below(path)) return real(path);
  return fails(OTHER, "unlink") ? -1 : logged(real(path), "unlink", path, NULL);
}

ON_PATH(int, unlinkat, OTHER, (int dir, const char *path, int flags), (dir, path, flags), -1)
ON_PATH(int, rmdir, OTHER, (const char *path), (path), -1)
ON_PATH(int, remove, OTHER, (const char *path), (path), -1)
ON_PATH(int, mkdir, NEEDS_SPACE, (const char *path, mode_t mode), (path, mode), -1)
ON_PATH(int, truncate, NEEDS_SPACE, (const char *path, off_t size), (path, size), -1)
ON_PATH(int, chmod, OTHER, (const char *path, mode_t mode), (path, mode), -1)
ON_PATH(int, access, OTHER, (const char *path, int mode), (path, mode), -1)
ON_PATH(DIR *, opendir, OTHER, (const char *path), (path), NULL)
ON_PATH(int, stat, OTHER, (const char *restrict path, struct stat *restrict stat), (path, stat), -1)
ON_PATH(int, stat64, OTHER, (const char *restrict path, struct stat64 *restrict stat), (path, stat), -1)
ON_PATH(int, lstat, OTHER, (const char *restrict path, struct stat *restrict stat), (path, stat), -1)
ON_PATH(int, lstat64, OTHER, (const char *restrict path, struct stat64 *restrict stat), (path, stat), -1)
ON_PATH(int, __xstat64, OTHER, (int version, const char *path, struct stat64 *stat), (version, path, stat), -1)
ON_PATH(int, __lxstat64, OTHER, (int version, const char *path, struct stat64 *stat), (version, path, stat), -1)
ON_PATH(int, __xstat, OTHER, (int version, const char *path, struct stat *stat), (version, path, stat), -1)
ON_PATH(int, __lxstat, OTHER, (int version, const char *path, struct stat *stat), (version, path, stat), -1)
ON_PATH(int, statx, OTHER, (int dir, const char *restrict path, int flags, unsigned mask, struct statx *restrict result),
        (dir, path, flags, mask, result), -1)

/* libuv makes some calls without glibc: statx, copy_file_range. */
long syscall(long number, ...) {
  REAL(long, "syscall", long, ...);
  va_list arguments;
  va_start(arguments, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_statx) {
    const char *path = (const char *)a[1];
    if ((below(path) || is_tracked((int)a[0])) && fails(OTHER, "SYS_statx")) return -1;
  } else if (number == SYS_copy_file_range) {
    if (is_tracked((int)a[2]) && fails(NEEDS_SPACE, "SYS_copy_file_range")) return -1;
  }
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags) {
  REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
  if (is_tracked(to) && fails(NEEDS_SPACE, "copy_file_range")) return -1;
  return real(from, from_at, to, to_at, size, flags);
}
