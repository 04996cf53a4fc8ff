#include "exec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"
#include "exec_request.h"
#include "job.h"
#include "process.h"
#include "session.h"
#include "spawn.h"


/* Starts the program with everything resolved. */
static struct spawn_result start_program(const struct exec_request *request, const struct user *user, const int stdio[3]) {
	bool tty = (request->flags & EXEC_TTY) != 0;
	struct spawn_result failed = {.error = ENOMEM, .stage = "spawn"};
	char **environment = environment_build(user, tty, request->variables, request->variable_count);
	if (environment == NULL) return failed;
	const char *base = strrchr(user->shell, '/');
	char login_name[MAX_PATH_BYTES + 1];
	snprintf(login_name, sizeof login_name, "-%s", base == NULL ? user->shell : base + 1);
	char *login_argv[] = {login_name, NULL};
	struct spawn_plan plan = {
		.argv = request->argc == 0 ? login_argv : request->argv,
		.environment = environment,
		.program = request->argc == 0 ? user->shell : NULL,
		.user = user,
		.cwd = request->cwd[0] == 0 ? NULL : request->cwd,
		.stdio = {stdio[0], stdio[1], stdio[2]},
		.tty = tty,
	};
	struct spawn_result result = spawn(&plan);
	free(environment);
	return result;
}

/* Names what could not be used: the program, the directory. */
static void fail_to_start(uint32_t id, const struct exec_request *request, const struct spawn_result *result) {
	const char *subject = NULL;
	if (strcmp(result->stage, "chdir") == 0) subject = request->cwd;
	if (strcmp(result->stage, "spawn") == 0 && request->argc > 0) subject = request->argv[0];
	if (subject == NULL) {
		session_fail(id, result->stage, result->error);
	} else {
		session_fail_about(id, result->stage, subject, result->error);
	}
}

static int connect_stdio(struct process *process, const struct exec_request *request, const struct user *user, int stdio[3]) {
	struct process_tty tty = {.rows = request->rows, .columns = request->columns, .uid = user->uid};
	bool input = (request->flags & EXEC_STDIN) != 0;
	if ((request->flags & EXEC_TTY) == 0) return process_connect_pipes(process, input, stdio);
	return process_connect_tty(process, &tty, input, stdio);
}

static void exec_start(uint32_t id, const struct exec_request *request) {
	struct user user;
	int error = user_find(request->user, &user);
	if (error != 0) {
		session_fail_about(id, "user", request->user, error);
		return;
	}
	struct process *process = process_new();
	if (process == NULL) {
		session_fail(id, "internal", ENOMEM);
		return;
	}
	int stdio[3] = {-1, -1, -1};
	error = connect_stdio(process, request, &user, stdio);
	struct spawn_result result = {.error = error, .stage = "internal"};
	if (error == 0) result = start_program(request, &user, stdio);
	process_close_program_ends(stdio);
	if (result.pid == 0) {
		process_free(process);
		fail_to_start(id, request, &result);
		return;
	}
	process_begin(process, id, result.pid);
}

void exec_open(uint32_t id, struct reader *reader) {
	struct exec_request request;
	if (job_count() >= MAX_JOBS) {
		session_fail(id, "busy", EAGAIN);
		return;
	}
	switch (exec_request_decode(reader, &request)) {
		case DECODE_BAD: session_fail(id, "bad-request", EINVAL); return;
		case DECODE_NO_MEMORY: session_fail(id, "internal", ENOMEM); return;
		case DECODE_OK: break;
	}
	exec_start(id, &request);
	exec_request_free(&request);
}
