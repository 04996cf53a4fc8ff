#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "control.h"
#include "environment.h"
#include "exec_request.h"
#include "job.h"
#include "queue.h"
#include "session.h"
#include "spawn.h"
#include "tty.h"

/* Running or being ended: what was hung up a moment ago counts, too. */
#define MAX_JOBS 1024
/* Consumed stdin is granted again in steps of this many bytes. */
#define GRANT_STEP_BYTES (128 * 1024)
/* Larger than the usual 64 KiB, so that program and agent switch less often. */
#define PIPE_BYTES (256 * 1024)
/* Blocks read from an output before others get their turn. */
#define BLOCKS_PER_TURN 4
/* A terminal whose program has ended reports its end at once; this bounds the wait for one that does not. */
#define TTY_DRAIN_MS 500

struct exec;

/* One of the program's outputs. */
struct output {
	struct source source;
	struct exec *exec;
	enum channel channel;
	/* After the program's end: bytes that were still in the pipe then, the last ones to be sent. */
	bool bounded;
	size_t remaining;
};

struct exec {
	struct stream stream;
	struct job *job;
	bool tty;
	struct source input;
	/* stdin the program has not taken yet. */
	struct queue pending;
	bool input_ended;
	uint32_t ungranted;
	struct output outputs[2];
	/* Set by the program's end. */
	bool exited;
	enum close_kind kind;
	uint32_t value;
	struct timer drain_timer;
};

static const struct stream_operations exec_operations;

static struct exec *exec_of(struct stream *stream) {
	return container_of(stream, struct exec, stream);
}

static void exec_free(struct exec *exec) {
	timer_stop(&exec->drain_timer);
	loop_close(&exec->input);
	for (int i = 0; i < 2; i++) loop_close(&exec->outputs[i].source);
	queue_free(&exec->pending);
	free(exec);
}

/* Closes the stream when the program has ended and its output is out. Returns whether it did: `exec` is gone then. */
static bool close_if_done(struct exec *exec) {
	if (!exec->exited || exec->outputs[0].source.fd >= 0 || exec->outputs[1].source.fd >= 0) return false;
	stream_close(&exec->stream, exec->kind, exec->value, "");
	exec_free(exec);
	return true;
}

/* --- stdin ------------------------------------------------------------------------------------------------ */

static void grant(struct exec *exec, size_t consumed) {
	exec->ungranted += (uint32_t)consumed;
	if (exec->ungranted < GRANT_STEP_BYTES || exec->exited) return;
	stream_grant(&exec->stream, exec->ungranted);
	exec->ungranted = 0;
}

/* The program has closed its stdin: whatever comes is taken and dropped, so that the host does not stall. */
static void drop_input(struct exec *exec) {
	size_t length = queue_length(&exec->pending);
	loop_close(&exec->input);
	queue_free(&exec->pending);
	grant(exec, length);
}

/* A terminal has no end of file but the character for it. Best effort: a full terminal does not get it. */
static void end_tty_input(struct exec *exec) {
	int end = tty_eof_character(exec->input.fd);
	if (end < 0) return;
	char byte = (char)end;
	ssize_t ignored = write(exec->input.fd, &byte, 1);
	(void)ignored;
}

static void end_input_if_drained(struct exec *exec) {
	if (!exec->input_ended || exec->input.fd < 0 || queue_length(&exec->pending) > 0) return;
	if (exec->tty) end_tty_input(exec);
	loop_close(&exec->input);
}

/* Writes what the program takes now. Returns how much that was, or -1 when it takes nothing any more. */
static ssize_t write_input(struct exec *exec, const uint8_t *bytes, size_t length) {
	size_t written = 0;
	while (written < length) {
		ssize_t count = write(exec->input.fd, bytes + written, length - written);
		if (count < 0 && errno == EINTR) continue;
		if (count < 0 && errno == EAGAIN) break;
		if (count <= 0) return -1;
		written += (size_t)count;
	}
	return (ssize_t)written;
}

static void input_ready(struct source *source, uint32_t events) {
	(void)events;
	struct exec *exec = container_of(source, struct exec, input);
	ssize_t written = write_input(exec, queue_front(&exec->pending), queue_length(&exec->pending));
	if (written < 0) {
		drop_input(exec);
		return;
	}
	queue_consume(&exec->pending, (size_t)written, 0);
	grant(exec, (size_t)written);
	if (queue_length(&exec->pending) == 0) loop_unwatch(source);
	end_input_if_drained(exec);
}

