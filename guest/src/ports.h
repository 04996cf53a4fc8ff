/* PORTS: which sockets listen, and whose they are. */
#ifndef BANGER_PORTS_H
#define BANGER_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "textbuf.h"

#define MAX_PORTS 4096

struct port {
	bool udp;
	bool ipv6;
	/* In network order, as inet_ntop(3) takes it. */
	uint8_t address[16];
	uint16_t number;
	uint64_t inode;
	/* 0 while unknown. */
	pid_t pid;
};

/* Adds what listens according to a text of /proc/net/{tcp,tcp6,udp,udp6} (proc(5)), up to MAX_PORTS in all. Returns the new count. */
size_t ports_parse(const char *table, bool udp, bool ipv6, struct port *ports, size_t count);
/* The JSON array of docs/agent-protocol.md. */
void ports_report(struct textbuf *text);

#endif
