#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "control.h"
#include "job.h"
#include "queue.h"
#include "session.h"
#include "tty.h"
#include "worker.h"

/* Consumed stdin is granted again in steps of this many bytes. */
#define GRANT_STEP_BYTES (128 * 1024)
/* Larger than the usual 64 KiB, so that program and agent switch less often. */
#define PIPE_BYTES (256 * 1024)
/* Blocks read from an output before others get their turn. */
#define BLOCKS_PER_TURN 4
/* A terminal whose program has ended reports its end at once; this bounds the wait for one that does not. */
#define TTY_DRAIN_MS 500

/* One of the program's outputs. */
struct output {
	struct source source;
	struct process *process;
	enum channel channel;
	/* After the program's end: bytes that were still in the pipe then, the last ones to be sent. */
	bool bounded;
	size_t remaining;
};

struct process {
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
	/* A worker: what it writes to its stderr is not sent, but says how it failed. */
	bool is_worker;
	struct worker_report report;
};

static const struct stream_operations process_operations;

static struct process *process_of(struct stream *stream) {
	return container_of(stream, struct process, stream);
}

void process_free(struct process *process) {
	timer_stop(&process->drain_timer);
	loop_close(&process->input);
	for (int i = 0; i < 2; i++) loop_close(&process->outputs[i].source);
	queue_free(&process->pending);
	free(process);
}

/* Closes the stream when the program has ended and its output is out. Returns whether it did: `process` is gone then. */
static bool close_if_done(struct process *process) {
	if (!process->exited || process->outputs[0].source.fd >= 0 || process->outputs[1].source.fd >= 0) return false;
	stream_close(&process->stream, process->kind, process->value, process->report.text);
	process_free(process);
	return true;
}

/* --- stdin ------------------------------------------------------------------------------------------------ */

static void grant(struct process *process, size_t consumed) {
	process->ungranted += (uint32_t)consumed;
	if (process->ungranted < GRANT_STEP_BYTES || process->exited) return;
	stream_grant(&process->stream, process->ungranted);
	process->ungranted = 0;
}

/* The program has closed its stdin: whatever comes is taken and dropped, so that the host does not stall. */
static void drop_input(struct process *process) {
	size_t length = queue_length(&process->pending);
	loop_close(&process->input);
	queue_free(&process->pending);
	grant(process, length);
}

/* A terminal has no end of file but the character for it. Best effort: a full terminal does not get it. */
static void end_tty_input(struct process *process) {
	int end = tty_eof_character(process->input.fd);
	if (end < 0) return;
	char byte = (char)end;
	ssize_t ignored = write(process->input.fd, &byte, 1);
	(void)ignored;
}

static void end_input_if_drained(struct process *process) {
	if (!process->input_ended || process->input.fd < 0 || queue_length(&process->pending) > 0) return;
	if (process->tty) end_tty_input(process);
	loop_close(&process->input);
}

/* Writes what the program takes now. Returns how much that was, or -1 when it takes nothing any more. */
static ssize_t write_input(struct process *process, const uint8_t *bytes, size_t length) {
	size_t written = 0;
	while (written < length) {
		ssize_t count = write(process->input.fd, bytes + written, length - written);
		if (count < 0 && errno == EINTR) continue;
		if (count < 0 && errno == EAGAIN) break;
		if (count <= 0) return -1;
		written += (size_t)count;
	}
	return (ssize_t)written;
}

static void input_ready(struct source *source, uint32_t events) {
	(void)events;
	struct process *process = container_of(source, struct process, input);
	ssize_t written = write_input(process, queue_front(&process->pending), queue_length(&process->pending));
	if (written < 0) {
		drop_input(process);
		return;
	}
	queue_consume(&process->pending, (size_t)written, 0);
	grant(process, (size_t)written);
	if (queue_length(&process->pending) == 0) loop_unwatch(source);
	end_input_if_drained(process);
}

