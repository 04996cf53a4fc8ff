#include "configure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "boot_id.h"
#include "clock.h"
#include "configure_request.h"
#include "entropy.h"
#include "growth.h"
#include "handover.h"
#include "loop.h"
#include "machine_id.h"
#include "network.h"
#include "rehearsal.h"
#include "result.h"
#include "session.h"
#include "tree.h"
#include "user.h"

#define NS_PER_MS UINT64_C(1000000)

static int write_file(const struct configure_file *file, char path[MAX_PATH_BYTES]) {
	memcpy(path, file->path.bytes, file->path.length);
	path[file->path.length] = 0;
	if (file->keep_foreign && tree_is_foreign(path, file->content)) return 0;
	return tree_settle(path, file->mode, file->uid, file->gid, file->content);
}

static void failed(uint32_t id, const char *what, int error) {
	char text[MAX_CLOSE_TEXT_BYTES];
	snprintf(text, sizeof text, "internal: %.800s: %s", what, strerror(error));
	session_refuse(id, error, text);
}

/*
 * Randomness comes before anything that might use it (the boot id is made from it), then the clock, which files and answers
 * are stamped with. Returns false when it has answered with a failure.
 */
static bool apply(uint32_t id, const struct configure_request *request) {
	int error = request->entropy.length == 0 ? 0 : entropy_add(request->entropy);
	if (error != 0) return failed(id, "entropy", error), false;
	error = request->clock_ns == 0 ? 0 : clock_set(request->clock_ns + loop_turn_ms() * NS_PER_MS);
	if (error != 0) return failed(id, "clock", error), false;
	error = boot_id_settle(request->boot_id);
	if (error != 0) return failed(id, "boot id", error), false;
	if (request->hostname[0] != 0 && sethostname(request->hostname, strlen(request->hostname)) != 0) {
		return failed(id, "hostname", errno), false;
	}
	error = request->machine_id[0] == 0 ? 0 : machine_id_set(&machine_id_paths, request->machine_id);
	if (error != 0) return failed(id, "machine id", error), false;
	for (size_t i = 0; i < request->file_count; i++) {
		char path[MAX_PATH_BYTES];
		error = write_file(&request->files[i], path);
		if (error != 0) return failed(id, path, error), false;
	}
	error = network_configure(request->mac, request->address, request->gateway);
	if (error != 0) return failed(id, "network", error), false;
	return true;
}

/* The last part: PID 1, and the answer. */
static void finish(uint32_t id, uint32_t flags) {
	bool hand_over = (flags & CONFIGURE_HAND_OVER) != 0 && !agent.handed_over;
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
	if ((flags & CONFIGURE_PROVISIONAL) == 0) {
		agent.configured = true;
		rehearsal_end();
	}
	struct textbuf text = {.bytes = NULL};
	agent_hello(&text);
	result_send(id, &text);
}

/* A CONFIGURE that waits until the root file system has its full size. */
static struct pending {
	struct stream stream;
	bool waiting;
	uint32_t flags;
} pending;

static void stop_waiting(void) {
	stream_forget(&pending.stream);
	pending.waiting = false;
}

static void growth_ended(int error) {
	stop_waiting();
	if (error == 0) finish(pending.stream.id, pending.flags);
	else failed(pending.stream.id, "size of the root disk", error);
}

static void pending_abandon(struct stream *stream) {
	(void)stream;
	growth_withdraw();
	stop_waiting();
}

static const struct stream_operations pending_operations = {.abandon = pending_abandon};

static void finish_when_grown(uint32_t id, const struct configure_request *request) {
	stream_start(&pending.stream, &pending_operations, id);
	pending.waiting = true;
	pending.flags = request->flags;
	growth_ensure(request->root_bytes, growth_ended);
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
	if (apply(id, &request)) finish_when_grown(id, &request);
}
