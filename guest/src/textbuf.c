#include "textbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void textbuf_free(struct textbuf *text) {
	free(text->bytes);
	*text = (struct textbuf){.bytes = NULL};
}

static bool grow(struct textbuf *text, size_t more) {
	if (text->failed) return false;
	if (text->capacity - text->length > more) return true;
	size_t capacity = text->capacity == 0 ? 512 : text->capacity;
	while (capacity - text->length <= more) capacity *= 2;
	char *bytes = realloc(text->bytes, capacity);
	if (bytes == NULL) {
		text->failed = true;
		return false;
	}
	text->bytes = bytes;
	text->capacity = capacity;
	return true;
}

void textbuf_add(struct textbuf *text, const char *format, ...) {
	va_list arguments;
	va_start(arguments, format);
	int needed = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (needed < 0 || !grow(text, (size_t)needed)) return;
	va_start(arguments, format);
	vsnprintf(text->bytes + text->length, (size_t)needed + 1, format, arguments);
	va_end(arguments);
	text->length += (size_t)needed;
}

void textbuf_add_json_string(struct textbuf *text, const char *value) {
	textbuf_add(text, "\"");
	for (const char *at = value; *at != 0; at++) {
		unsigned char byte = (unsigned char)*at;
		if (byte == '"' || byte == '\\') textbuf_add(text, "\\%c", byte);
		else if (byte < 0x20 || byte >= 0x7F) textbuf_add(text, "\\u%04x", (unsigned)byte);
		else textbuf_add(text, "%c", byte);
	}
	textbuf_add(text, "\"");
}
