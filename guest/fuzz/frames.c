/*
 * libFuzzer target: the host's bytes. A whole session runs over them: preamble, frames, decoders, dispatch, flow control.
 * Programs are not started and the machine is not touched: those calls are replaced below (linker option --wrap).
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/agent.h"
#include "../src/bytes.h"
#include "../src/channel.h"
#include "../src/frame.h"
#include "../src/job.h"
#include "../src/loop.h"
#include "../src/session.h"
#include "../src/spawn.h"

#define MAX_TURNS 64

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
struct spawn_result __wrap_spawn(const struct spawn_plan *plan);
struct job *__wrap_job_add(pid_t pid, void *owner, void (*exited)(void *owner, enum close_kind kind, uint32_t value));
void __wrap_job_hang_up(struct job *job);
void __wrap_job_signal(const struct job *job, int number);
void __wrap_ports_report(struct textbuf *text);
void __wrap_sync_open(uint32_t id);
void __wrap_agent_log(const char *format, ...);

/* Every third program "cannot start"; the others run until the fuzzer lets them end. */
struct spawn_result __wrap_spawn(const struct spawn_plan *plan) {
	static unsigned calls;
	(void)plan;
	if (++calls % 3 == 0) return (struct spawn_result){.error = ENOENT, .stage = "spawn"};
	return (struct spawn_result){.pid = 1};
}

static struct job *running;

struct job *__wrap_job_add(pid_t pid, void *owner, void (*exited)(void *owner, enum close_kind kind, uint32_t value)) {
	struct job *job = calloc(1, sizeof *job);
	if (job == NULL) abort();
	*job = (struct job){.pid = pid, .owner = owner, .exited = exited, .next = running};
	running = job;
	return job;
}

static void forget_job(struct job *job) {
	struct job **link = &running;
	while (*link != job) link = &(*link)->next;
	*link = job->next;
	free(job);
}

void __wrap_job_hang_up(struct job *job) {
	forget_job(job);
}

void __wrap_job_signal(const struct job *job, int number) {
	(void)job;
	(void)number;
}

static void end_a_program(void) {
	if (running == NULL) return;
	struct job job = *running;
	forget_job(running);
	job.exited(job.owner, CLOSE_DONE, 7);
}

/* Long and the same each time: more than the initial window. */
void __wrap_ports_report(struct textbuf *text) {
	for (int i = 0; i < 6000; i++) textbuf_add(text, "%099d\n", i);
}

void __wrap_sync_open(uint32_t id) {
	session_done(id);
}

void __wrap_agent_log(const char *format, ...) {
	(void)format;
}

static void ended(void) {
	close(session_detach());
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
	(void)argc;
	agent_init(*argv);
	agent.mounted = true;
	if (loop_start() != 0) abort();
	return 0;
}

static void drain(int fd) {
	char bytes[65536];
	while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
}

/* A timer that makes every turn of the loop return at once. */
static void nothing(struct timer *timer) {
	(void)timer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const uint8_t nonce[NONCE_BYTES];
	struct timer hurry = {.fired = nothing};
	uint8_t preamble[PREAMBLE_BYTES];
	int pair[2];
	if (size < 2) return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) abort();
	session_init(ended);
	/* The first byte decides: port or connection, whether the host reads, and in which pieces the rest arrives. */
	uint8_t mode = data[0];
	size_t piece = (size_t)1 << (mode >> 4);
	session_attach(pair[0], (mode & 1) != 0);
	if ((mode & 2) == 0) {
		preamble_put(preamble, nonce);
		if (send(pair[1], preamble, sizeof preamble, MSG_NOSIGNAL) < 0) abort();
	}
	size_t sent = 1;
	for (int turn = 0; turn < MAX_TURNS && (sent < size || turn < 4) && session_attached(); turn++) {
		size_t length = size - sent < piece || turn > MAX_TURNS / 2 ? size - sent : piece;
		ssize_t count = length == 0 ? 0 : send(pair[1], data + sent, length, MSG_NOSIGNAL);
		if (count > 0) sent += (size_t)count;
		timer_start(&hurry, 0);
		loop_turn(session_settle);
		if ((mode & 4) == 0) drain(pair[1]);
		if ((mode & 8) != 0 && turn % 2 == 1) end_a_program();
	}
	timer_stop(&hurry);
	close(pair[1]);
	if (session_attached()) close(session_detach());
	/* Every program belonged to a stream of this session. */
	if (running != NULL || session_has_streams()) abort();
	return 0;
}
