/* Little-endian numbers in byte arrays, and a reader over the fields of a payload. */
#ifndef BANGER_BYTES_H
#define BANGER_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint16_t get_u16(const uint8_t *bytes);
uint32_t get_u32(const uint8_t *bytes);
uint64_t get_u64(const uint8_t *bytes);
void put_u16(uint8_t *bytes, uint16_t value);
void put_u32(uint8_t *bytes, uint32_t value);
void put_u64(uint8_t *bytes, uint64_t value);

/* Reads fields in order. The first field that does not fit sets `failed`, and every read after it yields zero or empty. */
struct reader {
	const uint8_t *next;
	size_t left;
	bool failed;
};

/* A `str` field: not NUL-terminated, points into the payload. */
struct text {
	const char *bytes;
	size_t length;
};

void reader_init(struct reader *reader, const uint8_t *bytes, size_t length);
uint16_t read_u16(struct reader *reader);
uint32_t read_u32(struct reader *reader);
uint64_t read_u64(struct reader *reader);
/* Any bytes. */
struct text read_blob(struct reader *reader);
/* Refuses NUL bytes. */
struct text read_str(struct reader *reader);
/* Refuses NUL bytes and more than `capacity - 1` bytes; copies and terminates. */
void read_str_into(struct reader *reader, char *target, size_t capacity);
/* Whether every field was there and nothing is left over. */
bool reader_finished(const struct reader *reader);

#endif
