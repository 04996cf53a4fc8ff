#include "health.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "agent.h"
#include "file.h"
#include "idle.h"
#include "leases.h"

/* sysinfo(2) gives load averages as fixed-point numbers with 16 fractional bits. */
#define LOAD_ONE 65536.0

unsigned long long health_memory_available_kib(const char *meminfo) {
	static const char key[] = "MemAvailable:";
	const char *at = strstr(meminfo, key);
	return at == NULL ? 0 : strtoull(at + sizeof key - 1, NULL, 10);
}

static unsigned long long uptime_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
}

void health_report(struct textbuf *text) {
	struct sysinfo info;
	struct statvfs disk;
	char meminfo[4096];
	if (sysinfo(&info) != 0) memset(&info, 0, sizeof info);
	if (statvfs("/", &disk) != 0) memset(&disk, 0, sizeof disk);
	file_read("/proc/meminfo", meminfo, sizeof meminfo);
	unsigned long long block = disk.f_frsize;
	textbuf_add(text, "{\"uptimeMs\":%llu,\"bootId\":", uptime_ms());
	textbuf_add_json_string(text, agent.boot_id);
	textbuf_add(text, ",\"memoryTotalKib\":%llu,\"memoryAvailableKib\":%llu",
		(unsigned long long)info.totalram * info.mem_unit / 1024, health_memory_available_kib(meminfo));
	textbuf_add(text, ",\"load1\":%.2f,\"processes\":%u", (double)info.loads[0] / LOAD_ONE, (unsigned)info.procs);
	textbuf_add(text, ",\"diskTotalBytes\":%llu,\"diskFreeBytes\":%llu", block * disk.f_blocks, block * disk.f_bavail);
	textbuf_add(text, ",\"init\":\"%s\",\"configured\":%s,\"idle\":%s,\"leases\":%u}", agent.handed_over ? "systemd" : "agent",
		agent.configured ? "true" : "false", idle() ? "true" : "false", leases_held(LEASES_DIR));
}
