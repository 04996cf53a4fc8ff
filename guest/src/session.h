/* One session with a host over one byte stream: preamble, frames, streams, flow control. */
#ifndef BANGER_SESSION_H
#define BANGER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "frame.h"
#include "loop.h"
#include "queue.h"

struct stream;

/*
 * What an operation does with the frames of its stream. Any entry but `abandon` may be NULL: such frames are ignored.
 * Every callback may end in stream_close, which frees the stream.
 */
struct stream_operations {
	void (*data)(struct stream *stream, const uint8_t *bytes, uint32_t length);
	void (*eof)(struct stream *stream);
	/* There is new credit, or room in the outbound queue again. */
	void (*writable)(struct stream *stream);
	void (*signal)(struct stream *stream, uint32_t number);
	void (*resize)(struct stream *stream, uint16_t rows, uint16_t columns);
	/* The host gave the stream up, or is gone. Releases everything, the stream itself too; sends nothing. */
	void (*abandon)(struct stream *stream);
};

/* The part of a stream the session knows; operations embed it as their first member. */
struct stream {
	const struct stream_operations *operations;
	uint32_t id;
	/* Bytes the host may still send on channel 0. */
	uint32_t host_credit;
	/* Bytes we may still send, by channel; index 0 is unused. */
	uint32_t credit[3];
	struct stream *next;
};

/* Starts a session's life on a connected descriptor. `ended` is called once the other side is gone or broke the protocol. */
void session_init(void (*ended)(void));
/* `persistent`: the descriptor outlives hosts (a virtio-serial port), and a violation is answered there, not by hanging up. */
void session_attach(int fd, bool persistent);
/* Resets every stream and forgets the descriptor (without closing it: returned, -1 when there was none). */
int session_detach(void);
bool session_attached(void);
/* Watches the descriptor again after loop_restart. Returns 0 or an errno. */
int session_rewatch(void);
/* Writes what is queued; to be called after every batch of events. */
void session_settle(void);
/* Whether everything queued has been handed to the kernel. */
bool session_flushed(void);
bool session_has_streams(void);

/* For operations: registers a zeroed stream under the number being opened. */
void stream_start(struct stream *stream, const struct stream_operations *operations, uint32_t id);
/* How many bytes of DATA may be sent on this channel now: 0 without credit or with a full outbound queue. */
uint32_t stream_room(const struct stream *stream, enum channel channel);
/* Where up to stream_room bytes of DATA can be put, then stream_commit; NULL without memory. */
uint8_t *stream_reserve(struct stream *stream, uint32_t length);
void stream_commit(struct stream *stream, enum channel channel, uint32_t length);
void stream_send_eof(const struct stream *stream, enum channel channel);
/* Gives the host credit for bytes of channel 0 that were consumed. */
void stream_grant(struct stream *stream, uint32_t bytes);
/* Sends CLOSE and unregisters; the caller frees the memory. */
void stream_close(struct stream *stream, enum close_kind kind, uint32_t value, const char *text);
/* CLOSE for a stream number that never became a stream: done, failed with a text, or failed with "<word>: <strerror>". */
void session_done(uint32_t id);
void session_refuse(uint32_t id, int error, const char *text);
void session_fail(uint32_t id, const char *word, int error);
/* The same, naming what it is about: "word: subject: reason". */
void session_fail_about(uint32_t id, const char *word, const char *subject, int error);
/* Unregisters without a CLOSE; for `abandon`. */
void stream_forget(struct stream *stream);

#endif
