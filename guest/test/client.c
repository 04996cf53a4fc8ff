#include "client.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/bytes.h"
#include "server.h"

uint64_t fnv(uint64_t digest, const void *bytes, size_t length) {
	const uint8_t *at = bytes;
	for (size_t i = 0; i < length; i++) digest = (digest ^ at[i]) * UINT64_C(0x100000001b3);
	return digest;
}

static bool send_all(int fd, const void *bytes, size_t length) {
	const char *at = bytes;
	while (length > 0) {
		ssize_t count = send(fd, at, length, MSG_NOSIGNAL);
		if (count <= 0) return false;
		at += count;
		length -= (size_t)count;
	}
	return true;
}

static bool receive_all(int fd, void *bytes, size_t length) {
	char *at = bytes;
	while (length > 0) {
		ssize_t count = recv(fd, at, length, 0);
		if (count <= 0) return false;
		at += count;
		length -= (size_t)count;
	}
	return true;
}

bool client_greet(int fd, char *hello, size_t capacity) {
	static uint8_t next_nonce;
	uint8_t nonce[NONCE_BYTES] = {++next_nonce, 7};
	uint8_t preamble[PREAMBLE_BYTES], answer[PREAMBLE_BYTES] = {0};
	struct client client = {.fd = fd};
	static struct received frame;
	preamble_put(preamble, nonce);
	if (!send_all(fd, preamble, sizeof preamble)) return false;
	/* Whatever comes before the answer belongs to nobody any more. */
	while (memcmp(answer, preamble, sizeof answer) != 0) {
		memmove(answer, answer + 1, sizeof answer - 1);
		if (!receive_all(fd, answer + sizeof answer - 1, 1)) return false;
	}
	if (!client_receive(&client, &frame) || frame.type != FRAME_HELLO || frame.stream != 0) return false;
	if (hello != NULL && frame.length < capacity) memcpy(hello, frame.payload, frame.length + 1);
	return true;
}

void client_open(struct client *client) {
	*client = (struct client){.fd = server_connect()};
	if (!client_greet(client->fd, NULL, 0)) abort();
}

void client_close(struct client *client) {
	close(client->fd);
	client->fd = -1;
}

bool client_send(struct client *client, uint8_t type, uint8_t channel, uint32_t stream, const void *payload, size_t length) {
	uint8_t header[HEADER_BYTES];
	frame_put_header(header, (enum frame_type)type, channel, stream, (uint32_t)length);
	return send_all(client->fd, header, sizeof header) && send_all(client->fd, payload, length);
}

bool client_send_u32(struct client *client, uint8_t type, uint8_t channel, uint32_t stream, uint32_t value) {
	uint8_t payload[4];
	put_u32(payload, value);
	return client_send(client, type, channel, stream, payload, sizeof payload);
}

bool client_receive(struct client *client, struct received *frame) {
	uint8_t header[HEADER_BYTES];
	if (!receive_all(client->fd, header, sizeof header)) return false;
	frame->length = get_u32(header);
	frame->type = (enum frame_type)header[4];
	frame->channel = header[5];
	frame->stream = get_u32(header + 8);
	if (frame->length > MAX_PAYLOAD_BYTES) return false;
	frame->payload[frame->length] = 0;
	return receive_all(client->fd, frame->payload, frame->length);
}

static void keep_output(struct outcome *outcome, const struct received *frame) {
	char *output = outcome->output[frame->channel];
	size_t *length = &outcome->lengths[frame->channel];
	size_t capacity = sizeof outcome->output[0] - 1;
	if (*length < capacity) {
		size_t room = capacity - *length;
		memcpy(output + *length, frame->payload, frame->length < room ? frame->length : room);
	}
	*length += frame->length;
	if (frame->channel == CHANNEL_STDOUT) outcome->digest = fnv(outcome->digest, frame->payload, frame->length);
}

void client_finish(struct client *client, uint32_t stream, bool grant, struct outcome *outcome) {
	static struct received frame;
	memset(outcome, 0, sizeof *outcome);
	outcome->digest = FNV_START;
	while (client_receive(client, &frame)) {
		if (frame.stream != stream) continue;
		if (frame.type == FRAME_DATA && frame.channel <= CHANNEL_STDERR) {
			keep_output(outcome, &frame);
			if (grant) client_send_u32(client, FRAME_WINDOW, frame.channel, stream, frame.length);
		}
		if (frame.type != FRAME_CLOSE) continue;
		outcome->closed = frame.length >= 5;
		outcome->kind = frame.payload[0];
		outcome->value = get_u32(frame.payload + 1);
		memcpy(outcome->text, frame.payload + 5, frame.length - 5);
		return;
	}
}

