/* A small host side of the protocol, blocking. */
#ifndef BANGER_TEST_CLIENT_H
#define BANGER_TEST_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/frame.h"

struct client {
	int fd;
	uint32_t last_id;
};

struct received {
	enum frame_type type;
	uint8_t channel;
	uint32_t stream;
	uint32_t length;
	uint8_t payload[MAX_PAYLOAD_BYTES + 1];
};

/* What became of a stream. */
struct outcome {
	bool closed;
	uint8_t kind;
	uint32_t value;
	char text[MAX_CLOSE_TEXT_BYTES + 1];
	/* Output by channel, terminated; cut at the capacity, `lengths` counts everything. */
	char output[3][8192];
	size_t lengths[3];
	/* FNV-1a of everything on channel 1. */
	uint64_t digest;
};

/* A payload being built. */
struct packet {
	uint8_t bytes[65536];
	size_t length;
};

#define FNV_START UINT64_C(0xcbf29ce484222325)
uint64_t fnv(uint64_t digest, const void *bytes, size_t length);

/* Connects, exchanges preambles and takes HELLO. */
void client_open(struct client *client);
/* The same on a connection there is already; `hello` (terminated) may be NULL. */
bool client_greet(int fd, char *hello, size_t capacity);
void client_close(struct client *client);
/* Returns false when the connection is gone. */
bool client_send(struct client *client, uint8_t type, uint8_t channel, uint32_t stream, const void *payload, size_t length);
bool client_send_u32(struct client *client, uint8_t type, uint8_t channel, uint32_t stream, uint32_t value);
/* The next frame; false at the end of the connection, at a farewell, and after a timeout. */
bool client_receive(struct client *client, struct received *frame);
/* Reads until the stream closes, granting credit for its output when `grant`. Frames of other streams are dropped. */
void client_finish(struct client *client, uint32_t stream, bool grant, struct outcome *outcome);
/*
 * Sends `total` bytes of a known sequence within the credit, then EOF, reading meanwhile what comes back. Returns the sequence's
 * digest; what was read before the last byte was sent is in `echoed` and `echoed_digest`.
 */
uint64_t client_feed(struct client *client, uint32_t id, size_t total, uint64_t *echoed_digest, size_t *echoed);
/* Whether the other side hangs up, whatever it sends before. */
bool client_is_hung_up_on(struct client *client);

void packet_u16(struct packet *packet, uint16_t value);
void packet_u32(struct packet *packet, uint32_t value);
void packet_u64(struct packet *packet, uint64_t value);
void packet_str(struct packet *packet, const char *text);

/* A listening socket of this process on 127.0.0.1; -1 when there can be none. */
int listen_on_loopback(int backlog, uint16_t *port);
/* The parameters of a CONNECT, in memory of the next call's. */
struct packet *connect_packet(const char *address, uint16_t port);

struct program {
	uint32_t flags;
	uint16_t rows, columns;
	const char *user, *cwd;
	/* NULL-terminated. */
	const char *const *argv;
	const char *const *environment;
};

uint32_t client_open_operation(struct client *client, uint8_t operation, const struct packet *parameters);
uint32_t client_exec(struct client *client, const struct program *program);
/* `sh -c script`. */
uint32_t client_shell(struct client *client, uint32_t flags, const char *script);
/* The whole life of a script on a session of its own. */
void run_shell(uint32_t flags, const char *script, struct outcome *outcome);

#endif
