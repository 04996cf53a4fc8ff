#include "operations.h"

#include <errno.h>

#include "agent.h"
#include "exec.h"
#include "session.h"

void operation_open(uint32_t id, const uint8_t *payload, uint32_t length) {
	struct reader reader;
	reader_init(&reader, payload + 1, length - 1);
	switch (payload[0]) {
		case OPERATION_EXEC: exec_open(id, &reader); return;
		default: session_refuse(id, EINVAL, "bad-request: unknown operation"); return;
	}
}
