/*
 * libFuzzer target: the host's bytes. A whole session runs over them: preamble, frames, decoders, dispatch, flow control.
 * Programs are not started, nobody is connected to and the machine is not touched: those calls are replaced below (linker option --wrap).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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
#include "../src/worker.h"

#define MAX_TURNS 64
#define MAX_PEERS 4096

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
struct spawn_result __wrap_spawn(const struct spawn_plan *plan);
pid_t __wrap_worker_start(const int stdio[3], int (*work)(const void *request), const void *request);
struct job *__wrap_job_add(pid_t pid, void *owner, void (*exited)(void *owner, enum close_kind kind, uint32_t value));
void __wrap_job_hang_up(struct job *job);
void __wrap_job_signal(const struct job *job, int number);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);
void __wrap_ports_report(struct textbuf *text);
void __wrap_sync_open(uint32_t id);
void __wrap_agent_log(const char *format, ...);

/* A stand-in for a program: its ends of the pipes, and what it does with them each turn. */
struct program {
	struct job job;
	int stdio[3];
};

/* Its ends as spawn was given them, until job_add tells whose they are. */
static int last_stdio[3];
static struct job *running;

static void keep_stdio(const int stdio[3]) {
	for (int i = 0; i < 3; i++) last_stdio[i] = fcntl(stdio[i], F_DUPFD_CLOEXEC, 3);
	/* Small, so that little input fills it. */
	fcntl(last_stdio[0], F_SETPIPE_SZ, 4096);
}

/* A worker is a program as others are: what it would do with an archive is the other fuzz target's. */
pid_t __wrap_worker_start(const int stdio[3], int (*work)(const void *request), const void *request) {
	static unsigned calls;
	(void)work;
	(void)request;
	if (++calls % 4 == 0) {
		errno = ENOMEM;
		return -1;
	}
	keep_stdio(stdio);
	return 1;
}

/* Every fourth program "cannot start"; the others run until the fuzzer lets them end. */
struct spawn_result __wrap_spawn(const struct spawn_plan *plan) {
	static unsigned calls;
	if (++calls % 4 == 0) return (struct spawn_result){.error = ENOENT, .stage = "spawn"};
	keep_stdio(plan->stdio);
	return (struct spawn_result){.pid = 1};
}

struct job *__wrap_job_add(pid_t pid, void *owner, void (*exited)(void *owner, enum close_kind kind, uint32_t value)) {
	struct program *program = calloc(1, sizeof *program);
	if (program == NULL) abort();
	program->job = (struct job){.pid = pid, .owner = owner, .exited = exited, .next = running};
	for (int i = 0; i < 3; i++) {
		program->stdio[i] = last_stdio[i];
		fcntl(last_stdio[i], F_SETFL, fcntl(last_stdio[i], F_GETFL) | O_NONBLOCK);
	}
	running = &program->job;
	return running;
}

static void forget_job(struct job *job) {
	struct job **link = &running;
	while (*link != job) link = &(*link)->next;
	*link = job->next;
	struct program *program = container_of(job, struct program, job);
	for (int i = 0; i < 3; i++) close(program->stdio[i]);
	free(program);
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

/* Reads some, and writes more than that to both outputs. */
static void run_programs(void) {
	static char bytes[100000];
	for (struct job *job = running; job != NULL; job = job->next) {
		const int *stdio = container_of(job, struct program, job)->stdio;
		ssize_t count = read(stdio[0], bytes, 50000);
		ssize_t out = write(stdio[1], bytes, count > 0 ? (size_t)count * 2 : 10);
		ssize_t err = write(stdio[2], bytes, 100);
		if (out < 0 && err < 0) continue;
	}
}

/* The other ends of connections. */
static int peers[MAX_PEERS];
static size_t peer_count;

/* Every third one is refused; the others are connected at once, or after a while. */
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length) {
	static unsigned calls;
	int pair[2];
	(void)address;
	(void)length;
	if (++calls % 3 == 0 || peer_count == MAX_PEERS) {
		errno = ECONNREFUSED;
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) abort();
	if (dup3(pair[0], fd, O_CLOEXEC) != fd) abort();
	close(pair[0]);
	peers[peer_count++] = pair[1];
	if (calls % 2 == 0) return 0;
	errno = EINPROGRESS;
	return -1;
}

/* Says twice what it hears; ends its side by bits of `mode` that change with the turn. */
static void run_peers(uint8_t mode) {
	static char bytes[100000];
	for (size_t i = 0; i < peer_count; i++) {
		ssize_t count = recv(peers[i], bytes, 50000, 0);
		ssize_t sent = send(peers[i], bytes, count > 0 ? (size_t)count * 2 : 10, MSG_NOSIGNAL);
		bool over = count == 0 || (sent < 0 && errno != EAGAIN);
		if ((mode >> (i % 8) & 3) == 3) shutdown(peers[i], SHUT_WR);
		if (!over && (mode >> (i % 8) & 7) != 5) continue;
		close(peers[i]);
		peers[i--] = peers[--peer_count];
	}
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
	signal(SIGPIPE, SIG_IGN);
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
		run_programs();
		run_peers((uint8_t)(mode * 7 + turn * 3));
		if ((mode & 8) != 0 && turn % 2 == 1) end_a_program();
	}
	timer_stop(&hurry);
	close(pair[1]);
	if (session_attached()) close(session_detach());
	while (peer_count > 0) close(peers[--peer_count]);
	/* Every program belonged to a stream of this session. */
	if (running != NULL || session_has_streams()) abort();
	return 0;
}
