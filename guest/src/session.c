#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent.h"
#include "operations.h"
#include "rehearsal.h"

#define BUCKETS 512
#define READ_BYTES (64 * 1024)
/* A host that has sent its preamble waits for the answer: so long a silence tells it from data that looks the same. */
#define QUIET_MS 200
/* Above this much queued output programs are no longer read, and below the second number they are again. */
#define OUTPUT_HIGH_BYTES (256 * 1024)
#define OUTPUT_LOW_BYTES (64 * 1024)
/* Above this much queued output no frame is read either: a host that does not read its answers gets no new ones. */
#define OUTPUT_STOP_BYTES (1024 * 1024)
/* Hard end: what one batch of input can add to the above at the very most. */
#define OUTPUT_LIMIT_BYTES (4 * 1024 * 1024)
/* What is read at once before other sources get their turn. */
#define INPUT_TURN_BYTES (1024 * 1024)
/* Edge-triggered, because a port nobody is connected to reports EPOLLHUP for as long as that lasts. */
#define WATCHED_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
/* Memory a drained queue may keep. */
#define KEEP_BYTES (512 * 1024)

enum phase { PHASE_DETACHED, PHASE_PREAMBLE, PHASE_OPEN };

static struct session {
	struct source source;
	enum phase phase;
	bool persistent;
	/* Output was refused to streams since the queue was last low. */
	bool throttled;
	/* Input was left unread because of too much queued output. */
	bool input_stopped;
	/* Set when the session must end; acted upon where no stream or frame is in use. */
	bool broken, hung_up;
	struct queue input, output;
	/* The newest bytes read, and whether to wait for more after a preamble inside a frame. */
	uint8_t newest[PREAMBLE_BYTES];
	struct timer quiet;
	bool replaced;
	struct stream *streams[BUCKETS];
	unsigned stream_count;
	uint32_t last_id;
	void (*ended)(void);
} session = {.source = {.fd = -1}};

static void source_ready(struct source *source, uint32_t events);

void session_init(void (*ended)(void)) {
	session.ended = ended;
	queue_init(&session.input, HEADER_BYTES + MAX_OPEN_PAYLOAD_BYTES + READ_BYTES);
	queue_init(&session.output, OUTPUT_LIMIT_BYTES);
}

void session_attach(int fd, bool persistent) {
	session.source = (struct source){.fd = fd, .ready = source_ready};
	session.persistent = persistent;
	session.phase = PHASE_PREAMBLE;
	if (!loop_watch(&session.source, WATCHED_EVENTS)) session.hung_up = true;
}

static struct stream **find_link(uint32_t id) {
	struct stream **link = &session.streams[id % BUCKETS];
	while (*link != NULL && (*link)->id != id) link = &(*link)->next;
	return link;
}

static void abandon_streams(void) {
	for (unsigned i = 0; i < BUCKETS; i++) {
		while (session.streams[i] != NULL) session.streams[i]->operations->abandon(session.streams[i]);
	}
	session.last_id = 0;
}

static void forget_newest(void) {
	memset(session.newest, 0, sizeof session.newest);
	timer_stop(&session.quiet);
	session.replaced = false;
}

static void keep_newest(const uint8_t *bytes, size_t length) {
	size_t kept = length < sizeof session.newest ? sizeof session.newest - length : 0;
	memmove(session.newest, session.newest + sizeof session.newest - kept, kept);
	memcpy(session.newest + kept, bytes + length - (sizeof session.newest - kept), sizeof session.newest - kept);
}

static bool newest_is_preamble(void) {
	size_t ignored;
	return preamble_find(session.newest, sizeof session.newest, &ignored) == 0;
}

static void quiet_fired(struct timer *timer) {
	(void)timer;
	session.replaced = true;
}

int session_detach(void) {
	int fd = session.source.fd;
	if (fd >= 0) loop_unwatch(&session.source);
	session.source.fd = -1;
	session.phase = PHASE_DETACHED;
	abandon_streams();
	queue_free(&session.input);
	queue_free(&session.output);
	forget_newest();
	session.throttled = session.input_stopped = session.broken = session.hung_up = false;
	return fd;
}

int session_rewatch(void) {
	if (session.source.fd < 0) return 0;
	session.source.watched = false;
	return loop_watch(&session.source, WATCHED_EVENTS) ? 0 : errno;
}

bool session_attached(void) {
	return session.source.fd >= 0;
}

bool session_flushed(void) {
	return queue_length(&session.output) == 0;
}

bool session_has_streams(void) {
	return session.stream_count > 0;
}

