/* The parameters of a CONNECT. */
#ifndef BANGER_CONNECT_REQUEST_H
#define BANGER_CONNECT_REQUEST_H

#include <stdbool.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "bytes.h"

/* Loopback is two addresses: a server may listen on either. */
#define MAX_CONNECT_TARGETS 2

struct connect_target {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} address;
	socklen_t length;
};

struct connect_request {
	/* To be tried in this order. */
	struct connect_target targets[MAX_CONNECT_TARGETS];
	unsigned count;
};

/* Decodes the payload behind the operation byte; false when anything about it is wrong. */
bool connect_request_decode(struct reader *reader, struct connect_request *request);

#endif
