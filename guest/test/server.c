#include "server.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/agent.h"
#include "../src/channel.h"
#include "../src/loop.h"
#include "../src/session.h"
#include "../src/signals.h"

/* A client that waits longer than this for bytes has found a bug. */
#define CLIENT_TIMEOUT_S 20

struct server shared_server;
static struct sockaddr_un address;
static socklen_t address_length;
static bool stopping;

static void lifeline_cut(struct source *source, uint32_t events) {
	(void)source;
	(void)events;
	stopping = true;
}

static _Noreturn void serve(int lifeline, int fd, bool port) {
	static char name[] = "agent-test";
	char *argv[] = {name, NULL};
	struct source lifeline_source = {.fd = lifeline, .ready = lifeline_cut};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	agent_init(argv);
	agent.mounted = true;
	if (loop_start() != 0 || signals_start() != 0 || !loop_watch(&lifeline_source, EPOLLIN)) _exit(9);
	if (port) channel_serve_port(fd);
	else if (channel_serve_listener(fd) != 0) _exit(9);
	while (!stopping) loop_turn(session_settle);
	session_detach();
	exit(0);
}

static void start(struct server *server, int fd, bool port) {
	int lifeline[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, lifeline) != 0) abort();
	server->pid = fork();
	if (server->pid < 0) abort();
	if (server->pid == 0) {
		close(lifeline[1]);
		if (shared_server.pid > 0) close(shared_server.lifeline);
		serve(lifeline[0], fd, port);
	}
	close(lifeline[0]);
	close(fd);
	server->lifeline = lifeline[1];
}

void server_start_listening(struct server *server) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	address.sun_family = AF_UNIX;
	address_length = sizeof address;
	/* Bound to nothing but the family, the kernel picks a free abstract name (unix(7)). */
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address.sun_family) != 0 || listen(fd, 8) != 0) abort();
	if (getsockname(fd, (struct sockaddr *)&address, &address_length) != 0) abort();
	start(server, fd, false);
}

static int with_timeout(int fd) {
	struct timeval timeout = {.tv_sec = CLIENT_TIMEOUT_S};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	return fd;
}

int server_start_port(struct server *server) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
	fcntl(pair[0], F_SETFL, fcntl(pair[0], F_GETFL) | O_NONBLOCK);
	start(server, pair[0], true);
	return with_timeout(pair[1]);
}

bool server_stop(struct server *server) {
	int status = -1;
	close(server->lifeline);
	return waitpid(server->pid, &status, 0) == server->pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int server_descriptors(const struct server *server) {
	char path[64];
	int count = 0;
	snprintf(path, sizeof path, "/proc/%d/fd", server->pid);
	DIR *directory = opendir(path);
	while (directory != NULL && readdir(directory) != NULL) count++;
	if (directory != NULL) closedir(directory);
	return count;
}

int server_connect(void) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, address_length) != 0) abort();
	return with_timeout(fd);
}