/* Appends a frame. Without memory for it the session cannot go on. */
static void send_frame(enum frame_type type, uint8_t channel, uint32_t id, const void *payload, uint32_t length) {
	uint8_t *room = queue_reserve(&session.output, HEADER_BYTES + (size_t)length);
	if (room == NULL) {
		session.broken = true;
		return;
	}
	frame_put_header(room, type, channel, id, length);
	if (length > 0) memcpy(room + HEADER_BYTES, payload, length);
	queue_commit(&session.output, HEADER_BYTES + (size_t)length);
}

void stream_start(struct stream *stream, const struct stream_operations *operations, uint32_t id) {
	stream->operations = operations;
	stream->id = id;
	stream->host_credit = INITIAL_WINDOW_BYTES;
	stream->credit[CHANNEL_STDOUT] = INITIAL_WINDOW_BYTES;
	stream->credit[CHANNEL_STDERR] = INITIAL_WINDOW_BYTES;
	stream->next = session.streams[id % BUCKETS];
	session.streams[id % BUCKETS] = stream;
	session.stream_count++;
}

void stream_forget(struct stream *stream) {
	struct stream **link = find_link(stream->id);
	if (*link != stream) return;
	*link = stream->next;
	session.stream_count--;
}

uint32_t stream_room(const struct stream *stream, enum channel channel) {
	if (queue_length(&session.output) >= OUTPUT_HIGH_BYTES) {
		session.throttled = true;
		return 0;
	}
	uint32_t credit = stream->credit[channel];
	return credit < MAX_PAYLOAD_BYTES ? credit : MAX_PAYLOAD_BYTES;
}

uint8_t *stream_reserve(struct stream *stream, uint32_t length) {
	(void)stream;
	uint8_t *room = queue_reserve(&session.output, HEADER_BYTES + (size_t)length);
	return room == NULL ? NULL : room + HEADER_BYTES;
}

void stream_commit(struct stream *stream, enum channel channel, uint32_t length) {
	/* Cannot fail: stream_reserve has just made the room. */
	uint8_t *room = queue_reserve(&session.output, HEADER_BYTES + (size_t)length);
	frame_put_header(room, FRAME_DATA, (uint8_t)channel, stream->id, length);
	queue_commit(&session.output, HEADER_BYTES + (size_t)length);
	stream->credit[channel] -= length;
}

void stream_send_eof(const struct stream *stream, enum channel channel) {
	send_frame(FRAME_EOF, (uint8_t)channel, stream->id, NULL, 0);
}

void stream_grant(struct stream *stream, uint32_t bytes) {
	uint8_t payload[4];
	put_u32(payload, bytes);
	stream->host_credit += bytes;
	send_frame(FRAME_WINDOW, CHANNEL_STDIN, stream->id, payload, sizeof payload);
}

static void send_close(uint32_t id, enum close_kind kind, uint32_t value, const char *text) {
	uint8_t payload[5 + MAX_CLOSE_TEXT_BYTES];
	size_t length = strlen(text);
	if (length > MAX_CLOSE_TEXT_BYTES) length = MAX_CLOSE_TEXT_BYTES;
	payload[0] = (uint8_t)kind;
	put_u32(payload + 1, value);
	memcpy(payload + 5, text, length);
	send_frame(FRAME_CLOSE, 0, id, payload, (uint32_t)(5 + length));
}

void stream_close(struct stream *stream, enum close_kind kind, uint32_t value, const char *text) {
	stream_forget(stream);
	send_close(stream->id, kind, value, text);
}

void session_refuse(uint32_t id, int error, const char *text) {
	send_close(id, CLOSE_FAILED, (uint32_t)error, text);
}

void session_done(uint32_t id) {
	send_close(id, CLOSE_DONE, 0, "");
}

void session_fail(uint32_t id, const char *word, int error) {
	char text[128];
	snprintf(text, sizeof text, "%s: %s", word, strerror(error));
	session_refuse(id, error, text);
}

void session_fail_about(uint32_t id, const char *word, const char *subject, int error) {
	char text[512];
	snprintf(text, sizeof text, "%s: %.200s: %s", word, subject, strerror(error));
	session_refuse(id, error, text);
}

static void open_stream(const struct frame *frame) {
	if (frame->stream <= session.last_id) {
		session.broken = true;
		return;
	}
	session.last_id = frame->stream;
	if (session.stream_count >= MAX_STREAMS) {
		session_refuse(frame->stream, EMFILE, "busy: too many open streams");
		return;
	}
	operation_open(frame->stream, frame->payload, frame->length);
}

static void take_data(struct stream *stream, const struct frame *frame) {
	if (frame->length > stream->host_credit) {
		session.broken = true;
		return;
	}
	stream->host_credit -= frame->length;
	if (stream->operations->data != NULL) stream->operations->data(stream, frame->payload, frame->length);
}