static void exec_data(struct stream *stream, const uint8_t *bytes, uint32_t length) {
	struct exec *exec = exec_of(stream);
	if (exec->input_ended || exec->input.fd < 0) {
		grant(exec, length);
		return;
	}
	size_t written = 0;
	if (queue_length(&exec->pending) == 0) {
		ssize_t count = write_input(exec, bytes, length);
		if (count < 0) {
			drop_input(exec);
			grant(exec, length);
			return;
		}
		written = (size_t)count;
	}
	bool kept = queue_append(&exec->pending, bytes + written, length - written);
	if (kept && queue_length(&exec->pending) > 0) kept = loop_watch(&exec->input, EPOLLOUT);
	if (!kept) drop_input(exec);
	grant(exec, written);
}

static void exec_eof(struct stream *stream) {
	struct exec *exec = exec_of(stream);
	exec->input_ended = true;
	end_input_if_drained(exec);
}

/* --- stdout and stderr ------------------------------------------------------------------------------------ */

/* Sends one block. Returns false when there is nothing to do for now or ever. */
static bool pump_block(struct output *output) {
	struct exec *exec = output->exec;
	uint32_t room = stream_room(&exec->stream, output->channel);
	if (output->bounded && output->remaining < room) room = (uint32_t)output->remaining;
	if (room == 0) {
		loop_unwatch(&output->source);
		return false;
	}
	uint8_t *bytes = stream_reserve(&exec->stream, room);
	ssize_t count = bytes == NULL ? 0 : read(output->source.fd, bytes, room);
	if (count < 0 && errno == EINTR) return true;
	if (count < 0 && errno == EAGAIN) {
		/* What was in a pipe at the end is out once it is empty; a terminal says so itself. */
		if (exec->exited && !exec->tty) loop_close(&output->source);
		return false;
	}
	/* EIO is how a terminal says that its other side is closed. */
	if (count <= 0) {
		loop_close(&output->source);
		stream_send_eof(&exec->stream, output->channel);
		return false;
	}
	stream_commit(&exec->stream, output->channel, (uint32_t)count);
	if (output->bounded) output->remaining -= (size_t)count;
	if (output->bounded && output->remaining == 0) {
		loop_close(&output->source);
		return false;
	}
	return true;
}

static void output_ready(struct source *source, uint32_t events) {
	(void)events;
	struct output *output = container_of(source, struct output, source);
	for (int i = 0; i < BLOCKS_PER_TURN && pump_block(output); i++) continue;
	close_if_done(output->exec);
}

/* Watches an output again that was left alone for want of credit or room. */
static void exec_writable(struct stream *stream) {
	struct exec *exec = exec_of(stream);
	for (int i = 0; i < 2; i++) {
		struct output *output = &exec->outputs[i];
		if (output->source.fd < 0 || output->source.watched || stream_room(stream, output->channel) == 0) continue;
		if (!loop_watch(&output->source, EPOLLIN)) loop_close(&output->source);
	}
	close_if_done(exec);
}

/* --- the program ------------------------------------------------------------------------------------------ */

/* Takes what the pipe holds now as the program's last output: others that still hold the pipe open do not count. */
static void bound_output(struct output *output) {
	int left = 0;
	if (output->source.fd < 0) return;
	if (control(output->source.fd, FIONREAD, &left) != 0 || left <= 0) {
		loop_close(&output->source);
		return;
	}
	output->bounded = true;
	output->remaining = (size_t)left;
	while (pump_block(output)) continue;
}

static void drain_timer_fired(struct timer *timer) {
	struct exec *exec = container_of(timer, struct exec, drain_timer);
	struct output *output = &exec->outputs[0];
	/* Unwatched means waiting for the host's credit: then there is output left, and it waits. */
	if (output->source.fd >= 0 && !output->source.watched) {
		timer_start(timer, TTY_DRAIN_MS);
		return;
	}
	loop_close(&output->source);
	close_if_done(exec);
}

static void program_exited(void *owner, enum close_kind kind, uint32_t value) {
	struct exec *exec = owner;
	exec->job = NULL;
	exec->exited = true;
	exec->kind = kind;
	exec->value = value;
	loop_close(&exec->input);
	queue_free(&exec->pending);
	if (exec->tty) {
		exec->drain_timer.fired = drain_timer_fired;
		timer_start(&exec->drain_timer, TTY_DRAIN_MS);
		while (exec->outputs[0].source.fd >= 0 && pump_block(&exec->outputs[0])) continue;
	} else {
		for (int i = 0; i < 2; i++) bound_output(&exec->outputs[i]);
	}
	close_if_done(exec);
}

static void exec_signal(struct stream *stream, uint32_t number) {
	struct exec *exec = exec_of(stream);
	if (exec->job != NULL && number >= 1 && number <= 64) job_signal(exec->job, (int)number);
}

