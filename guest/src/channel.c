#include "channel.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"
#include "session.h"

static struct source listener = {.fd = -1};

static void accept_host(struct source *source, uint32_t events) {
	(void)events;
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) return;
	/* One host at a time: the next one waits in the backlog. */
	loop_unwatch(source);
	session_attach(fd, false);
}

/* Only sessions over connections end; the one over a port begins anew by itself. */
static void session_ended(void) {
	close(session_detach());
	loop_watch(&listener, EPOLLIN);
}

void channel_serve_port(int fd) {
	session_init(session_ended);
	session_attach(fd, true);
}

int channel_serve_listener(int fd) {
	session_init(session_ended);
	listener = (struct source){.fd = fd, .ready = accept_host};
	return loop_watch(&listener, EPOLLIN) ? 0 : errno;
}

int channel_rewatch(void) {
	if (listener.watched) {
		listener.watched = false;
		if (!loop_watch(&listener, EPOLLIN)) return errno;
	}
	return session_rewatch();
}
