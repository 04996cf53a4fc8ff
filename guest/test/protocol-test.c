/* Opening, violations, limits and the other operations, against a server process. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/bytes.h"
#include "../src/exec_request.h"
#include "../src/operations.h"
#include "check.h"
#include "client.h"
#include "server.h"

static struct outcome outcome;
static struct received frame;

static void hello_follows_leftovers_and_preamble(void) {
	char hello[1024] = "";
	int fd = server_connect();
	static const uint8_t leftovers[] = {1, 2, 3, 0xB4, 0x42, 0x4E, 0x47, 0x52, 0x0D, 0x0A, 0x1A, 1, 0, 9, 0xB4, 0xB4, 0x42};
	CHECK(send(fd, leftovers, sizeof leftovers, 0) == (ssize_t)sizeof leftovers);
	CHECK(client_greet(fd, hello, sizeof hello));
	close(fd);
	CHECK(strncmp(hello, "{\"agent\":\"", 10) == 0);
	CHECK(strstr(hello, "\"mounted\":true,\"error\":null,\"clockMs\":") != NULL);
	/* Not read before it is needed: the kernel makes it up at that moment. */
	CHECK(strstr(hello, "\"bootId\":\"00000000-0000-0000-0000-000000000000\"") != NULL);
	CHECK(strstr(hello, "\"kernel\":\"") != NULL);
}

static void a_preamble_may_come_byte_by_byte(void) {
	uint8_t nonce[NONCE_BYTES] = {9}, preamble[PREAMBLE_BYTES], answer[PREAMBLE_BYTES];
	int fd = server_connect();
	preamble_put(preamble, nonce);
	for (size_t i = 0; i < sizeof preamble; i++) CHECK(send(fd, preamble + i, 1, 0) == 1);
	CHECK(recv(fd, answer, sizeof answer, MSG_WAITALL) == (ssize_t)sizeof answer);
	CHECK(memcmp(answer, preamble, sizeof answer) == 0);
	close(fd);
}

static void next_host_is_served_after_the_first(void) {
	struct client first, second;
	client_open(&first);
	int waiting = server_connect();
	client_close(&first);
	CHECK(client_greet(waiting, NULL, 0));
	second = (struct client){.fd = waiting};
	client_finish(&second, client_shell(&second, 0, "exit 2"), true, &outcome);
	CHECK_NUMBER(outcome.value, 2);
	client_close(&second);
}

static void raw_frame(struct client *client, uint32_t length, uint8_t type, uint8_t channel, uint16_t reserved, uint32_t stream) {
	uint8_t header[HEADER_BYTES];
	static const uint8_t zeros[MAX_PAYLOAD_BYTES + 1];
	put_u32(header, length);
	header[4] = type;
	header[5] = channel;
	put_u16(header + 6, reserved);
	put_u32(header + 8, stream);
	send(client->fd, header, sizeof header, MSG_NOSIGNAL);
	if (length > 0 && length <= sizeof zeros) send(client->fd, zeros, length, MSG_NOSIGNAL);
}

static void violations_end_the_session(void) {
	static const struct {
		uint32_t length;
		uint8_t type, channel;
		uint16_t reserved;
		uint32_t stream;
	} frames[] = {
		{0, 0, 0, 0, 1},  {0, 10, 0, 0, 1}, {0, 255, 0, 0, 1},
		/* HELLO and CLOSE go the other way. */
		{2, 1, 0, 0, 0}, {5, 9, 0, 0, 1},
		{1, FRAME_OPEN, 0, 1, 1}, {1, FRAME_OPEN, 1, 0, 1}, {0, FRAME_OPEN, 0, 0, 1}, {1, FRAME_OPEN, 0, 0, 0},
		{MAX_OPEN_PAYLOAD_BYTES + 1, FRAME_OPEN, 0, 0, 1},
		{0, FRAME_DATA, 0, 0, 1}, {1, FRAME_DATA, 1, 0, 1}, {MAX_PAYLOAD_BYTES + 1, FRAME_DATA, 0, 0, 1},
		{1, FRAME_EOF, 0, 0, 1}, {0, FRAME_EOF, 2, 0, 1},
		{4, FRAME_WINDOW, 0, 0, 1}, {3, FRAME_WINDOW, 1, 0, 1}, {4, FRAME_WINDOW, 3, 0, 1},
		{5, FRAME_SIGNAL, 0, 0, 1}, {4, FRAME_SIGNAL, 1, 0, 1},
		{2, FRAME_RESIZE, 0, 0, 1}, {1, FRAME_RESET, 0, 0, 1},
		{0xFFFFFFFF, 0xFF, 0xFF, 0xFFFF, 0xFFFFFFFF},
	};
	for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
		struct client client;
		client_open(&client);
		raw_frame(&client, frames[i].length, frames[i].type, frames[i].channel, frames[i].reserved, frames[i].stream);
		if (!client_is_hung_up_on(&client)) printf("  frame %zu was accepted\n", i);
		CHECK(client_is_hung_up_on(&client));
		client_close(&client);
	}
}

