#include "connect.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connect_request.h"
#include "queue.h"
#include "session.h"

/* For all addresses together. */
#define CONNECT_TIMEOUT_MS 10000
/* Bytes the socket took are granted again in steps of this many. */
#define GRANT_STEP_BYTES (128 * 1024)
/* Blocks read from the socket before others get their turn. */
#define BLOCKS_PER_TURN 4

struct connection {
	struct stream stream;
	struct source socket;
	/* What the socket is watched for; meaningless while it is not watched. */
	uint32_t watched_events;
	struct connect_request request;
	/* The next address to try, and why the first one was no good. */
	unsigned next_target;
	int first_error;
	bool connected;
	struct timer timer;
	/* Bytes of the host that the socket has not taken yet. */
	struct queue pending;
	uint32_t ungranted;
	/* The host sends no more; the socket has been told. */
	bool input_ended, input_shut;
	/* The other end sends no more. */
	bool output_ended;
	/* Why the other end takes no more bytes; 0 while it does. */
	int write_error;
};

static struct connection *connection_of(struct stream *stream) {
	return container_of(stream, struct connection, stream);
}

static void connection_free(struct connection *connection) {
	timer_stop(&connection->timer);
	loop_close(&connection->socket);
	queue_free(&connection->pending);
	free(connection);
}

static void connection_fail(struct connection *connection, int error) {
	char text[128];
	snprintf(text, sizeof text, "connect: %s", strerror(error));
	stream_close(&connection->stream, CLOSE_FAILED, (uint32_t)error, text);
	connection_free(connection);
}

static void grant(struct connection *connection, size_t consumed) {
	connection->ungranted += (uint32_t)consumed;
	if (connection->ungranted < GRANT_STEP_BYTES || connection->input_ended) return;
	stream_grant(&connection->stream, connection->ungranted);
	connection->ungranted = 0;
}

/* --- the host's bytes -------------------------------------------------------------------------------------- */

/* The other end takes nothing any more. What it has sent before is still read. */
static void drop_input(struct connection *connection, int error) {
	size_t length = queue_length(&connection->pending);
	connection->write_error = error;
	queue_free(&connection->pending);
	grant(connection, length);
}

static size_t write_some(struct connection *connection, const uint8_t *bytes, size_t length) {
	size_t written = 0;
	while (written < length) {
		ssize_t count = send(connection->socket.fd, bytes + written, length - written, MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR) continue;
		if (count < 0 && errno == EAGAIN) break;
		if (count <= 0) {
			drop_input(connection, count < 0 ? errno : EPIPE);
			return length;
		}
		written += (size_t)count;
	}
	return written;
}

static void flush_pending(struct connection *connection) {
	size_t length = queue_length(&connection->pending);
	if (length == 0) return;
	size_t written = write_some(connection, queue_front(&connection->pending), length);
	if (connection->write_error != 0) return;
	queue_consume(&connection->pending, written, 0);
	grant(connection, written);
}

/* --- the other end's bytes --------------------------------------------------------------------------------- */

enum pump_result { PUMP_MORE, PUMP_ENOUGH, PUMP_FAILED };

static enum pump_result pump_block(struct connection *connection) {
	uint32_t room = stream_room(&connection->stream, CHANNEL_STDOUT);
	if (room == 0) return PUMP_ENOUGH;
	uint8_t *bytes = stream_reserve(&connection->stream, room);
	if (bytes == NULL) {
		errno = ENOMEM;
		return PUMP_FAILED;
	}
	ssize_t count = recv(connection->socket.fd, bytes, room, 0);
	if (count < 0 && errno == EINTR) return PUMP_MORE;
	if (count < 0) return errno == EAGAIN ? PUMP_ENOUGH : PUMP_FAILED;
	if (count == 0) {
		connection->output_ended = true;
		stream_send_eof(&connection->stream, CHANNEL_STDOUT);
		return PUMP_ENOUGH;
	}
	stream_commit(&connection->stream, CHANNEL_STDOUT, (uint32_t)count);
	return PUMP_MORE;
}

/* --- both --------------------------------------------------------------------------------------------------- */

/* What there is to wait for; nothing at all while the host grants no credit, because an end of the socket is reported for ever. */
static bool watch(struct connection *connection) {
	uint32_t events = 0;
	bool stalled = false;
	if (!connection->connected || queue_length(&connection->pending) > 0) events |= EPOLLOUT;
	if (connection->connected && !connection->output_ended) {
		if (stream_room(&connection->stream, CHANNEL_STDOUT) > 0) events |= EPOLLIN;
		else stalled = true;
	}
	if (stalled && events == 0) {
		loop_unwatch(&connection->socket);
		return true;
	}
	if (connection->socket.watched && connection->watched_events == events) return true;
	connection->watched_events = events;
	return loop_watch(&connection->socket, events);
}

