#include "frame.h"

#include <stdbool.h>
#include <string.h>

#include "bytes.h"

static const uint8_t magic[8] = {0xB4, 0x42, 0x4E, 0x47, 0x52, 0x0D, 0x0A, 0x1A};

/* What a host may send: sizes in bytes, channels as first and last. A type that is not here is a violation. */
static const struct rule {
	uint32_t smallest, largest;
	uint8_t first_channel, last_channel;
} rules[] = {
	[FRAME_OPEN] = {1, MAX_OPEN_PAYLOAD_BYTES, 0, 0},
	[FRAME_DATA] = {1, MAX_PAYLOAD_BYTES, CHANNEL_STDIN, CHANNEL_STDIN},
	[FRAME_EOF] = {0, 0, CHANNEL_STDIN, CHANNEL_STDIN},
	[FRAME_WINDOW] = {4, 4, CHANNEL_STDOUT, CHANNEL_STDERR},
	[FRAME_SIGNAL] = {4, 4, 0, 0},
	[FRAME_RESIZE] = {4, 4, 0, 0},
	[FRAME_RESET] = {0, 0, 0, 0},
};

static bool header_allowed(uint8_t type, uint8_t channel, uint16_t reserved, uint32_t stream, uint32_t length) {
	if (type < FRAME_OPEN || type > FRAME_RESET) return false;
	const struct rule *rule = &rules[type];
	if (reserved != 0 || stream == 0) return false;
	if (channel < rule->first_channel || channel > rule->last_channel) return false;
	return length >= rule->smallest && length <= rule->largest;
}

enum parse_result frame_parse(const uint8_t *bytes, size_t length, struct frame *frame, size_t *needed) {
	if (length < HEADER_BYTES) {
		*needed = HEADER_BYTES;
		return PARSE_INCOMPLETE;
	}
	uint32_t payload_length = get_u32(bytes);
	uint32_t stream = get_u32(bytes + 8);
	if (!header_allowed(bytes[4], bytes[5], get_u16(bytes + 6), stream, payload_length)) return PARSE_VIOLATION;
	*needed = HEADER_BYTES + (size_t)payload_length;
	if (length < *needed) return PARSE_INCOMPLETE;
	frame->type = (enum frame_type)bytes[4];
	frame->channel = bytes[5];
	frame->stream = stream;
	frame->payload = bytes + HEADER_BYTES;
	frame->length = payload_length;
	return PARSE_FRAME;
}

void frame_put_header(uint8_t *bytes, enum frame_type type, uint8_t channel, uint32_t stream, uint32_t length) {
	put_u32(bytes, length);
	bytes[4] = (uint8_t)type;
	bytes[5] = channel;
	put_u16(bytes + 6, 0);
	put_u32(bytes + 8, stream);
}

/* Whether the bytes can be the start of a preamble: as much of it as there is must match. */
static bool preamble_matches(const uint8_t *bytes, size_t length) {
	static const uint8_t zeros[6];
	if (memcmp(bytes, magic, length < sizeof magic ? length : sizeof magic) != 0) return false;
	if (length <= 10) return true;
	size_t reserved = length - 10;
	return memcmp(bytes + 10, zeros, reserved < sizeof zeros ? reserved : sizeof zeros) == 0;
}

size_t preamble_find(const uint8_t *bytes, size_t length, size_t *discard) {
	size_t at = 0;
	while (at < length) {
		const uint8_t *candidate = memchr(bytes + at, magic[0], length - at);
		if (candidate == NULL) break;
		at = (size_t)(candidate - bytes);
		if (preamble_matches(candidate, length - at)) {
			bool whole = length - at >= PREAMBLE_BYTES;
			*discard = whole ? at + PREAMBLE_BYTES : at;
			return whole ? at : length;
		}
		at++;
	}
	*discard = length;
	return length;
}

void preamble_put(uint8_t *bytes, const uint8_t *nonce) {
	memset(bytes, 0, PREAMBLE_BYTES);
	memcpy(bytes, magic, sizeof magic);
	put_u16(bytes + 8, PROTOCOL_VERSION);
	memcpy(bytes + PREAMBLE_NONCE_OFFSET, nonce, NONCE_BYTES);
}