static void take_window(struct stream *stream, const struct frame *frame) {
	uint32_t more = get_u32(frame->payload);
	uint32_t *credit = &stream->credit[frame->channel];
	if (more > MAX_CREDIT_BYTES - *credit) {
		session.broken = true;
		return;
	}
	*credit += more;
	if (stream->operations->writable != NULL) stream->operations->writable(stream);
}

static void take_reset(struct stream *stream) {
	uint32_t id = stream->id;
	stream->operations->abandon(stream);
	session_refuse(id, ECANCELED, "reset: given up by the host");
}

static void dispatch(const struct frame *frame) {
	if (frame->type == FRAME_OPEN) {
		open_stream(frame);
		return;
	}
	struct stream *stream = *find_link(frame->stream);
	if (stream == NULL) return;
	const struct stream_operations *operations = stream->operations;
	const uint8_t *payload = frame->payload;
	switch (frame->type) {
		case FRAME_DATA: take_data(stream, frame); break;
		case FRAME_WINDOW: take_window(stream, frame); break;
		case FRAME_RESET: take_reset(stream); break;
		case FRAME_EOF:
			if (operations->eof != NULL) operations->eof(stream);
			break;
		case FRAME_SIGNAL:
			if (operations->signal != NULL) operations->signal(stream, get_u32(payload));
			break;
		case FRAME_RESIZE:
			if (operations->resize != NULL) operations->resize(stream, get_u16(payload), get_u16(payload + 2));
			break;
		case FRAME_OPEN:
		case FRAME_HELLO:
		case FRAME_CLOSE: break;
	}
}

/* Answers a preamble and says hello. */
static void begin(const uint8_t *preamble) {
	uint8_t answer[PREAMBLE_BYTES];
	preamble_put(answer, preamble + PREAMBLE_NONCE_OFFSET);
	if (!queue_append(&session.output, answer, sizeof answer)) session.broken = true;
	forget_newest();
	struct textbuf hello = {.bytes = NULL};
	agent_hello(&hello);
	if (hello.failed) session.broken = true;
	else send_frame(FRAME_HELLO, 0, 0, hello.bytes, (uint32_t)hello.length);
	textbuf_free(&hello);
	session.phase = PHASE_OPEN;
	rehearsal_begin();
}

/* In the middle of a frame: may the host that began it have died, and another one's preamble be what came last? */
static void suspect_new_host(void) {
	if (!session.persistent || !newest_is_preamble()) return;
	session.quiet.fired = quiet_fired;
	timer_start(&session.quiet, QUIET_MS);
}

/* Uses up what has been read: preamble or frames. Stops at the end, at a violation, or with too much output queued. */
static void parse_input(void) {
	while (!session.broken && queue_length(&session.input) > 0) {
		const uint8_t *bytes = queue_front(&session.input);
		size_t length = queue_length(&session.input);
		size_t taken;
		if (session.phase == PHASE_PREAMBLE) {
			size_t at = preamble_find(bytes, length, &taken);
			if (at < length) begin(bytes + at);
			else if (taken == 0) return;
			queue_consume(&session.input, taken, KEEP_BYTES);
			continue;
		}
		if (queue_length(&session.output) >= OUTPUT_STOP_BYTES) {
			session.input_stopped = true;
			return;
		}
		struct frame frame;
		switch (frame_parse(bytes, length, &frame, &taken)) {
			case PARSE_INCOMPLETE: suspect_new_host(); return;
			case PARSE_VIOLATION: session.broken = true; return;
			case PARSE_FRAME: dispatch(&frame); break;
		}
		/* A violation found while dispatching leaves nothing worth keeping either. */
		queue_consume(&session.input, taken, KEEP_BYTES);
	}
}

/* Reads until the descriptor has nothing more, or until others should have their turn. */
static void read_input(void) {
	size_t taken = 0;
	for (;;) {
		parse_input();
		if (session.input_stopped || session.broken) return;
		if (taken >= INPUT_TURN_BYTES) {
			/* Watching anew makes the kernel report the edge again. */
			if (!loop_watch(&session.source, WATCHED_EVENTS)) session.hung_up = true;
			return;
		}
		uint8_t *room = queue_reserve(&session.input, READ_BYTES);
		if (room == NULL) {
			session.broken = true;
			return;
		}
		ssize_t count = read(session.source.fd, room, READ_BYTES);
		if (count > 0) {
			queue_commit(&session.input, (size_t)count);
			keep_newest(room, (size_t)count);
			timer_stop(&session.quiet);
			taken += (size_t)count;
			continue;
		}
		if (count < 0 && errno == EINTR) continue;
		if (count < 0 && errno == EAGAIN) return;
		/* A port reads as ended for as long as no host is connected: nothing new when there is no session. */
		if (!session.persistent || session.phase == PHASE_OPEN) session.hung_up = true;
		return;
	}
}

