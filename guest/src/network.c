#include "network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"

bool network_parse_address(const char *text, uint32_t *address, uint32_t *netmask) {
	char part[INET_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	if (slash == NULL || (size_t)(slash - text) >= sizeof part) return false;
	memcpy(part, text, (size_t)(slash - text));
	part[slash - text] = 0;
	size_t digits = strspn(slash + 1, "0123456789");
	if (digits < 1 || digits > 2 || slash[1 + digits] != 0) return false;
	int length = atoi(slash + 1);
	if (length < 1 || length > 32) return false;
	*netmask = htonl(UINT32_MAX << (32 - length));
	return inet_pton(AF_INET, part, address) == 1;
}

static void set_address(struct sockaddr *target, uint32_t address) {
	struct sockaddr_in value = {.sin_family = AF_INET, .sin_addr.s_addr = address};
	memcpy(target, &value, sizeof value);
}

static int bring_up(int fd, struct ifreq *request) {
	if (control(fd, SIOCGIFFLAGS, request) != 0) return errno;
	if ((request->ifr_flags & IFF_UP) != 0) return 0;
	request->ifr_flags = (short)(request->ifr_flags | IFF_UP | IFF_RUNNING);
	return control(fd, SIOCSIFFLAGS, request) == 0 ? 0 : errno;
}

int network_loopback_up(void) {
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) return errno;
	int error = bring_up(fd, &request);
	close(fd);
	return error;
}

/* The interface of a device (bridges and tunnels have none) with the smallest index. */
static bool find_interface(char name[IFNAMSIZ]) {
	DIR *directory = opendir("/sys/class/net");
	if (directory == NULL) return false;
	unsigned best = 0;
	struct dirent *entry;
	while ((entry = readdir(directory)) != NULL) {
		char path[300];
		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IFNAMSIZ) continue;
		snprintf(path, sizeof path, "/sys/class/net/%s/device", entry->d_name);
		unsigned index = if_nametoindex(entry->d_name);
		if (access(path, F_OK) != 0 || index == 0 || (best != 0 && index > best)) continue;
		best = index;
		strcpy(name, entry->d_name);
	}
	closedir(directory);
	return best != 0;
}

static int replace_default_route(int fd, char *interface, uint32_t gateway) {
	struct rtentry route = {.rt_flags = RTF_UP};
	set_address(&route.rt_dst, 0);
	set_address(&route.rt_genmask, 0);
	set_address(&route.rt_gateway, 0);
	/* Bounded: each call removes one default route. */
	for (int i = 0; i < 16 && control(fd, SIOCDELRT, &route) == 0; i++) continue;
	if (gateway == 0) return 0;
	route.rt_flags = RTF_UP | RTF_GATEWAY;
	route.rt_dev = interface;
	set_address(&route.rt_gateway, gateway);
	if (control(fd, SIOCADDRT, &route) == 0 || errno == EEXIST) return 0;
	return errno;
}

static int configure_interface(int fd, char *name, uint32_t address, uint32_t netmask, uint32_t gateway) {
	struct ifreq request = {.ifr_flags = 0};
	strcpy(request.ifr_name, name);
	set_address(&request.ifr_addr, address);
	if (control(fd, SIOCSIFADDR, &request) != 0) return errno;
	set_address(&request.ifr_netmask, netmask);
	if (control(fd, SIOCSIFNETMASK, &request) != 0) return errno;
	int error = bring_up(fd, &request);
	return error != 0 ? error : replace_default_route(fd, name, gateway);
}

int network_configure(const char *address_text, const char *gateway_text) {
	uint32_t address, netmask, gateway = 0;
	if (!network_parse_address(address_text, &address, &netmask)) return EINVAL;
	if (*gateway_text != 0 && inet_pton(AF_INET, gateway_text, &gateway) != 1) return EINVAL;
	char name[IFNAMSIZ];
	if (!find_interface(name)) return ENODEV;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) return errno;
	int error = configure_interface(fd, name, address, netmask, gateway);
	close(fd);
	return error;
}