static void stream_numbers_are_used_once_and_rise(void) {
	static const uint32_t seconds[] = {5, 4};
	for (int i = 0; i < 2; i++) {
		struct client client;
		client_open(&client);
		client.last_id = 4;
		client_finish(&client, client_shell(&client, 0, "true"), true, &outcome);
		CHECK(outcome.closed);
		client.last_id = seconds[i] - 1;
		client_shell(&client, 0, "true");
		CHECK(client_is_hung_up_on(&client));
		client_close(&client);
	}
}

static void data_over_the_credit_ends_the_session(void) {
	static const uint8_t block[MAX_PAYLOAD_BYTES];
	struct client client;
	client_open(&client);
	uint32_t id = client_open_operation(&client, OPERATION_EXEC, NULL);
	client_finish(&client, id, true, &outcome);
	id = client_shell(&client, EXEC_STDIN, "exec sleep 1000");
	/* More than the window and anything a pipe may take. */
	for (int i = 0; i < 64; i++) client_send(&client, FRAME_DATA, 0, id, block, sizeof block);
	CHECK(client_is_hung_up_on(&client));
	client_close(&client);
}

static void credit_over_two_gigabytes_ends_the_session(void) {
	struct client client;
	client_open(&client);
	uint32_t id = client_shell(&client, 0, "exec sleep 1000");
	client_send_u32(&client, FRAME_WINDOW, 1, id, MAX_CREDIT_BYTES - INITIAL_WINDOW_BYTES);
	client_finish(&client, client_shell(&client, 0, "exit 3"), true, &outcome);
	CHECK_NUMBER(outcome.value, 3);
	client_send_u32(&client, FRAME_WINDOW, 1, id, 1);
	CHECK(client_is_hung_up_on(&client));
	client_close(&client);
}

static void open_streams_are_limited(void) {
	struct client client;
	uint16_t port;
	/* Connections that nobody accepts: the cheapest streams that stay open. */
	int listener = listen_on_loopback(MAX_STREAMS, &port);
	CHECK(listener >= 0);
	struct packet *target = connect_packet("127.0.0.1", port);
	client_open(&client);
	uint32_t first = client_shell(&client, EXEC_STDIN, "read line");
	for (int i = 1; i < MAX_STREAMS; i++) client_open_operation(&client, OPERATION_CONNECT, target);
	uint32_t id = client_shell(&client, 0, "true");
	client_finish(&client, id, true, &outcome);
	CHECK_NUMBER(outcome.kind, CLOSE_FAILED);
	CHECK_NUMBER(outcome.value, EMFILE);
	/* One ends, and there is room again. */
	client_send(&client, FRAME_EOF, 0, first, NULL, 0);
	client_finish(&client, first, true, &outcome);
	CHECK_NUMBER(outcome.kind, CLOSE_DONE);
	client_finish(&client, client_shell(&client, 0, "exit 8"), true, &outcome);
	CHECK_NUMBER(outcome.value, 8);
	client_close(&client);
	close(listener);
}

static void operation(uint8_t number, const struct packet *parameters) {
	struct client client;
	client_open(&client);
	client_finish(&client, client_open_operation(&client, number, parameters), true, &outcome);
	client_close(&client);
}

static void wrong_parameters_are_bad_requests(void) {
	static struct packet packet;
	static const uint8_t operations[] = {OPERATION_EXEC, OPERATION_HEALTH, OPERATION_PORTS, OPERATION_SYNC, 0, 77};
	packet.length = 0;
	packet_u32(&packet, 0xFFFFFFFF);
	for (size_t i = 0; i < sizeof operations; i++) {
		operation(operations[i], &packet);
		CHECK_NUMBER(outcome.kind, CLOSE_FAILED);
		CHECK_NUMBER(outcome.value, EINVAL);
		CHECK(strncmp(outcome.text, "bad-request:", 12) == 0);
	}
}

