#include "devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "file.h"

#define WITHIN_MS 10000
#define POLL_NS 1000000

/* Opens the port of our name. Returns -1 when there is none (yet). */
static int open_port(void) {
	DIR *directory = opendir("/sys/class/virtio-ports");
	if (directory == NULL) return -1;
	int fd = -1;
	struct dirent *entry;
	while (fd < 0 && (entry = readdir(directory)) != NULL) {
		char path[300], name[64];
		if (entry->d_name[0] == '.') continue;
		snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
		if (file_read(path, name, sizeof name) <= 0) continue;
		name[strcspn(name, "\n")] = 0;
		if (strcmp(name, CHANNEL_PORT_NAME) != 0) continue;
		snprintf(path, sizeof path, "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	}
	closedir(directory);
	return fd;
}

static int listen_on_vsock(void) {
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = CHANNEL_VSOCK_PORT};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) return -1;
	if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 8) == 0) return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* Whether the machine has a virtio console, whose port then appears sooner or later. */
static bool has_console_device(void) {
	DIR *directory = opendir("/sys/bus/virtio/devices");
	if (directory == NULL) return false;
	bool found = false;
	struct dirent *entry;
	while (!found && (entry = readdir(directory)) != NULL) {
		char path[300], id[16];
		if (entry->d_name[0] == '.') continue;
		snprintf(path, sizeof path, "/sys/bus/virtio/devices/%s/device", entry->d_name);
		/* Device ids: virtio 1.2, section 5; 3 is a console. */
		found = file_read(path, id, sizeof id) > 0 && strncmp(id, "0x0003", 6) == 0;
	}
	closedir(directory);
	return found;
}

int devices_serve(void) {
	struct timespec pause = {.tv_nsec = POLL_NS};
	for (int waited_ms = 0; waited_ms < WITHIN_MS; waited_ms++) {
		int fd = open_port();
		if (fd >= 0) {
			channel_serve_port(fd);
			return 0;
		}
		if (access("/dev/vsock", F_OK) == 0 && !has_console_device()) {
			fd = listen_on_vsock();
			return fd < 0 ? errno : channel_serve_listener(fd);
		}
		nanosleep(&pause, NULL);
	}
	return ENODEV;
}
