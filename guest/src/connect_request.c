#include "connect_request.h"

#include <arpa/inet.h>
#include <string.h>

static bool add_target(struct connect_request *request, const char *address, uint16_t port) {
	struct connect_target *target = &request->targets[request->count];
	memset(target, 0, sizeof *target);
	if (inet_pton(AF_INET, address, &target->address.v4.sin_addr) == 1) {
		target->address.v4.sin_family = AF_INET;
		target->address.v4.sin_port = htons(port);
		target->length = sizeof target->address.v4;
	} else if (inet_pton(AF_INET6, address, &target->address.v6.sin6_addr) == 1) {
		target->address.v6.sin6_family = AF_INET6;
		target->address.v6.sin6_port = htons(port);
		target->length = sizeof target->address.v6;
	} else {
		return false;
	}
	request->count++;
	return true;
}

bool connect_request_decode(struct reader *reader, struct connect_request *request) {
	char address[INET6_ADDRSTRLEN];
	request->count = 0;
	read_str_into(reader, address, sizeof address);
	uint16_t port = read_u16(reader);
	if (!reader_finished(reader) || port == 0) return false;
	if (address[0] != 0) return add_target(request, address, port);
	return add_target(request, "127.0.0.1", port) && add_target(request, "::1", port);
}
