/* The framing of docs/agent-protocol.md. The same numbers are in src/core/channel/frame.ts. */
#ifndef BANGER_FRAME_H
#define BANGER_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define PROTOCOL_VERSION 1
#define PREAMBLE_BYTES 32
#define PREAMBLE_NONCE_OFFSET 16
#define NONCE_BYTES 16
#define HEADER_BYTES 12
#define MAX_PAYLOAD_BYTES (64 * 1024)
#define MAX_OPEN_PAYLOAD_BYTES (1024 * 1024)
#define INITIAL_WINDOW_BYTES (512 * 1024)
#define MAX_CREDIT_BYTES (UINT32_C(1) << 31)
#define MAX_STREAMS 1536
#define MAX_CLOSE_TEXT_BYTES 1024

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_OPEN = 2,
	FRAME_DATA = 3,
	FRAME_EOF = 4,
	FRAME_WINDOW = 5,
	FRAME_SIGNAL = 6,
	FRAME_RESIZE = 7,
	FRAME_RESET = 8,
	FRAME_CLOSE = 9,
};

enum channel { CHANNEL_STDIN = 0, CHANNEL_STDOUT = 1, CHANNEL_STDERR = 2 };

enum close_kind { CLOSE_DONE = 0, CLOSE_SIGNALED = 1, CLOSE_FAILED = 2 };

struct frame {
	enum frame_type type;
	uint8_t channel;
	uint32_t stream;
	const uint8_t *payload;
	uint32_t length;
};

enum parse_result { PARSE_FRAME, PARSE_INCOMPLETE, PARSE_VIOLATION };

/*
 * Looks for one frame of the host at the start of `bytes`. Only what a host may send is a frame: direction, channel,
 * stream number and payload size are checked here, so that nothing behind it has to.
 * PARSE_FRAME: `frame` is filled, its payload points into `bytes`; it takes HEADER_BYTES + length bytes.
 * PARSE_INCOMPLETE: `*needed` is how many bytes the frame has in all, as far as is known yet.
 */
enum parse_result frame_parse(const uint8_t *bytes, size_t length, struct frame *frame, size_t *needed);

/* Writes a header of HEADER_BYTES. */
void frame_put_header(uint8_t *bytes, enum frame_type type, uint8_t channel, uint32_t stream, uint32_t length);

/*
 * Looks for a whole preamble in `bytes`. Returns its offset, or `length` when there is none; `*discard` is how many bytes
 * at the start can no longer be part of one (on success: everything up to its end).
 */
size_t preamble_find(const uint8_t *bytes, size_t length, size_t *discard);

/* Writes PREAMBLE_BYTES with the given nonce of NONCE_BYTES. */
void preamble_put(uint8_t *bytes, const uint8_t *nonce);

#endif
