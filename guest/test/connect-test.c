/* CONNECT, against a server process; this process is the other end of the connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/bytes.h"
#include "../src/operations.h"
#include "check.h"
#include "client.h"

static struct outcome outcome;
static struct received frame;
static const uint8_t block[MAX_PAYLOAD_BYTES];

/* A session, a stream of it, and the connection it stands for. */
struct scene {
	struct client client;
	uint32_t id;
	int listener, peer;
};

static bool scene_open(struct scene *scene) {
	struct timeval timeout = {.tv_sec = 20};
	uint16_t port;
	scene->listener = listen_on_loopback(8, &port);
	if (scene->listener < 0) return false;
	client_open(&scene->client);
	scene->id = client_open_operation(&scene->client, OPERATION_CONNECT, connect_packet("127.0.0.1", port));
	scene->peer = accept(scene->listener, NULL, NULL);
	if (scene->peer < 0) return false;
	setsockopt(scene->peer, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
	setsockopt(scene->peer, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	return true;
}

static void scene_close(struct scene *scene) {
	if (scene->peer >= 0) close(scene->peer);
	close(scene->listener);
	client_close(&scene->client);
}

/* Closes with a reset instead of an end. */
static void reset_peer(struct scene *scene) {
	struct linger at_once = {.l_onoff = 1, .l_linger = 0};
	setsockopt(scene->peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(scene->peer);
	scene->peer = -1;
}

static bool peer_hears(struct scene *scene, const char *text) {
	char heard[64] = "";
	size_t length = strlen(text);
	return recv(scene->peer, heard, length, MSG_WAITALL) == (ssize_t)length && memcmp(heard, text, length) == 0;
}

static bool peer_is_reset(struct scene *scene) {
	char byte;
	return recv(scene->peer, &byte, 1, 0) < 0 && errno == ECONNRESET;
}

static void an_answer_may_follow_the_end_of_the_question(void) {
	struct scene scene;
	char byte;
	CHECK(scene_open(&scene));
	client_send(&scene.client, FRAME_DATA, 0, scene.id, "question", 8);
	client_send(&scene.client, FRAME_EOF, 0, scene.id, NULL, 0);
	CHECK(peer_hears(&scene, "question"));
	CHECK_NUMBER(recv(scene.peer, &byte, 1, 0), 0);
	CHECK(send(scene.peer, "answer", 6, 0) == 6);
	close(scene.peer);
	scene.peer = -1;
	client_finish(&scene.client, scene.id, true, &outcome);
	CHECK_NUMBER(outcome.kind, CLOSE_DONE);
	CHECK_NUMBER(outcome.value, 0);
	CHECK(strcmp(outcome.output[1], "answer") == 0);
	scene_close(&scene);
}

static void the_other_end_may_end_first(void) {
	struct scene scene;
	char byte;
	CHECK(scene_open(&scene));
	CHECK(send(scene.peer, "hello", 5, 0) == 5);
	CHECK(client_receive(&scene.client, &frame) && frame.type == FRAME_DATA && frame.length == 5);
	shutdown(scene.peer, SHUT_WR);
	CHECK(client_receive(&scene.client, &frame));
	CHECK_NUMBER(frame.type, FRAME_EOF);
	CHECK_NUMBER(frame.channel, CHANNEL_STDOUT);
	client_send(&scene.client, FRAME_DATA, 0, scene.id, "still here", 10);
	CHECK(peer_hears(&scene, "still here"));
	client_send(&scene.client, FRAME_EOF, 0, scene.id, NULL, 0);
	CHECK_NUMBER(recv(scene.peer, &byte, 1, 0), 0);
	client_finish(&scene.client, scene.id, true, &outcome);
	CHECK_NUMBER(outcome.kind, CLOSE_DONE);
	scene_close(&scene);
}

static void connect_and_finish(const char *address, uint16_t port) {
	struct client client;
	client_open(&client);
	client_finish(&client, client_open_operation(&client, OPERATION_CONNECT, connect_packet(address, port)), true, &outcome);
	client_close(&client);
}

static void refused_and_unreachable_say_so(void) {
	uint16_t port;
	int listener = listen_on_loopback(1, &port);
	CHECK(listener >= 0);
	close(listener);
	static const char *const addresses[] = {"", "127.0.0.1"};
	for (size_t i = 0; i < 2; i++) {
		connect_and_finish(addresses[i], port);
		CHECK_NUMBER(outcome.kind, CLOSE_FAILED);
		CHECK_NUMBER(outcome.value, ECONNREFUSED);
		CHECK(strncmp(outcome.text, "connect: ", 9) == 0);
	}
	connect_and_finish("255.255.255.255", port);
	CHECK_NUMBER(outcome.kind, CLOSE_FAILED);
	CHECK(strncmp(outcome.text, "connect: ", 9) == 0);
	connect_and_finish("localhost", port);
	CHECK_NUMBER(outcome.value, EINVAL);
	CHECK(strncmp(outcome.text, "bad-request: ", 13) == 0);
}

static void a_server_on_the_other_loopback_is_found(void) {
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t length = sizeof address;
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* A machine without IPv6 has no such server either. */
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0) return;
	CHECK(listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0);
	struct client client;
	client_open(&client);
	uint32_t id = client_open_operation(&client, OPERATION_CONNECT, connect_packet("", ntohs(address.sin6_port)));
	/* Sent before it can be connected. */
	client_send(&client, FRAME_DATA, 0, id, "early", 5);
	struct scene scene = {.peer = accept(listener, NULL, NULL)};
	CHECK(scene.peer >= 0);
	CHECK(peer_hears(&scene, "early"));
	close(scene.peer);
	close(listener);
	client_close(&client);
}

static void a_reset_of_the_other_end_comes_after_its_bytes(void) {
	struct scene scene;
	CHECK(scene_open(&scene));
	CHECK(send(scene.peer, "last words", 10, 0) == 10);
	CHECK(client_receive(&scene.client, &frame) && frame.type == FRAME_DATA && frame.length == 10);
	reset_peer(&scene);
	client_finish(&scene.client, scene.id, true, &outcome);
	CHECK_NUMBER(outcome.kind, CLOSE_FAILED);
	CHECK_NUMBER(outcome.value, ECONNRESET);
	CHECK(strncmp(outcome.text, "connect: ", 9) == 0);
	scene_close(&scene);
}

static void a_reset_after_its_end_is_noticed(void) {
	struct scene scene;
	CHECK(scene_open(&scene));
	shutdown(scene.peer, SHUT_WR);
	CHECK(client_receive(&scene.client, &frame) && frame.type == FRAME_EOF);
	reset_peer(&scene);
	client_finish(&scene.client, scene.id, true, &outcome);
	CHECK_NUMBER(outcome.kind, CLOSE_FAILED);
	scene_close(&scene);
}

static void what_it_no_longer_reads_is_dropped_and_granted(void) {
	struct scene scene;
	size_t credit = INITIAL_WINDOW_BYTES;
	frame.type = FRAME_HELLO;
	CHECK(scene_open(&scene));
	reset_peer(&scene);
	for (size_t sent = 0; sent < 4 * INITIAL_WINDOW_BYTES && frame.type != FRAME_CLOSE; sent += sizeof block) {
		while (credit < sizeof block && frame.type != FRAME_CLOSE) {
			CHECK(client_receive(&scene.client, &frame));
			if (frame.type == FRAME_WINDOW) credit += get_u32(frame.payload);
		}
		CHECK(client_send(&scene.client, FRAME_DATA, 0, scene.id, block, sizeof block));
		credit -= sizeof block;
	}
	/* The session goes on. */
	client_finish(&scene.client, client_shell(&scene.client, 0, "exit 5"), true, &outcome);
	CHECK_NUMBER(outcome.value, 5);
	scene_close(&scene);
}

static void a_host_that_gives_up_resets_the_other_end(void) {
	struct scene scene;
	CHECK(scene_open(&scene));
	client_send(&scene.client, FRAME_RESET, 0, scene.id, NULL, 0);
	client_finish(&scene.client, scene.id, true, &outcome);
	CHECK_NUMBER(outcome.value, ECANCELED);
	CHECK(peer_is_reset(&scene));
	scene_close(&scene);
	CHECK(scene_open(&scene));
	client_close(&scene.client);
	CHECK(peer_is_reset(&scene));
	close(scene.peer);
	close(scene.listener);
}

static void one_that_is_still_connecting_can_be_given_up(void) {
	struct client client;
	uint16_t port;
	/* A full queue of connections leaves the next ones without an answer. */
	int listener = listen_on_loopback(0, &port);
	CHECK(listener >= 0);
	client_open(&client);
	uint32_t last = 0;
	for (int i = 0; i < 4; i++) {
		last = client_open_operation(&client, OPERATION_CONNECT, connect_packet("127.0.0.1", port));
		client_send(&client, FRAME_DATA, 0, last, block, sizeof block);
		client_send(&client, FRAME_EOF, 0, last, NULL, 0);
	}
	client_send(&client, FRAME_RESET, 0, last, NULL, 0);
	client_finish(&client, last, true, &outcome);
	CHECK_NUMBER(outcome.value, ECANCELED);
	client_close(&client);
	close(listener);
}

static pid_t echo_server(int listener) {
	pid_t pid = fork();
	if (pid != 0) return pid;
	static uint8_t bytes[50000];
	int peer = accept(listener, NULL, NULL);
	for (ssize_t count; (count = recv(peer, bytes, sizeof bytes, 0)) > 0;) {
		if (send(peer, bytes, (size_t)count, MSG_NOSIGNAL) != count) _exit(1);
	}
	_exit(0);
}

static void megabytes_pass_through_a_connection_unchanged(void) {
	struct client client;
	uint16_t port;
	uint64_t echoed_digest;
	size_t echoed = 0, total = 9 * 1000 * 1000 + 7;
	int status = -1, listener = listen_on_loopback(1, &port);
	CHECK(listener >= 0);
	pid_t echo = echo_server(listener);
	client_open(&client);
	uint32_t id = client_open_operation(&client, OPERATION_CONNECT, connect_packet("127.0.0.1", port));
	uint64_t digest = client_feed(&client, id, total, &echoed_digest, &echoed);
	while (client_receive(&client, &frame) && frame.type != FRAME_CLOSE) {
		if (frame.type != FRAME_DATA) continue;
		echoed += frame.length;
		echoed_digest = fnv(echoed_digest, frame.payload, frame.length);
		client_send_u32(&client, FRAME_WINDOW, frame.channel, id, frame.length);
	}
	CHECK_NUMBER(frame.type, FRAME_CLOSE);
	CHECK_NUMBER(frame.payload[0], CLOSE_DONE);
	CHECK_NUMBER(echoed, total);
	CHECK(echoed_digest == digest);
	client_close(&client);
	close(listener);
	CHECK(waitpid(echo, &status, 0) == echo && status == 0);
}

static void an_end_that_reads_nothing_gets_no_more_credit(void) {
	struct scene scene;
	static uint8_t heard[INITIAL_WINDOW_BYTES];
	CHECK(scene_open(&scene));
	for (size_t sent = 0; sent < INITIAL_WINDOW_BYTES; sent += sizeof block) {
		CHECK(client_send(&scene.client, FRAME_DATA, 0, scene.id, block, sizeof block));
	}
	client_finish(&scene.client, client_shell(&scene.client, 0, "exit 5"), true, &outcome);
	CHECK_NUMBER(outcome.value, 5);
	/* All of it arrives once somebody reads. */
	client_send(&scene.client, FRAME_EOF, 0, scene.id, NULL, 0);
	CHECK(recv(scene.peer, heard, sizeof heard, MSG_WAITALL) == (ssize_t)sizeof heard);
	CHECK_NUMBER(recv(scene.peer, heard, 1, 0), 0);
	scene_close(&scene);
}

static void a_slow_host_stalls_one_connection_only(void) {
	struct scene scene;
	size_t received = 0, total = INITIAL_WINDOW_BYTES + 100000;
	CHECK(scene_open(&scene));
	pid_t writer = fork();
	if (writer == 0) {
		static uint8_t bytes[INITIAL_WINDOW_BYTES + 100000];
		_exit(send(scene.peer, bytes, sizeof bytes, MSG_NOSIGNAL) == (ssize_t)sizeof bytes ? 0 : 1);
	}
	/* The other end of all has closed it by the time the credit is used up: that must not keep the agent busy either. */
	client_send(&scene.client, FRAME_EOF, 0, scene.id, NULL, 0);
	while (received < INITIAL_WINDOW_BYTES && client_receive(&scene.client, &frame)) {
		if (frame.type == FRAME_DATA) received += frame.length;
	}
	CHECK_NUMBER(received, INITIAL_WINDOW_BYTES);
	client_finish(&scene.client, client_shell(&scene.client, 0, "exit 6"), true, &outcome);
	CHECK_NUMBER(outcome.value, 6);
	close(scene.peer);
	scene.peer = -1;
	client_send_u32(&scene.client, FRAME_WINDOW, CHANNEL_STDOUT, scene.id, 1000);
	CHECK(client_receive(&scene.client, &frame) && frame.type == FRAME_DATA);
	CHECK_NUMBER(frame.length, 1000);
	client_send_u32(&scene.client, FRAME_WINDOW, CHANNEL_STDOUT, scene.id, 1000000);
	client_finish(&scene.client, scene.id, false, &outcome);
	CHECK_NUMBER(outcome.kind, CLOSE_DONE);
	CHECK_NUMBER(outcome.lengths[1] + received + 1000, total);
	int status = -1;
	CHECK(waitpid(writer, &status, 0) == writer && status == 0);
	scene_close(&scene);
}

const struct test connect_tests[] = {
	TEST(an_answer_may_follow_the_end_of_the_question),
	TEST(the_other_end_may_end_first),
	TEST(refused_and_unreachable_say_so),
	TEST(a_server_on_the_other_loopback_is_found),
	TEST(a_reset_of_the_other_end_comes_after_its_bytes),
	TEST(a_reset_after_its_end_is_noticed),
	TEST(what_it_no_longer_reads_is_dropped_and_granted),
	TEST(a_host_that_gives_up_resets_the_other_end),
	TEST(one_that_is_still_connecting_can_be_given_up),
	TEST(megabytes_pass_through_a_connection_unchanged),
	TEST(an_end_that_reads_nothing_gets_no_more_credit),
	TEST(a_slow_host_stalls_one_connection_only),
	{NULL, NULL},
};
