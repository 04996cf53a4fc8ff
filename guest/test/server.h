/* The session code in a process of its own. */
#ifndef BANGER_TEST_SERVER_H
#define BANGER_TEST_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct server {
	pid_t pid;
	/* Closing it makes the server end in an orderly way. */
	int lifeline;
};

/* Serves connections one after another; test_connect reaches it. */
void server_start_listening(struct server *server);
/* Serves on one end of a socket pair as if it were a virtio-serial port; returns the other end. */
int server_start_port(struct server *server);
/* Returns whether it ended with status 0: under a sanitizer, leaks make that false. */
bool server_stop(struct server *server);
/* How many descriptors the server has open. */
int server_descriptors(const struct server *server);
/* A fresh connection to the listening server. */
int server_connect(void);

/* The listening server all tests share. */
extern struct server shared_server;

#endif