static void health_is_an_object(void) {
	operation(OPERATION_HEALTH, NULL);
	CHECK_NUMBER(outcome.kind, CLOSE_DONE);
	const char *json = outcome.output[1];
	static const char *const keys[] = {"uptimeMs", "bootId", "memoryTotalKib", "memoryAvailableKib", "load1", "processes",
		"diskTotalBytes", "diskFreeBytes", "init", "configured", "idle", "leases"};
	CHECK(json[0] == '{' && json[strlen(json) - 1] == '}');
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) CHECK(strstr(json, keys[i]) != NULL);
}

static bool is_idle(struct client *client) {
	client_finish(client, client_open_operation(client, OPERATION_HEALTH, NULL), true, &outcome);
	return strstr(outcome.output[1], "\"idle\":true,") != NULL;
}

static void a_machine_with_work_under_way_is_not_idle(void) {
	struct server server;
	struct client client = {.fd = server_start_port(&server)};
	CHECK(client_greet(client.fd, NULL, 0));
	CHECK(is_idle(&client));
	/* A program that ignores the hangup, and outlives its stream by the time it gets to end. */
	uint32_t id = client_shell(&client, 0, "trap '' HUP; echo ready; while :; do sleep 0.1; done");
	CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA);
	CHECK(!is_idle(&client));
	client_send(&client, FRAME_RESET, 0, id, NULL, 0);
	CHECK(!is_idle(&client));
	for (int i = 0; i < 1000 && !is_idle(&client); i++) usleep(10000);
	CHECK(is_idle(&client));
	uint16_t port;
	int listener = listen_on_loopback(1, &port);
	CHECK(listener >= 0);
	id = client_open_operation(&client, OPERATION_CONNECT, connect_packet("", port));
	int peer = accept(listener, NULL, NULL);
	CHECK(peer >= 0);
	CHECK(!is_idle(&client));
	client_send(&client, FRAME_RESET, 0, id, NULL, 0);
	CHECK(is_idle(&client));
	close(peer);
	close(listener);
	client_close(&client);
	CHECK(server_stop(&server));
}

static void ports_lists_a_listener(void) {
	char line[64];
	struct client client;
	client_open(&client);
	uint32_t id = client_shell(&client, EXEC_STDIN,
		"exec python3 -c 'import socket,sys; s=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(); "
		"print(s.getsockname()[1], flush=True); sys.stdin.read()'");
	CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA);
	snprintf(line, sizeof line, "\"address\":\"127.0.0.1\",\"port\":%d,\"pid\":", atoi((char *)frame.payload));
	client_finish(&client, client_open_operation(&client, OPERATION_PORTS, NULL), true, &outcome);
	client_send(&client, FRAME_EOF, 0, id, NULL, 0);
	client_close(&client);
	CHECK_NUMBER(outcome.kind, CLOSE_DONE);
	CHECK(strstr(outcome.output[1], line) != NULL);
	CHECK(strstr(outcome.output[1], "\"process\":\"python3") != NULL);
}

static void the_harness_changes_no_machine(void) {
	static const uint8_t operations[] = {
		OPERATION_CONFIGURE, OPERATION_CLOCK, OPERATION_RESEED, OPERATION_POWEROFF, OPERATION_MOUNT,
		OPERATION_PREPARE_COPIES};
	for (size_t i = 0; i < sizeof operations; i++) {
		operation(operations[i], NULL);
		CHECK_NUMBER(outcome.kind, CLOSE_FAILED);
		CHECK(strncmp(outcome.text, "unsupported:", 12) == 0);
	}
}

static void a_port_says_farewell_and_begins_anew(void) {
	struct server server;
	struct client client = {.fd = server_start_port(&server)};
	CHECK(client_greet(client.fd, NULL, 0));
	client_shell(&client, 0, "exec sleep 1000");
	raw_frame(&client, 0, 99, 0, 0, 1);
	uint8_t farewell[HEADER_BYTES];
	CHECK(recv(client.fd, farewell, sizeof farewell, MSG_WAITALL) == (ssize_t)sizeof farewell);
	for (size_t i = 0; i < sizeof farewell; i++) CHECK_NUMBER(farewell[i], 0xFF);
	CHECK(client_greet(client.fd, NULL, 0));
	client.last_id = 0;
	client_finish(&client, client_shell(&client, 0, "exit 4"), true, &outcome);
	CHECK_NUMBER(outcome.value, 4);
	/* A new host without any sign that the old one went. */
	CHECK(client_greet(client.fd, NULL, 0));
	client_close(&client);
	CHECK(server_stop(&server));
}

