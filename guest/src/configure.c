#include "configure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "clock.h"
#include "configure_request.h"
#include "entropy.h"
#include "growth.h"
#include "handover.h"
#include "network.h"
#include "session.h"
#include "tree.h"
#include "user.h"

static int write_file(const struct configure_file *file, char path[MAX_PATH_BYTES]) {
	memcpy(path, file->path.bytes, file->path.length);
	path[file->path.length] = 0;
	return tree_write(path, file->mode, file->uid, file->gid, file->content);
}

static void failed(uint32_t id, const char *what, int error) {
	char text[MAX_CLOSE_TEXT_BYTES];
	snprintf(text, sizeof text, "internal: %.800s: %s", what, strerror(error));
	session_refuse(id, error, text);
}

/* Randomness comes before anything that might use it. Returns false when it has answered with a failure. */
static bool apply(uint32_t id, const struct configure_request *request) {
	int error = request->entropy.length == 0 ? 0 : entropy_add(request->entropy);
	if (error != 0) return failed(id, "entropy", error), false;
	error = request->clock_ns == 0 ? 0 : clock_set(request->clock_ns);
	if (error != 0) return failed(id, "clock", error), false;
	if (request->hostname[0] != 0 && sethostname(request->hostname, strlen(request->hostname)) != 0) {
		return failed(id, "hostname", errno), false;
	}
	for (size_t i = 0; i < request->file_count; i++) {
		char path[MAX_PATH_BYTES];
		error = write_file(&request->files[i], path);
		if (error != 0) return failed(id, path, error), false;
	}
	error = request->address[0] == 0 ? 0 : network_configure(request->address, request->gateway);
	if (error != 0) return failed(id, "network", error), false;
	return true;
}

/* The last part: PID 1, and the answer. */
static void finish(uint32_t id, bool hand_over) {
	if (hand_over && session_has_streams()) {
		/* The processes of open streams would become the new init's: nobody would learn their exit status. */
		session_refuse(id, EBUSY, "busy: PID 1 cannot be handed over while streams are open");
		return;
	}
	int error = hand_over ? handover_to_image() : 0;
	if (error != 0) {
		failed(id, "handing PID 1 to the image's init", error);
		return;
	}
	agent.configured = true;
	session_done(id);
}

/* A CONFIGURE that waits until the root file system has its full size. */
static struct pending {
	struct stream stream;
	bool waiting, hand_over;
} pending;

static void stop_waiting(void) {
	stream_forget(&pending.stream);
	growth_await(NULL);
	pending.waiting = false;
}

static void growth_ended(void) {
	stop_waiting();
	finish(pending.stream.id, pending.hand_over);
}

static void pending_abandon(struct stream *stream) {
	(void)stream;
	stop_waiting();
}

static const struct stream_operations pending_operations = {.abandon = pending_abandon};

static void wait_for_growth(uint32_t id, bool hand_over) {
	stream_start(&pending.stream, &pending_operations, id);
	pending.waiting = true;
	pending.hand_over = hand_over;
	growth_await(growth_ended);
}

void configure_open(uint32_t id, struct reader *reader) {
	/* Large, and of no interest to anyone afterwards. */
	static struct configure_request request;
	if (!configure_request_decode(reader, &request)) {
		session_fail(id, "bad-request", EINVAL);
		return;
	}
	if (pending.waiting) {
		session_fail(id, "busy", EBUSY);
		return;
	}
	bool hand_over = (request.flags & CONFIGURE_HAND_OVER) != 0 && !agent.handed_over;
	if (!apply(id, &request)) return;
	if (growth_running()) wait_for_growth(id, hand_over);
	else finish(id, hand_over);
}
