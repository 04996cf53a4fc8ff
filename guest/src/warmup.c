#include "warmup.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "environment.h"
#include "file.h"
#include "job.h"
#include "spawn.h"
#include "tree.h"
#include "user.h"

#define SCRATCH_FILE "/etc/.banger-warmup"

static void write_as_configure_does(void) {
	static const struct text content = {.bytes = "x", .length = 1};
	/* Twice: replacing a file is more than making one. Best effort: a root that cannot be written is told of by CONFIGURE. */
	for (int i = 0; i < 2; i++) tree_write(SCRATCH_FILE, 0600, 0, 0, content);
	unlink(SCRATCH_FILE);
}

static void ended(void *owner, enum close_kind kind, uint32_t value) {
	(void)owner;
	(void)kind;
	(void)value;
}

/* Programs that end at once. Best effort: an image need not have them. */
static void run(char **argv, const struct user *user, char **environment, int null) {
	struct spawn_plan plan = {.argv = argv, .environment = environment, .user = user, .cwd = "/", .stdio = {null, null, null}};
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
	static const char *const replaced[] = {"/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};
	char bytes[64];
	for (size_t i = 0; i < sizeof replaced / sizeof replaced[0]; i++) file_read(replaced[i], bytes, sizeof bytes);
	write_as_configure_does();
	run_programs();
}