static void process_data(struct stream *stream, const uint8_t *bytes, uint32_t length) {
	struct process *process = process_of(stream);
	if (process->input_ended || process->input.fd < 0) {
		grant(process, length);
		return;
	}
	size_t written = 0;
	if (queue_length(&process->pending) == 0) {
		ssize_t count = write_input(process, bytes, length);
		if (count < 0) {
			drop_input(process);
			grant(process, length);
			return;
		}
		written = (size_t)count;
	}
	bool kept = queue_append(&process->pending, bytes + written, length - written);
	if (kept && queue_length(&process->pending) > 0) kept = loop_watch(&process->input, EPOLLOUT);
	if (!kept) drop_input(process);
	grant(process, written);
}

static void process_eof(struct stream *stream) {
	struct process *process = process_of(stream);
	process->input_ended = true;
	end_input_if_drained(process);
}

/* --- stdout and stderr ------------------------------------------------------------------------------------ */

/* Sends one block. Returns false when there is nothing to do for now or ever. */
static bool pump_block(struct output *output) {
	struct process *process = output->process;
	uint32_t room = stream_room(&process->stream, output->channel);
	if (output->bounded && output->remaining < room) room = (uint32_t)output->remaining;
	if (room == 0) {
		loop_unwatch(&output->source);
		return false;
	}
	uint8_t *bytes = stream_reserve(&process->stream, room);
	ssize_t count = bytes == NULL ? 0 : read(output->source.fd, bytes, room);
	if (count < 0 && errno == EINTR) return true;
	if (count < 0 && errno == EAGAIN) {
		/* What was in a pipe at the end is out once it is empty; a terminal says so itself. */
		if (process->exited && !process->tty) loop_close(&output->source);
		return false;
	}
	/* EIO is how a terminal says that its other side is closed. */
	if (count <= 0) {
		loop_close(&output->source);
		stream_send_eof(&process->stream, output->channel);
		return false;
	}
	stream_commit(&process->stream, output->channel, (uint32_t)count);
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
	close_if_done(output->process);
}

/* Watches an output again that was left alone for want of credit or room. */
static void process_writable(struct stream *stream) {
	struct process *process = process_of(stream);
	for (int i = 0; i < 2; i++) {
		struct output *output = &process->outputs[i];
		if (i == 1 && process->is_worker) continue;
		if (output->source.fd < 0 || output->source.watched || stream_room(stream, output->channel) == 0) continue;
		if (!loop_watch(&output->source, EPOLLIN)) loop_close(&output->source);
	}
	close_if_done(process);
}

/* --- the process ------------------------------------------------------------------------------------------ */

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
	struct process *process = container_of(timer, struct process, drain_timer);
	struct output *output = &process->outputs[0];
	/* Unwatched means waiting for the host's credit: then there is output left, and it waits. */
	if (output->source.fd >= 0 && !output->source.watched) {
		timer_start(timer, TTY_DRAIN_MS);
		return;
	}
	loop_close(&output->source);
	close_if_done(process);
}

/* What became of a worker: it has succeeded, or has said how it failed. */
static void take_report(struct process *process) {
	if (process->kind == CLOSE_DONE && process->value == 0) return;
	worker_read_report(process->outputs[1].source.fd, &process->report);
	process->kind = CLOSE_FAILED;
	process->value = process->report.error;
}

static void process_exited(void *owner, enum close_kind kind, uint32_t value) {
	struct process *process = owner;
	process->job = NULL;
	process->exited = true;
	process->kind = kind;
	process->value = value;
	if (process->is_worker) {
		take_report(process);
		loop_close(&process->outputs[1].source);
	}
	loop_close(&process->input);
	queue_free(&process->pending);
	if (process->tty) {
		process->drain_timer.fired = drain_timer_fired;
		timer_start(&process->drain_timer, TTY_DRAIN_MS);
		while (process->outputs[0].source.fd >= 0 && pump_block(&process->outputs[0])) continue;
	} else {
		for (int i = 0; i < 2; i++) bound_output(&process->outputs[i]);
	}
	close_if_done(process);
}

static void process_signal(struct stream *stream, uint32_t number) {
	struct process *process = process_of(stream);
	if (process->job != NULL && number >= 1 && number <= 64) job_signal(process->job, (int)number);
}

static void process_resize(struct stream *stream, uint16_t rows, uint16_t columns) {
	struct process *process = process_of(stream);
	if (process->tty && process->outputs[0].source.fd >= 0) tty_resize(process->outputs[0].source.fd, rows, columns);
}

