/* A growing text, for JSON results. A failed allocation sets `failed`; what follows is dropped. */
#ifndef BANGER_TEXTBUF_H
#define BANGER_TEXTBUF_H

#include <stdbool.h>
#include <stddef.h>

struct textbuf {
	char *bytes;
	size_t length, capacity;
	bool failed;
};

void textbuf_free(struct textbuf *text);
void textbuf_add(struct textbuf *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes. Bytes that are no printable ASCII become \u00XX (Latin-1 reading): the result is always valid JSON. */
void textbuf_add_json_string(struct textbuf *text, const char *value);

#endif