static void exec_resize(struct stream *stream, uint16_t rows, uint16_t columns) {
	struct exec *exec = exec_of(stream);
	if (exec->tty && exec->outputs[0].source.fd >= 0) tty_resize(exec->outputs[0].source.fd, rows, columns);
}

static void exec_abandon(struct stream *stream) {
	struct exec *exec = exec_of(stream);
	stream_forget(stream);
	if (exec->job != NULL) job_hang_up(exec->job);
	exec_free(exec);
}

static const struct stream_operations exec_operations = {
	.data = exec_data,
	.eof = exec_eof,
	.writable = exec_writable,
	.signal = exec_signal,
	.resize = exec_resize,
	.abandon = exec_abandon,
};

/* --- start ------------------------------------------------------------------------------------------------ */

/* Our end of a program's pipe: nonblocking, and with room for more than one turn of the program. */
static bool prepare_pipe(int fd) {
	/* A user over their limit of pipe memory keeps the usual size. */
	fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

static struct exec *exec_new(bool tty) {
	struct exec *exec = calloc(1, sizeof *exec);
	if (exec == NULL) return NULL;
	exec->tty = tty;
	exec->input = (struct source){.fd = -1, .ready = input_ready};
	queue_init(&exec->pending, INITIAL_WINDOW_BYTES);
	for (int i = 0; i < 2; i++) {
		exec->outputs[i] = (struct output){
			.source = {.fd = -1, .ready = output_ready},
			.exec = exec,
			.channel = i == 0 ? CHANNEL_STDOUT : CHANNEL_STDERR,
		};
	}
	return exec;
}

static int connect_tty(struct exec *exec, const struct exec_request *request, const struct user *user, int stdio[3]) {
	int master, slave;
	int error = tty_open(request->rows, request->columns, user->uid, &master, &slave);
	if (error != 0) return error;
	exec->outputs[0].source.fd = master;
	stdio[0] = stdio[1] = stdio[2] = slave;
	if ((request->flags & EXEC_STDIN) == 0) return 0;
	/* Its own descriptor, so that reading and writing are watched apart. */
	exec->input.fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
	return exec->input.fd < 0 ? errno : 0;
}

static int connect_pipes(struct exec *exec, const struct exec_request *request, int stdio[3]) {
	int pair[2];
	if ((request->flags & EXEC_STDIN) != 0) {
		if (pipe2(pair, O_CLOEXEC) != 0) return errno;
		stdio[0] = pair[0];
		exec->input.fd = pair[1];
		if (!prepare_pipe(pair[1])) return errno;
	} else {
		stdio[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (stdio[0] < 0) return errno;
	}
	for (int i = 0; i < 2; i++) {
		if (pipe2(pair, O_CLOEXEC) != 0) return errno;
		exec->outputs[i].source.fd = pair[0];
		stdio[1 + i] = pair[1];
		if (!prepare_pipe(pair[0])) return errno;
	}
	return 0;
}

static void close_program_ends(const int stdio[3], bool tty) {
	for (int i = 0; i < (tty ? 1 : 3); i++) {
		if (stdio[i] >= 0) close(stdio[i]);
	}
}

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

/* Registers what was started and begins to watch it. */
static void begin(struct exec *exec, uint32_t id, pid_t pid) {
	exec->job = job_add(pid, exec, program_exited);
	if (exec->job == NULL) {
		struct job unwanted = {.pid = pid};
		job_signal(&unwanted, SIGKILL);
		exec_free(exec);
		session_fail(id, "internal", ENOMEM);
		return;
	}
	stream_start(&exec->stream, &exec_operations, id);
	for (int i = 0; i < 2; i++) {
		struct source *source = &exec->outputs[i].source;
		if (source->fd >= 0 && !loop_watch(source, EPOLLIN)) loop_close(source);
	}
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

static void exec_start(uint32_t id, const struct exec_request *request) {
	struct user user;
	int error = user_find(request->user, &user);
	if (error != 0) {
		session_fail_about(id, "user", request->user, error);
		return;
	}
	bool tty = (request->flags & EXEC_TTY) != 0;
	struct exec *exec = exec_new(tty);
	if (exec == NULL) {
		session_fail(id, "internal", ENOMEM);
		return;
	}
	int stdio[3] = {-1, -1, -1};
	error = tty ? connect_tty(exec, request, &user, stdio) : connect_pipes(exec, request, stdio);
	struct spawn_result result = {.error = error, .stage = "internal"};
	if (error == 0) result = start_program(request, &user, stdio);
	close_program_ends(stdio, tty);
	if (result.pid == 0) {
		exec_free(exec);
		fail_to_start(id, request, &result);
		return;
	}
	begin(exec, id, result.pid);
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
