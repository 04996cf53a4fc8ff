/* A first-in first-out queue of bytes in one growing allocation, with a limit. */
#ifndef BANGER_QUEUE_H
#define BANGER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue {
	uint8_t *bytes;
	size_t head, tail, capacity, limit;
};

/* Empty, without an allocation. It never holds more than `limit` bytes. */
void queue_init(struct queue *queue, size_t limit);
void queue_free(struct queue *queue);
size_t queue_length(const struct queue *queue);
const uint8_t *queue_front(const struct queue *queue);
/* Room for `count` contiguous bytes at the end, not yet part of the queue; NULL when over the limit or out of memory. */
uint8_t *queue_reserve(struct queue *queue, size_t count);
/* Makes the first `count` reserved bytes part of the queue. */
void queue_commit(struct queue *queue, size_t count);
bool queue_append(struct queue *queue, const void *bytes, size_t count);
/* Drops `count` bytes from the front. An empty queue gives its memory back when it has grown over `keep` bytes. */
void queue_consume(struct queue *queue, size_t count, size_t keep);

#endif