uint64_t client_feed(struct client *client, uint32_t id, size_t total, uint64_t *echoed_digest, size_t *echoed) {
	static uint8_t block[MAX_PAYLOAD_BYTES];
	static struct received frame;
	uint64_t digest = FNV_START;
	size_t credit = INITIAL_WINDOW_BYTES;
	uint32_t state = 1;
	*echoed_digest = FNV_START;
	for (size_t sent = 0; sent < total;) {
		size_t length = total - sent < 50001 ? total - sent : 50001;
		while (credit < length) {
			if (!client_receive(client, &frame)) return 0;
			if (frame.type == FRAME_WINDOW) credit += get_u32(frame.payload);
			if (frame.type != FRAME_DATA) continue;
			*echoed += frame.length;
			*echoed_digest = fnv(*echoed_digest, frame.payload, frame.length);
			client_send_u32(client, FRAME_WINDOW, frame.channel, id, frame.length);
		}
		for (size_t i = 0; i < length; i++) block[i] = (uint8_t)((state = state * 1103515245 + 12345) >> 16);
		digest = fnv(digest, block, length);
		if (!client_send(client, FRAME_DATA, 0, id, block, length)) return 0;
		sent += length;
		credit -= length;
	}
	client_send(client, FRAME_EOF, 0, id, NULL, 0);
	return digest;
}

bool client_is_hung_up_on(struct client *client) {
	char bytes[4096];
	for (;;) {
		ssize_t count = recv(client->fd, bytes, sizeof bytes, 0);
		if (count == 0) return true;
		/* A reset connection was hung up on, too; a timeout was not. */
		if (count < 0) return recv(client->fd, bytes, sizeof bytes, 0) == 0;
	}
}

void packet_u16(struct packet *packet, uint16_t value) {
	put_u16(packet->bytes + packet->length, value);
	packet->length += 2;
}

void packet_u32(struct packet *packet, uint32_t value) {
	put_u32(packet->bytes + packet->length, value);
	packet->length += 4;
}

void packet_u64(struct packet *packet, uint64_t value) {
	packet_u32(packet, (uint32_t)value);
	packet_u32(packet, (uint32_t)(value >> 32));
}

void packet_str(struct packet *packet, const char *text) {
	size_t length = strlen(text);
	packet_u32(packet, (uint32_t)length);
	memcpy(packet->bytes + packet->length, text, length);
	packet->length += length;
}

int listen_on_loopback(int backlog, uint16_t *port) {
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) return -1;
	bool ready = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, backlog) == 0 &&
		getsockname(fd, (struct sockaddr *)&address, &length) == 0;
	if (!ready) {
		close(fd);
		return -1;
	}
	*port = ntohs(address.sin_port);
	return fd;
}

struct packet *connect_packet(const char *address, uint16_t port) {
	static struct packet packet;
	packet.length = 0;
	packet_str(&packet, address);
	packet_u16(&packet, port);
	return &packet;
}

static void packet_strings(struct packet *packet, const char *const *strings) {
	uint32_t count = 0;
	while (strings != NULL && strings[count] != NULL) count++;
	packet_u32(packet, count);
	for (uint32_t i = 0; i < count; i++) packet_str(packet, strings[i]);
}

uint32_t client_open_operation(struct client *client, uint8_t operation, const struct packet *parameters) {
	static uint8_t payload[1 + sizeof parameters->bytes];
	size_t length = parameters == NULL ? 0 : parameters->length;
	payload[0] = operation;
	if (length > 0) memcpy(payload + 1, parameters->bytes, length);
	client->last_id++;
	client_send(client, FRAME_OPEN, 0, client->last_id, payload, 1 + length);
	return client->last_id;
}

uint32_t client_exec(struct client *client, const struct program *program) {
	static struct packet packet;
	packet.length = 0;
	packet_u32(&packet, program->flags);
	packet_u16(&packet, program->rows);
	packet_u16(&packet, program->columns);
	packet_str(&packet, program->user == NULL ? "" : program->user);
	packet_str(&packet, program->cwd == NULL ? "" : program->cwd);
	packet_strings(&packet, program->argv);
	packet_strings(&packet, program->environment);
	return client_open_operation(client, 1, &packet);
}

uint32_t client_shell(struct client *client, uint32_t flags, const char *script) {
	const char *const argv[] = {"sh", "-c", script, NULL};
	return client_exec(client, &(struct program){.flags = flags, .rows = 24, .columns = 80, .argv = argv});
}

void run_shell(uint32_t flags, const char *script, struct outcome *outcome) {
	struct client client;
	client_open(&client);
	client_finish(&client, client_shell(&client, flags, script), true, outcome);
	client_close(&client);
}
