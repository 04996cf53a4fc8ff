#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "control.h"
#include "environment.h"
#include "file.h"

/*
 * vfork(2): the child runs in this process's memory until it executes the program, and we wait for that. It copies no page
 * tables (under emulation a fork costs milliseconds) and its failures need no pipe. The price: everything down to
 * child_run must touch nothing but its own stack and `result`, and must not return.
 */

static _Noreturn void fail(volatile struct spawn_result *result, const char *stage) {
	result->error = errno;
	result->stage = stage;
	_exit(127);
}

/* The raw calls: the C library's wrappers want to synchronise threads, which a vfork child must not. */
static bool become(const struct user *user) {
	if (geteuid() != 0) {
		/* Only the host-side harness is not root; it can run programs as itself. */
		errno = EPERM;
		return user->uid == 0 || user->uid == geteuid();
	}
	if (syscall(SYS_setgroups, user->group_count, user->groups) != 0) return false;
	if (syscall(SYS_setresgid, user->gid, user->gid, user->gid) != 0) return false;
	return syscall(SYS_setresuid, user->uid, user->uid, user->uid) == 0;
}

static bool enter_directory(const struct spawn_plan *plan) {
	if (plan->cwd != NULL) return chdir(plan->cwd) == 0;
	return chdir(plan->user->home) == 0 || chdir("/") == 0;
}

static bool connect_stdio(const int stdio[3]) {
	/* Our own descriptors are all above 2, so no one overwrites another. */
	for (int fd = 0; fd < 3; fd++) {
		if (dup2(stdio[fd], fd) < 0) return false;
	}
	return true;
}

static void reset_process(void) {
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setrlimit(RLIMIT_NOFILE, &agent.program_nofile);
	umask(022);
	if (agent.handed_over) file_write_text("/proc/self/oom_score_adj", "0");
}

/* As execvpe(3), but a file of an unknown format is an error, not a shell script. Returns only on failure, with errno. */
static void execute(const char *program, char **argv, char **environment) {
	if (strchr(program, '/') != NULL) {
		execve(program, argv, environment);
		return;
	}
	const char *path = environment_get(environment, "PATH");
	int error = ENOENT;
	while (path != NULL && *program != 0) {
		size_t length = strcspn(path, ":");
		char file[MAX_PATH_BYTES];
		int printed = snprintf(file, sizeof file, "%.*s%s%s", (int)length, path, length == 0 ? "" : "/", program);
		if (printed > 0 && (size_t)printed < sizeof file) {
			execve(file, argv, environment);
			if (errno == EACCES) error = EACCES;
			else if (errno != ENOENT && errno != ENOTDIR) return;
		}
		path = path[length] == ':' ? path + length + 1 : NULL;
	}
	errno = error;
}

static _Noreturn __attribute__((noinline)) void child_run(const struct spawn_plan *plan, volatile struct spawn_result *result) {
	setsid();
	if (!connect_stdio(plan->stdio)) fail(result, "spawn");
	if (plan->tty && control(0, TIOCSCTTY, NULL) != 0) fail(result, "spawn");
	reset_process();
	if (!become(plan->user)) fail(result, "user");
	if (!enter_directory(plan)) fail(result, "chdir");
	execute(plan->program == NULL ? plan->argv[0] : plan->program, plan->argv, plan->environment);
	fail(result, "spawn");
}

struct spawn_result spawn(const struct spawn_plan *plan) {
	volatile struct spawn_result result = {.pid = 0, .error = 0, .stage = "spawn"};
	pid_t pid = vfork();
	if (pid == 0) child_run(plan, &result);
	if (pid < 0) result.error = errno;
	/* A child that failed is reaped with the orphans. */
	else if (result.error == 0) result.pid = pid;
	return (struct spawn_result){.pid = result.pid, .error = result.error, .stage = result.stage};
}
