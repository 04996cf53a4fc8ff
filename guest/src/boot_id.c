#include "boot_id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"

#define KERNEL_FILE "/proc/sys/kernel/random/boot_id"
/* Root's alone; the bound file is read through its other place. */
#define DIRECTORY "/run/banger"
#define OWN_FILE DIRECTORY "/boot_id"
#define WHOLE_PROC DIRECTORY "/proc"
#define PROC_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static int make_directory(const char *path) {
	return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : errno;
}

/* In place, in one call and always of one length: the mount stays, and no reader sees half of it. */
static int write_own_file(const char *boot_id) {
	char line[BOOT_ID_CAPACITY + 1];
	int length = snprintf(line, sizeof line, "%s\n", boot_id);
	int fd = open(OWN_FILE, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (fd < 0) return errno;
	int error = write_all(fd, line, (size_t)length);
	close(fd);
	return error;
}

/*
 * A /proc with something mounted inside may not be mounted anew in a user namespace (fs/namespace.c,
 * mnt_already_visible), which rootless containers do, unless the machine has a whole one elsewhere.
 */
static int mount_whole_proc(void) {
	int error = make_directory(WHOLE_PROC);
	if (error != 0) return error;
	return mount("proc", WHOLE_PROC, "proc", PROC_FLAGS, "") == 0 || errno == EBUSY ? 0 : errno;
}

/* Shows this id from now on. */
static int cover_kernel_file(const char *boot_id) {
	static bool covered;
	int error = make_directory(DIRECTORY);
	if (error == 0) error = write_own_file(boot_id);
	if (covered || error != 0) return error;
	error = mount_whole_proc();
	if (error != 0) return error;
	if (mount(OWN_FILE, KERNEL_FILE, NULL, MS_BIND, NULL) != 0) return errno;
	covered = true;
	return mount(NULL, KERNEL_FILE, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | PROC_FLAGS, NULL) == 0 ? 0 : errno;
}

/* Not read yet; -1: not opened either. */
static int kernel_fd = -1;

void boot_id_prepare(void) {
	kernel_fd = open(KERNEL_FILE, O_RDONLY | O_CLOEXEC);
}

static int read_kernel_file(void) {
	char line[BOOT_ID_CAPACITY + 1];
	if (kernel_fd < 0) boot_id_prepare();
	ssize_t length = kernel_fd < 0 ? -1 : pread(kernel_fd, line, sizeof line - 1, 0);
	if (length < 0) return errno;
	line[length] = 0;
	line[strcspn(line, "\n")] = 0;
	if (strlen(line) != BOOT_ID_CAPACITY - 1) return EINVAL;
	strcpy(agent.boot_id, line);
	return 0;
}

int boot_id_settle(const char *given) {
	if (*given == 0) return strcmp(agent.boot_id, BOOT_ID_UNKNOWN) == 0 ? read_kernel_file() : 0;
	if (strcmp(given, agent.boot_id) == 0) return 0;
	int error = cover_kernel_file(given);
	if (error == 0) snprintf(agent.boot_id, sizeof agent.boot_id, "%s", given);
	return error;
}

int boot_id_prepare_copies(void) {
	int error = boot_id_settle("");
	return error != 0 ? error : cover_kernel_file(agent.boot_id);
}
