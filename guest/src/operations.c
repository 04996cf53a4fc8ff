#include "operations.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "agent.h"
#include "boot_id.h"
#include "clock.h"
#include "configure.h"
#include "connect.h"
#include "entropy.h"
#include "exec.h"
#include "health.h"
#include "mount.h"
#include "pack.h"
#include "ports.h"
#include "power.h"
#include "result.h"
#include "session.h"
#include "sync.h"
#include "unpack.h"

static void report(uint32_t id, const struct reader *reader, void (*write)(struct textbuf *text)) {
	struct textbuf text = {.bytes = NULL};
	if (!reader_finished(reader)) {
		session_fail(id, "bad-request", EINVAL);
		return;
	}
	write(&text);
	result_send(id, &text);
}

static void answer(uint32_t id, int error) {
	if (error == 0) session_done(id);
	else session_fail(id, error == EINVAL ? "bad-request" : "internal", error);
}

static void set_clock(uint32_t id, struct reader *reader) {
	uint64_t ns = read_u64(reader);
	answer(id, reader_finished(reader) && ns <= INT64_MAX ? clock_set(ns) : EINVAL);
}

static void reseed(uint32_t id, struct reader *reader) {
	struct text bytes = read_blob(reader);
	bool valid = reader_finished(reader) && bytes.length >= MIN_ENTROPY_BYTES && bytes.length <= MAX_ENTROPY_BYTES;
	answer(id, valid ? entropy_add(bytes) : EINVAL);
}

static void prepare_copies(uint32_t id, const struct reader *reader) {
	answer(id, reader_finished(reader) ? boot_id_prepare_copies() : EINVAL);
}

static void start_sync(uint32_t id, const struct reader *reader) {
	if (reader_finished(reader)) sync_open(id);
	else answer(id, EINVAL);
}

/* Whether the operation is refused as things are; it has been answered then. */
static bool refused(uint32_t id, enum operation operation) {
	bool changes_machine = operation == OPERATION_CONFIGURE || operation == OPERATION_CLOCK ||
		operation == OPERATION_RESEED || operation == OPERATION_POWEROFF || operation == OPERATION_MOUNT ||
		operation == OPERATION_PREPARE_COPIES;
	if (changes_machine && !agent.is_machine) {
		session_fail(id, "unsupported", EOPNOTSUPP);
		return true;
	}
	bool works_unbooted = operation == OPERATION_HEALTH || operation == OPERATION_POWEROFF;
	if (agent.boot_error[0] == 0 || works_unbooted) return false;
	char text[sizeof agent.boot_error + 32];
	snprintf(text, sizeof text, "internal: not booted: %s", agent.boot_error);
	session_refuse(id, EIO, text);
	return true;
}

void operation_open(uint32_t id, const uint8_t *payload, uint32_t length) {
	enum operation operation = (enum operation)payload[0];
	struct reader reader;
	reader_init(&reader, payload + 1, length - 1);
	if (refused(id, operation)) return;
	switch (operation) {
		case OPERATION_EXEC: exec_open(id, &reader); return;
		case OPERATION_CONFIGURE: configure_open(id, &reader); return;
		case OPERATION_HEALTH: report(id, &reader, health_report); return;
		case OPERATION_PORTS: report(id, &reader, ports_report); return;
		case OPERATION_CLOCK: set_clock(id, &reader); return;
		case OPERATION_RESEED: reseed(id, &reader); return;
		case OPERATION_SYNC: start_sync(id, &reader); return;
		case OPERATION_POWEROFF: power_open(id, &reader); return;
		case OPERATION_MOUNT: mount_open(id, &reader); return;
		case OPERATION_CONNECT: connect_open(id, &reader); return;
		case OPERATION_PREPARE_COPIES: prepare_copies(id, &reader); return;
		case OPERATION_UNPACK: unpack_open(id, &reader); return;
		case OPERATION_PACK: pack_open(id, &reader); return;
	}
	session_refuse(id, EINVAL, "bad-request: unknown operation");
}