/* The old host dies `missing` bytes before the end of a frame, and the port tells nobody. */
static void greet_after_half_a_frame(uint32_t missing) {
	struct server server;
	struct client client = {.fd = server_start_port(&server)};
	static const uint8_t bytes[1000];
	uint8_t header[HEADER_BYTES];
	CHECK(client_greet(client.fd, NULL, 0));
	uint32_t id = client_shell(&client, EXEC_STDIN, "exec cat");
	frame_put_header(header, FRAME_DATA, CHANNEL_STDIN, id, sizeof bytes);
	CHECK(send(client.fd, header, sizeof header, 0) == (ssize_t)sizeof header);
	CHECK(send(client.fd, bytes, sizeof bytes - missing, 0) == (ssize_t)(sizeof bytes - missing));
	CHECK(client_greet(client.fd, NULL, 0));
	client.last_id = 0;
	client_finish(&client, client_shell(&client, 0, "exit 4"), true, &outcome);
	CHECK_NUMBER(outcome.value, 4);
	client_close(&client);
	CHECK(server_stop(&server));
}

static void a_preamble_swallowed_by_half_a_frame_is_found(void) {
	/* Not 32: a preamble that completes the frame exactly is data, and the host has to try once more. */
	static const uint32_t missing[] = {1000, 500, 33, 31, 25, 21, 20, 19, 12, 8, 1};
	for (size_t i = 0; i < sizeof missing / sizeof missing[0] && !check_has_failed(); i++) greet_after_half_a_frame(missing[i]);
}

/* Data may look like a preamble, also at the end of a frame and also in two halves without a pause. */
static void data_like_a_preamble_is_data(void) {
	struct server server;
	struct client client = {.fd = server_start_port(&server)};
	uint8_t preamble[PREAMBLE_BYTES], nonce[NONCE_BYTES] = {1};
	preamble_put(preamble, nonce);
	CHECK(client_greet(client.fd, NULL, 0));
	uint32_t id = client_shell(&client, EXEC_STDIN, "wc -c; sleep 0.5");
	client_send(&client, FRAME_DATA, 0, id, preamble, sizeof preamble);
	usleep(300000);
	uint8_t header[HEADER_BYTES];
	frame_put_header(header, FRAME_DATA, CHANNEL_STDIN, id, 2 * sizeof preamble);
	CHECK(send(client.fd, header, sizeof header, 0) > 0 && send(client.fd, preamble, sizeof preamble, 0) > 0);
	usleep(10000);
	CHECK(send(client.fd, preamble, sizeof preamble, 0) > 0);
	client_send(&client, FRAME_EOF, 0, id, NULL, 0);
	client_finish(&client, id, true, &outcome);
	CHECK(strcmp(outcome.output[1], "96\n") == 0);
	client_close(&client);
	CHECK(server_stop(&server));
}

static void a_host_that_reads_nothing_costs_bounded_memory(void) {
	struct client client;
	client_open(&client);
	uint8_t header[HEADER_BYTES + 1];
	header[HEADER_BYTES] = 99;
	/* Far more answers than the sockets and the queue hold: the server must stop reading, and we notice. */
	uint32_t sent = 0;
	for (; sent < 1000000; sent++) {
		frame_put_header(header, FRAME_OPEN, 0, sent + 1, 1);
		if (send(client.fd, header, sizeof header, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof header) {
			usleep(20000);
			if (send(client.fd, header, sizeof header, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof header) break;
		}
	}
	CHECK(sent > 100 && sent < 1000000);
	/* Once read, every answer is there. */
	for (uint32_t i = 0; i < sent; i++) {
		CHECK(client_receive(&client, &frame) && frame.type == FRAME_CLOSE);
		CHECK_NUMBER(frame.stream, i + 1);
	}
	client_close(&client);
}

const struct test protocol_tests[] = {
	TEST(hello_follows_leftovers_and_preamble),
	TEST(a_preamble_may_come_byte_by_byte),
	TEST(next_host_is_served_after_the_first),
	TEST(violations_end_the_session),
	TEST(stream_numbers_are_used_once_and_rise),
	TEST(data_over_the_credit_ends_the_session),
	TEST(credit_over_two_gigabytes_ends_the_session),
	TEST(open_streams_are_limited),
	TEST(wrong_parameters_are_bad_requests),
	TEST(health_is_an_object),
	TEST(a_machine_with_work_under_way_is_not_idle),
	TEST(ports_lists_a_listener),
	TEST(the_harness_changes_no_machine),
	TEST(a_port_says_farewell_and_begins_anew),
	TEST(a_preamble_swallowed_by_half_a_frame_is_found),
	TEST(data_like_a_preamble_is_data),
	TEST(a_host_that_reads_nothing_costs_bounded_memory),
	{NULL, NULL},
};