static void write_output(void) {
	while (queue_length(&session.output) > 0) {
		ssize_t count = write(session.source.fd, queue_front(&session.output), queue_length(&session.output));
		if (count < 0 && errno == EINTR) continue;
		if (count < 0 && errno == EAGAIN) return;
		if (count <= 0) {
			session.hung_up = true;
			return;
		}
		queue_consume(&session.output, (size_t)count, KEEP_BYTES);
	}
}

static void source_ready(struct source *source, uint32_t events) {
	(void)source;
	bool gone = (events & (EPOLLHUP | EPOLLERR)) != 0;
	/* What a port holds after its host went is read once the session is reset: the next host may already have written. */
	if (gone && session.persistent) session.hung_up = true;
	else if (!session.input_stopped) read_input();
	/* A gone host is noticed even while its frames are left unread. */
	if (gone) session.hung_up = true;
}

static void resume_streams(void) {
	session.throttled = false;
	for (unsigned i = 0; i < BUCKETS; i++) {
		struct stream *next;
		for (struct stream *stream = session.streams[i]; stream != NULL; stream = next) {
			next = stream->next;
			if (stream->operations->writable != NULL) stream->operations->writable(stream);
		}
	}
}

/* Forgets the session but not what is still to be parsed, and looks for a preamble there and in what comes. */
static void restart(void) {
	abandon_streams();
	forget_newest();
	session.throttled = session.input_stopped = session.broken = session.hung_up = false;
	session.phase = PHASE_PREAMBLE;
	read_input();
}

/* A port cannot be hung up from here, so its host is told by a header that is none. */
static void say_farewell(void) {
	static const uint8_t farewell[HEADER_BYTES] = {
		0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
	if (queue_append(&session.output, farewell, sizeof farewell)) return;
	queue_consume(&session.output, queue_length(&session.output), 0);
	queue_append(&session.output, farewell, sizeof farewell);
}

/*
 * The host of a port is gone. The next one may already have written: even its preamble, since the kernel reads the port's
 * data and the news of its hosts from different queues. A host whose session is ended by late news of the one before must
 * not wait for ever; one that looks for the answer to its preamble skips the farewell.
 */
static void restart_after_hangup(void) {
	queue_consume(&session.input, queue_length(&session.input), KEEP_BYTES);
	queue_consume(&session.output, queue_length(&session.output), KEEP_BYTES);
	if (session.phase == PHASE_OPEN) say_farewell();
	restart();
}

/* The newest bytes are another host's preamble, of which a frame has swallowed all or the beginning: only they stay. */
static void restart_from_newest(void) {
	uint8_t preamble[PREAMBLE_BYTES];
	memcpy(preamble, session.newest, sizeof preamble);
	queue_consume(&session.input, queue_length(&session.input), 0);
	if (queue_append(&session.input, preamble, sizeof preamble)) restart();
	else restart_after_hangup();
}

/* Whether a preamble begins where a frame should have: another host came before the port told that the first one went. */
static bool host_was_replaced(void) {
	static const uint8_t magic[4] = {0xB4, 0x42, 0x4E, 0x47};
	return queue_length(&session.input) >= sizeof magic && memcmp(queue_front(&session.input), magic, sizeof magic) == 0;
}

/*
 * The host of a port broke the protocol.
 * What was read stays: a new host's preamble may be in it.
 */
static void restart_after_violation(void) {
	if (newest_is_preamble() && !host_was_replaced()) {
		restart_from_newest();
		return;
	}
	if (!host_was_replaced()) agent_log("agent: the host broke the protocol; waiting for a new session");
	abandon_streams();
	say_farewell();
	restart();
}

void session_settle(void) {
	if (session.source.fd < 0) return;
	write_output();
	if (session.throttled && queue_length(&session.output) <= OUTPUT_LOW_BYTES) {
		resume_streams();
		write_output();
	}
	if (session.input_stopped && queue_length(&session.output) < OUTPUT_STOP_BYTES) {
		session.input_stopped = false;
		read_input();
		write_output();
	}
	if (!session.hung_up && !session.broken && !session.replaced) return;
	if (!session.persistent) session.ended();
	else if (session.hung_up) restart_after_hangup();
	else if (session.replaced) restart_from_newest();
	else restart_after_violation();
	if (session.source.fd >= 0) write_output();
}
