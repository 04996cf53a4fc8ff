#include "queue.h"

#include <stdlib.h>
#include <string.h>

#define SMALLEST_CAPACITY 4096

void queue_init(struct queue *queue, size_t limit) {
	*queue = (struct queue){.limit = limit};
}

void queue_free(struct queue *queue) {
	free(queue->bytes);
	queue_init(queue, queue->limit);
}

size_t queue_length(const struct queue *queue) {
	return queue->tail - queue->head;
}

const uint8_t *queue_front(const struct queue *queue) {
	return queue->bytes + queue->head;
}

static void move_to_start(struct queue *queue) {
	if (queue->head == 0) return;
	memmove(queue->bytes, queue->bytes + queue->head, queue_length(queue));
	queue->tail -= queue->head;
	queue->head = 0;
}

uint8_t *queue_reserve(struct queue *queue, size_t count) {
	size_t length = queue_length(queue);
	if (length > queue->limit || count > queue->limit - length) return NULL;
	if (queue->capacity - queue->tail >= count && queue->bytes != NULL) return queue->bytes + queue->tail;
	if (queue->bytes != NULL) move_to_start(queue);
	if (queue->capacity - length < count) {
		size_t capacity = queue->capacity == 0 ? SMALLEST_CAPACITY : queue->capacity;
		while (capacity - length < count) capacity *= 2;
		uint8_t *bytes = realloc(queue->bytes, capacity);
		if (bytes == NULL) return NULL;
		queue->bytes = bytes;
		queue->capacity = capacity;
	}
	return queue->bytes + queue->tail;
}

void queue_commit(struct queue *queue, size_t count) {
	queue->tail += count;
}

bool queue_append(struct queue *queue, const void *bytes, size_t count) {
	if (count == 0) return true;
	uint8_t *room = queue_reserve(queue, count);
	if (room == NULL) return false;
	memcpy(room, bytes, count);
	queue_commit(queue, count);
	return true;
}

void queue_consume(struct queue *queue, size_t count, size_t keep) {
	queue->head += count;
	if (queue->head != queue->tail) return;
	queue->head = 0;
	queue->tail = 0;
	if (queue->capacity > keep) queue_free(queue);
}
