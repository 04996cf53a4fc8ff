#include "warmup.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot_id.h"
#include "environment.h"
#include "file.h"
#include "job.h"
#include "machine_id.h"
#include "network.h"
#include "rehearsal.h"
#include "spawn.h"
#include "tree.h"
#include "user.h"

#define MAX_FILE_BYTES 4096

/*
 * Gives a file that CONFIGURE writes the owner and mode it will have, and a block on the disk, so that it can be overwritten
 * in its place. What is no file is left to CONFIGURE. Best effort: that tells of a root that fails.
 */
static void settle_file(const char *path, mode_t mode, const char *when_empty) {
	struct stat status;
	char bytes[MAX_FILE_BYTES];
	if (lstat(path, &status) != 0) return;
	ssize_t length = S_ISREG(status.st_mode) ? file_read(path, bytes, sizeof bytes) : -1;
	if (length < 0 || length == (ssize_t)sizeof bytes - 1) return;
	struct text content = {.bytes = bytes, .length = (size_t)length};
	if (length == 0) content = (struct text){.bytes = when_empty, .length = strlen(when_empty)};
	tree_write(path, mode, 0, 0, content);
}

/* Where there is nothing: what a start makes of it is then no new file, which takes ten times as long. */
static void settle_missing_file(const char *path, mode_t mode) {
	struct stat status;
	if (lstat(path, &status) != 0) tree_write(path, mode, 0, 0, (struct text){.bytes = "\n", .length = 1});
}

static void settle_files(void) {
	static const char *const names[] = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) settle_file(names[i], 0644, "\n");
	/* Without a word in it, git reads it as if it were not there. */
	settle_missing_file("/etc/gitconfig", 0644);
	/* What machine-id(5) says of a machine without an id. */
	settle_file(machine_id_paths.systemd, 0444, "uninitialized\n");
	settle_file(machine_id_paths.dbus, 0444, "uninitialized\n");
}

static void ended(void *owner, enum close_kind kind, uint32_t value) {
	(void)owner;
	(void)kind;
	(void)value;
}

/* Programs that end at once. Best effort: an image need not have them. */
static void run(char **argv, const struct user *user, char **environment, int null) {
	struct spawn_plan plan = {.argv = argv, .environment = environment, .user = user, .stdio = {null, null, null}};
	struct spawn_result result = spawn(&plan);
	/* Reaped as an orphan without one. */
	if (result.pid != 0) job_add(result.pid, &plan, ended);
}

static void run_programs(void) {
	char sh[] = "/bin/sh", bash[] = "/bin/bash", option[] = "-c", script[] = ":", true_program[] = "/bin/true";
	char *programs[][4] = {{true_program, NULL}, {sh, option, script, NULL}, {bash, option, script, NULL}};
	struct user user;
	if (user_find("root", &user) != 0) return;
	char **environment = environment_build(&user, false, NULL, 0);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (size_t i = 0; environment != NULL && null >= 0 && i < sizeof programs / sizeof programs[0]; i++) {
		run(programs[i], &user, environment, null);
	}
	if (null >= 0) close(null);
	free(environment);
}

void warmup(void) {
	settle_files();
	boot_id_prepare();
	network_prepare();
	run_programs();
	rehearsal_prepare();
}
