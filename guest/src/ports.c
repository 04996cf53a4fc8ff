#include "ports.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

#define MAX_TABLE_BYTES (8 * 1024 * 1024)
#define MAX_PROCESSES 32768
#define MAX_DESCRIPTORS 65536
/* Socket states of include/net/tcp_states.h: a UDP socket that is bound and not connected is in CLOSE. */
#define STATE_LISTEN 0x0A
#define STATE_CLOSE 0x07

/* The table prints an address as 32-bit words of host order. Returns false when the text is something else. */
static bool parse_address(const char *text, size_t length, uint8_t *address) {
	for (size_t i = 0; i < length; i += 8) {
		char word[9];
		char *end;
		memcpy(word, text + i, 8);
		word[8] = 0;
		uint32_t value = (uint32_t)strtoul(word, &end, 16);
		if (end != word + 8) return false;
		memcpy(address + i / 2, &value, sizeof value);
	}
	return true;
}

/* One line: `sl: local:port remote:port state queues timer retransmits uid timeout inode …`. */
static bool parse_line(const char *line, bool udp, bool ipv6, struct port *port) {
	char local[33], remote[33];
	unsigned local_port, remote_port, state;
	unsigned long long inode;
	int fields = sscanf(line, " %*u: %32[0-9A-Fa-f]:%4x %32[0-9A-Fa-f]:%4x %2x %*s %*s %*s %*s %*s %llu", local, &local_port,
		remote, &remote_port, &state, &inode);
	if (fields != 6 || state != (udp ? STATE_CLOSE : STATE_LISTEN)) return false;
	size_t length = ipv6 ? 32 : 8;
	*port = (struct port){.udp = udp, .ipv6 = ipv6, .number = (uint16_t)local_port, .inode = inode};
	return strlen(local) == length && parse_address(local, length, port->address);
}

size_t ports_parse(const char *table, bool udp, bool ipv6, struct port *ports, size_t count) {
	for (const char *line = strchr(table, '\n'); line != NULL && count < MAX_PORTS; line = strchr(line + 1, '\n')) {
		char copy[256];
		size_t length = strcspn(line + 1, "\n");
		if (length >= sizeof copy) continue;
		memcpy(copy, line + 1, length);
		copy[length] = 0;
		if (parse_line(copy, udp, ipv6, &ports[count])) count++;
	}
	return count;
}

static size_t parse_table(const char *path, bool udp, bool ipv6, struct port *ports, size_t count) {
	char *table = file_load(path, MAX_TABLE_BYTES);
	if (table == NULL) return count;
	count = ports_parse(table, udp, ipv6, ports, count);
	free(table);
	return count;
}

static int by_inode(const void *one, const void *other) {
	uint64_t a = ((const struct port *)one)->inode;
	uint64_t b = ((const struct port *)other)->inode;
	return a < b ? -1 : a > b;
}

/* Marks the port with this inode (there may be none). Returns how many were newly marked. */
static size_t mark_owner(struct port *ports, size_t count, uint64_t inode, pid_t pid) {
	struct port key = {.inode = inode};
	struct port *found = bsearch(&key, ports, count, sizeof *ports, by_inode);
	/* Sockets handed over at a fork have several owners: the first one met is shown. */
	if (found == NULL || found->pid != 0) return 0;
	found->pid = pid;
	return 1;
}

static size_t mark_process(struct port *ports, size_t count, pid_t pid) {
	char path[64];
	size_t marked = 0;
	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	DIR *directory = opendir(path);
	if (directory == NULL) return 0;
	struct dirent *entry;
	for (int seen = 0; seen < MAX_DESCRIPTORS && (entry = readdir(directory)) != NULL; seen++) {
		char target[64];
		unsigned long long inode;
		ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
		if (length <= 0) continue;
		target[length] = 0;
		if (sscanf(target, "socket:[%llu]", &inode) == 1) marked += mark_owner(ports, count, inode, pid);
	}
	closedir(directory);
	return marked;
}

static void find_owners(struct port *ports, size_t count) {
	DIR *directory = opendir("/proc");
	if (directory == NULL) return;
	struct dirent *entry;
	size_t unknown = count;
	for (int seen = 0; unknown > 0 && seen < MAX_PROCESSES && (entry = readdir(directory)) != NULL; seen++) {
		char *end;
		long pid = strtol(entry->d_name, &end, 10);
		if (pid > 0 && *end == 0) unknown -= mark_process(ports, count, (pid_t)pid);
	}
	closedir(directory);
}

static void report_port(struct textbuf *text, const struct port *port) {
	char address[INET6_ADDRSTRLEN];
	if (inet_ntop(port->ipv6 ? AF_INET6 : AF_INET, port->address, address, sizeof address) == NULL) address[0] = 0;
	textbuf_add(text, "{\"protocol\":\"%s\",\"address\":\"%s\",\"port\":%u", port->udp ? "udp" : "tcp", address, port->number);
	char path[64], name[64];
	snprintf(path, sizeof path, "/proc/%d/comm", port->pid);
	if (port->pid == 0 || file_read(path, name, sizeof name) <= 0) {
		textbuf_add(text, ",\"pid\":null,\"process\":null}");
		return;
	}
	name[strcspn(name, "\n")] = 0;
	textbuf_add(text, ",\"pid\":%d,\"process\":", port->pid);
	textbuf_add_json_string(text, name);
	textbuf_add(text, "}");
}

void ports_report(struct textbuf *text) {
	struct port *ports = calloc(MAX_PORTS, sizeof *ports);
	if (ports == NULL) {
		text->failed = true;
		return;
	}
	size_t count = parse_table("/proc/net/tcp", false, false, ports, 0);
	count = parse_table("/proc/net/tcp6", false, true, ports, count);
	count = parse_table("/proc/net/udp", true, false, ports, count);
	count = parse_table("/proc/net/udp6", true, true, ports, count);
	qsort(ports, count, sizeof *ports, by_inode);
	if (count > 0) find_owners(ports, count);
	textbuf_add(text, "[");
	for (size_t i = 0; i < count; i++) {
		if (i > 0) textbuf_add(text, ",");
		report_port(text, &ports[i]);
	}
	textbuf_add(text, "]");
	free(ports);
}
