/*
 * The agent's session code as an ordinary process on the host, serving on a unix socket: `agent-host SOCKET`.
 * For tests of either side without a machine. Operations that change the machine are refused.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../src/agent.h"
#include "../src/channel.h"
#include "../src/loop.h"
#include "../src/session.h"
#include "../src/signals.h"

static int listen_on(const char *path) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) return -1;
	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 8) != 0) return -1;
	return fd;
}

/* The agent ignores every signal; a test process must end with its test. */
static int stay_endable(void) {
	sigset_t ending;
	sigemptyset(&ending);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGHUP);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return errno;
	return sigprocmask(SIG_UNBLOCK, &ending, NULL) == 0 ? 0 : errno;
}

static int fail(const char *what, int error) {
	fprintf(stderr, "agent-host: %s: %s\n", what, strerror(error));
	return 1;
}

int main(int argc, char **argv) {
	if (argc != 2) {
		fprintf(stderr, "usage: agent-host SOCKET\n");
		return 2;
	}
	agent_init(argv);
	agent.mounted = true;
	int fd = listen_on(argv[1]);
	if (fd < 0) return fail(argv[1], errno);
	int error = loop_start();
	if (error == 0) error = signals_start();
	if (error == 0) error = stay_endable();
	if (error == 0) error = channel_serve_listener(fd);
	if (error != 0) return fail("start", error);
	for (;;) loop_turn(session_settle);
}
