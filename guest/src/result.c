#include "result.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

struct result {
	struct stream stream;
	struct textbuf text;
	size_t sent;
};

static void result_free(struct result *result) {
	textbuf_free(&result->text);
	free(result);
}

static void result_writable(struct stream *stream) {
	struct result *result = container_of(stream, struct result, stream);
	while (result->sent < result->text.length) {
		size_t left = result->text.length - result->sent;
		uint32_t room = stream_room(stream, CHANNEL_STDOUT);
		if (room == 0) return;
		uint32_t length = left < room ? (uint32_t)left : room;
		uint8_t *bytes = stream_reserve(stream, length);
		if (bytes == NULL) break;
		memcpy(bytes, result->text.bytes + result->sent, length);
		stream_commit(stream, CHANNEL_STDOUT, length);
		result->sent += length;
	}
	bool complete = result->sent == result->text.length;
	if (complete) stream_close(stream, CLOSE_DONE, 0, "");
	else stream_close(stream, CLOSE_FAILED, ENOMEM, "internal: out of memory");
	result_free(result);
}

static void result_abandon(struct stream *stream) {
	stream_forget(stream);
	result_free(container_of(stream, struct result, stream));
}

static const struct stream_operations result_operations = {
	.writable = result_writable,
	.abandon = result_abandon,
};

void result_send(uint32_t id, struct textbuf *text) {
	struct result *result = text->failed ? NULL : calloc(1, sizeof *result);
	if (result == NULL) {
		textbuf_free(text);
		session_fail(id, "internal", ENOMEM);
		return;
	}
	result->text = *text;
	*text = (struct textbuf){.bytes = NULL};
	stream_start(&result->stream, &result_operations, id);
	result_writable(&result->stream);
}
