/* Starting one program. */
#ifndef BANGER_SPAWN_H
#define BANGER_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "user.h"

struct spawn_plan {
	/* NULL-terminated. */
	char **argv;
	char **environment;
	/* What to execute when it is not argv[0]; NULL otherwise. */
	const char *program;
	const struct user *user;
	/* NULL: the user's home, or / where that cannot be entered. */
	const char *cwd;
	/* Become 0, 1 and 2 of the program. */
	int stdio[3];
	/* stdio[0] is a terminal to be the controlling one. */
	bool tty;
};

struct spawn_result {
	/* 0 when the program could not be started. */
	pid_t pid;
	/* An errno, and a stable word for what failed: `user`, `chdir`, `spawn`. */
	int error;
	const char *stage;
};

/* Starts the program as the leader of its own session and process group. Returns once it runs or has failed to. */
struct spawn_result spawn(const struct spawn_plan *plan);

#endif
