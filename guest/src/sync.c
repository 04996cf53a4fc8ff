#include "sync.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "job.h"
#include "session.h"

struct sync_stream {
	struct stream stream;
	struct job *job;
};

static void sync_ended(void *owner, enum close_kind kind, uint32_t value) {
	struct sync_stream *sync_stream = owner;
	if (kind == CLOSE_DONE && value == 0) stream_close(&sync_stream->stream, CLOSE_DONE, 0, "");
	else stream_close(&sync_stream->stream, CLOSE_FAILED, EIO, "internal: sync did not finish");
	free(sync_stream);
}

static void sync_abandon(struct stream *stream) {
	struct sync_stream *sync_stream = container_of(stream, struct sync_stream, stream);
	stream_forget(stream);
	job_hang_up(sync_stream->job);
	free(sync_stream);
}

static const struct stream_operations sync_operations = {.abandon = sync_abandon};

/* In a process of its own: sync(2) may take long, and everyone else would wait. */
static pid_t start_sync(void) {
	pid_t pid = fork();
	if (pid != 0) return pid;
	setsid();
	/* Copies of other programs' pipes would keep those open. */
	syscall(SYS_close_range, 3U, ~0U, 0U);
	sync();
	_exit(0);
}

void sync_open(uint32_t id) {
	struct sync_stream *sync_stream = calloc(1, sizeof *sync_stream);
	pid_t pid = sync_stream == NULL ? -1 : start_sync();
	if (pid > 0) sync_stream->job = job_add(pid, sync_stream, sync_ended);
	if (pid < 0 || sync_stream->job == NULL) {
		free(sync_stream);
		session_fail(id, "internal", ENOMEM);
		return;
	}
	stream_start(&sync_stream->stream, &sync_operations, id);
}