static void process_abandon(struct stream *stream) {
	struct process *process = process_of(stream);
	stream_forget(stream);
	if (process->job != NULL) job_hang_up(process->job);
	process_free(process);
}

static const struct stream_operations process_operations = {
	.data = process_data,
	.eof = process_eof,
	.writable = process_writable,
	.signal = process_signal,
	.resize = process_resize,
	.abandon = process_abandon,
};

/* --- start ------------------------------------------------------------------------------------------------ */

/* Our end of a program's pipe: nonblocking, and with room for more than one turn of the program. */
static bool prepare_pipe(int fd) {
	/* A user over their limit of pipe memory keeps the usual size. */
	fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

struct process *process_new(void) {
	struct process *process = calloc(1, sizeof *process);
	if (process == NULL) return NULL;
	process->input = (struct source){.fd = -1, .ready = input_ready};
	queue_init(&process->pending, INITIAL_WINDOW_BYTES);
	for (int i = 0; i < 2; i++) {
		process->outputs[i] = (struct output){
			.source = {.fd = -1, .ready = output_ready},
			.process = process,
			.channel = i == 0 ? CHANNEL_STDOUT : CHANNEL_STDERR,
		};
	}
	return process;
}

int process_connect_tty(struct process *process, const struct process_tty *tty, bool input, int stdio[3]) {
	int master, slave;
	int error = tty_open(tty->rows, tty->columns, tty->uid, &master, &slave);
	if (error != 0) return error;
	process->tty = true;
	process->outputs[0].source.fd = master;
	stdio[0] = stdio[1] = stdio[2] = slave;
	if (!input) return 0;
	/* Its own descriptor, so that reading and writing are watched apart. */
	process->input.fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
	return process->input.fd < 0 ? errno : 0;
}

int process_connect_pipes(struct process *process, bool input, int stdio[3]) {
	int pair[2];
	if (input) {
		if (pipe2(pair, O_CLOEXEC) != 0) return errno;
		stdio[0] = pair[0];
		process->input.fd = pair[1];
		if (!prepare_pipe(pair[1])) return errno;
	} else {
		stdio[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (stdio[0] < 0) return errno;
	}
	for (int i = 0; i < 2; i++) {
		if (pipe2(pair, O_CLOEXEC) != 0) return errno;
		process->outputs[i].source.fd = pair[0];
		stdio[1 + i] = pair[1];
		if (!prepare_pipe(pair[0])) return errno;
	}
	return 0;
}

void process_close_program_ends(const int stdio[3]) {
	for (int i = 0; i < 3; i++) {
		/* The three of a terminal are one. */
		if (stdio[i] >= 0 && (i == 0 || stdio[i] != stdio[0])) close(stdio[i]);
	}
}

void process_begin(struct process *process, uint32_t id, pid_t pid) {
	process->job = job_add(pid, process, process_exited);
	if (process->job == NULL) {
		struct job unwanted = {.pid = pid};
		job_signal(&unwanted, SIGKILL);
		process_free(process);
		session_fail(id, "internal", ENOMEM);
		return;
	}
	stream_start(&process->stream, &process_operations, id);
	for (int i = 0; i < 2; i++) {
		struct source *source = &process->outputs[i].source;
		if (i == 1 && process->is_worker) continue;
		if (source->fd >= 0 && !loop_watch(source, EPOLLIN)) loop_close(source);
	}
}

void process_begin_worker(uint32_t id, bool input, int (*work)(const void *request), const void *request) {
	if (job_count() >= MAX_JOBS) {
		session_fail(id, "busy", EAGAIN);
		return;
	}
	struct process *process = process_new();
	if (process == NULL) {
		session_fail(id, "internal", ENOMEM);
		return;
	}
	process->is_worker = true;
	int stdio[3] = {-1, -1, -1};
	int error = process_connect_pipes(process, input, stdio);
	pid_t pid = error == 0 ? worker_start(stdio, work, request) : -1;
	if (pid < 0 && error == 0) error = errno;
	process_close_program_ends(stdio);
	if (pid > 0) {
		process_begin(process, id, pid);
		return;
	}
	process_free(process);
	session_fail(id, "internal", error);
}
