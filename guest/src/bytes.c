#include "bytes.h"

#include <string.h>

uint16_t get_u16(const uint8_t *bytes) {
	return (uint16_t)(bytes[0] | bytes[1] << 8);
}

uint32_t get_u32(const uint8_t *bytes) {
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

uint64_t get_u64(const uint8_t *bytes) {
	return (uint64_t)get_u32(bytes) | (uint64_t)get_u32(bytes + 4) << 32;
}

void put_u16(uint8_t *bytes, uint16_t value) {
	bytes[0] = (uint8_t)value;
	bytes[1] = (uint8_t)(value >> 8);
}

void put_u32(uint8_t *bytes, uint32_t value) {
	put_u16(bytes, (uint16_t)value);
	put_u16(bytes + 2, (uint16_t)(value >> 16));
}

void put_u64(uint8_t *bytes, uint64_t value) {
	put_u32(bytes, (uint32_t)value);
	put_u32(bytes + 4, (uint32_t)(value >> 32));
}

void reader_init(struct reader *reader, const uint8_t *bytes, size_t length) {
	reader->next = bytes;
	reader->left = length;
	reader->failed = false;
}

/* The next `count` bytes, or NULL (and failed from then on) when they are not there. */
static const uint8_t *take(struct reader *reader, size_t count) {
	if (reader->failed || reader->left < count) {
		reader->failed = true;
		return NULL;
	}
	const uint8_t *bytes = reader->next;
	reader->next += count;
	reader->left -= count;
	return bytes;
}

uint16_t read_u16(struct reader *reader) {
	const uint8_t *bytes = take(reader, 2);
	return bytes == NULL ? 0 : get_u16(bytes);
}

uint32_t read_u32(struct reader *reader) {
	const uint8_t *bytes = take(reader, 4);
	return bytes == NULL ? 0 : get_u32(bytes);
}

uint64_t read_u64(struct reader *reader) {
	const uint8_t *bytes = take(reader, 8);
	return bytes == NULL ? 0 : get_u64(bytes);
}

struct text read_blob(struct reader *reader) {
	size_t length = read_u32(reader);
	const uint8_t *bytes = take(reader, length);
	if (bytes == NULL) return (struct text){.bytes = "", .length = 0};
	return (struct text){.bytes = (const char *)bytes, .length = length};
}

struct text read_str(struct reader *reader) {
	struct text text = read_blob(reader);
	if (text.length > 0 && memchr(text.bytes, 0, text.length) != NULL) {
		reader->failed = true;
		return (struct text){.bytes = "", .length = 0};
	}
	return text;
}

void read_str_into(struct reader *reader, char *target, size_t capacity) {
	struct text text = read_str(reader);
	if (text.length >= capacity) {
		reader->failed = true;
		text.length = 0;
	}
	memcpy(target, text.bytes, text.length);
	target[text.length] = 0;
}

bool reader_finished(const struct reader *reader) {
	return !reader->failed && reader->left == 0;
}
