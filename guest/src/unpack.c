#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "archive_request.h"
#include "process.h"
#include "session.h"
#include "tree.h"
#include "unpacker.h"
#include "worker.h"

static int open_directory(const char *path) {
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Finds the directories there are. Returns 0, or 1 having said why not. */
static int begin(struct unpacker *unpacker, const struct unpack_request *request) {
	unpacker->marks = (request->flags & UNPACK_MARK) != 0;
	unpacker->base = open_directory(request->base);
	bool may_be_made = errno == ENOENT && (request->flags & UNPACK_BASE_MUST_EXIST) == 0;
	if (unpacker->base < 0 && !may_be_made) return worker_fail("unpack", request->base, errno);
	if (request->upper[0] == 0) return 0;
	unpacker->upper = open_directory(request->upper);
	return unpacker->upper < 0 ? worker_fail("unpack", request->upper, errno) : 0;
}

/* Everything that was to be checked was: nothing may be written unless all of it fits. */
static int end_checks(struct unpacker *unpacker, const struct unpack_request *request) {
	char subject[64];
	if (unpacker->conflicts > 0) {
		static const struct archive_record end = {.kind = ARCHIVE_END};
		archive_write_record(&unpacker->output, &end);
		if (archive_flush(&unpacker->output) != 0) return 1;
		snprintf(subject, sizeof subject, "%u paths", unpacker->conflicts);
		return worker_fail("conflict", subject, EEXIST);
	}
	if (unpacker->base < 0) {
		int error = tree_make(request->base, geteuid(), getegid());
		if (error == 0 && (unpacker->base = open_directory(request->base)) < 0) error = errno;
		if (error != 0) return worker_fail("unpack", request->base, error);
	}
	if (request->staging[0] != 0) unpacker_open_staging(unpacker, request->staging);
	return 0;
}

static int apply(struct unpacker *unpacker, const struct archive_record *record) {
	switch (record->kind) {
		case ARCHIVE_DIRECTORY: return unpacker_write_directory(unpacker, record);
		case ARCHIVE_FILE: return unpacker_write_file(unpacker, record);
		case ARCHIVE_SYMLINK: return unpacker_write_symlink(unpacker, record);
		case ARCHIVE_DELETE: return unpacker_delete(unpacker, record);
		case ARCHIVE_CHECK: return unpacker_check(unpacker, record);
		case ARCHIVE_CHECK_CONTENT: return unpacker_check_content(unpacker, record);
		case ARCHIVE_CONFLICT:
		case ARCHIVE_SKIPPED:
		case ARCHIVE_END: break;
	}
	return EPROTO;
}

/* Whoever ends the machine ends this too: no more of the archive is read, which removes what was begun. */
static void give_up(int number) {
	(void)number;
	close(0);
}

static int work(const void *argument) {
	const struct unpack_request *request = argument;
	static struct unpacker unpacker = {.base = -1, .upper = -1, .staging = -1, .parent = -1, .output = {.fd = 1}};
	static struct archive_record record;
	struct sigaction ending = {.sa_handler = give_up};
	bool writing = false;
	sigaction(SIGTERM, &ending, NULL);
	if (begin(&unpacker, request) != 0) return 1;
	for (;;) {
		int error = archive_read_record(&unpacker.input, &record);
		if (error != 0) return worker_fail("bad-request", "the archive", error);
		bool is_check = record.kind == ARCHIVE_CHECK || record.kind == ARCHIVE_CHECK_CONTENT;
		if (is_check && writing) return worker_fail("bad-request", "a check after a change", EPROTO);
		if (!is_check && !writing && end_checks(&unpacker, request) != 0) return 1;
		writing = !is_check;
		if (record.kind == ARCHIVE_END) return 0;
		error = apply(&unpacker, &record);
		if (error != 0) return worker_fail(error == EPROTO ? "bad-request" : "unpack", record.path, error);
	}
}

void unpack_open(uint32_t id, struct reader *reader) {
	struct unpack_request request;
	if (!unpack_request_decode(reader, &request)) session_fail(id, "bad-request", EINVAL);
	else process_begin_worker(id, true, work, &request);
}