/* Passes an end of input on, closes when both directions are over, and waits for what comes next. `connection` may be gone. */
static void settle(struct connection *connection) {
	bool input_over = connection->input_ended && queue_length(&connection->pending) == 0;
	if (connection->connected && input_over && !connection->input_shut && connection->write_error == 0) {
		connection->input_shut = true;
		shutdown(connection->socket.fd, SHUT_WR);
	}
	if (connection->output_ended && connection->write_error != 0) {
		connection_fail(connection, connection->write_error);
	} else if (connection->output_ended && connection->input_shut) {
		stream_close(&connection->stream, CLOSE_DONE, 0, "");
		connection_free(connection);
	} else if (!watch(connection)) {
		connection_fail(connection, ENOMEM);
	}
}

static int socket_error(const struct connection *connection) {
	int error = 0;
	socklen_t length = sizeof error;
	if (getsockopt(connection->socket.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
	return error;
}

static void begin(struct connection *connection) {
	connection->connected = true;
	timer_stop(&connection->timer);
	flush_pending(connection);
	settle(connection);
}

/* Returns 0 when it is connected or on the way, else an errno. */
static int try_target(struct connection *connection, const struct connect_target *target) {
	static const int on = 1;
	int family = target->address.any.sa_family;
	connection->socket.fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection->socket.fd < 0) return errno;
	/* The host's side has decided already what is sent together. */
	setsockopt(connection->socket.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(connection->socket.fd, &target->address.any, target->length) == 0) connection->connected = true;
	else if (errno != EINPROGRESS) return errno;
	return 0;
}

/* Goes on to the next address, after a failure with `error` (0: the first one). `connection` may be gone. */
static void try_next(struct connection *connection, int error) {
	for (;;) {
		if (connection->first_error == 0) connection->first_error = error;
		loop_close(&connection->socket);
		if (connection->next_target == connection->request.count) {
			connection_fail(connection, connection->first_error);
			return;
		}
		error = try_target(connection, &connection->request.targets[connection->next_target++]);
		if (error == 0) break;
	}
	if (connection->connected) begin(connection);
	else settle(connection);
}

static void timer_fired(struct timer *timer) {
	connection_fail(container_of(timer, struct connection, timer), ETIMEDOUT);
}

static void socket_ready(struct source *source, uint32_t events) {
	struct connection *connection = container_of(source, struct connection, socket);
	if (!connection->connected) {
		int error = socket_error(connection);
		if (error != 0) try_next(connection, error);
		else begin(connection);
		return;
	}
	bool ended = (events & (EPOLLERR | EPOLLHUP)) != 0;
	/* Nothing is read any more, and nothing is there to write: only so is a reset noticed. */
	if (ended && connection->output_ended && queue_length(&connection->pending) == 0) {
		int error = socket_error(connection);
		connection_fail(connection, error == 0 ? ECONNRESET : error);
		return;
	}
	flush_pending(connection);
	if (!connection->output_ended && (ended || (events & EPOLLIN) != 0)) {
		enum pump_result result = PUMP_MORE;
		for (int i = 0; i < BLOCKS_PER_TURN && result == PUMP_MORE; i++) result = pump_block(connection);
		if (result == PUMP_FAILED) {
			connection_fail(connection, errno);
			return;
		}
	}
	settle(connection);
}

static void connection_data(struct stream *stream, const uint8_t *bytes, uint32_t length) {
	struct connection *connection = connection_of(stream);
	if (connection->input_ended || connection->write_error != 0) {
		grant(connection, length);
		return;
	}
	size_t written = 0;
	if (connection->connected && queue_length(&connection->pending) == 0) written = write_some(connection, bytes, length);
	/* Within the window, so that only a lack of memory is in the way. */
	if (!queue_append(&connection->pending, bytes + written, length - written)) {
		connection_fail(connection, ENOMEM);
		return;
	}
	grant(connection, written);
	settle(connection);
}

static void connection_eof(struct stream *stream) {
	struct connection *connection = connection_of(stream);
	connection->input_ended = true;
	settle(connection);
}

static void connection_writable(struct stream *stream) {
	settle(connection_of(stream));
}

/* The other end hears that nobody is there any more, as it would of a host that reset the connection. */
static void connection_abandon(struct stream *stream) {
	static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
	struct connection *connection = connection_of(stream);
	stream_forget(stream);
	setsockopt(connection->socket.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	connection_free(connection);
}

static const struct stream_operations connection_operations = {
	.data = connection_data,
	.eof = connection_eof,
	.writable = connection_writable,
	.abandon = connection_abandon,
};

void connect_open(uint32_t id, struct reader *reader) {
	struct connect_request request;
	if (!connect_request_decode(reader, &request)) {
		session_fail(id, "bad-request", EINVAL);
		return;
	}
	struct connection *connection = calloc(1, sizeof *connection);
	if (connection == NULL) {
		session_fail(id, "internal", ENOMEM);
		return;
	}
	connection->request = request;
	connection->socket = (struct source){.fd = -1, .ready = socket_ready};
	queue_init(&connection->pending, INITIAL_WINDOW_BYTES);
	stream_start(&connection->stream, &connection_operations, id);
	connection->timer.fired = timer_fired;
	timer_start(&connection->timer, CONNECT_TIMEOUT_MS);
	try_next(connection, 0);
}
