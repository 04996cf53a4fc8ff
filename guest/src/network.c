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
#include "file.h"
#include "loop.h"

/* A link-local address takes the kernel 10 ms under emulation, and cannot be used for its first second anyway. */
#define IPV6_AFTER_MS 1000
#define IPV6_PATH_BYTES 80

/* What was brought up before a freeze, without addresses, until it has got some. The index is 0 when there is nothing. */
static struct prepared {
	char name[IFNAMSIZ];
	unsigned index;
	int fd;
} prepared = {.fd = -1};

/* Has got another MAC while it was up: its link-local address of IPv6 is made from the old one. 0: none. */
static unsigned outdated_index;

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

static int hex_value(char digit) {
	if (digit >= '0' && digit <= '9') return digit - '0';
	if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
	return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

bool network_parse_mac(const char *text, uint8_t mac[MAC_BYTES]) {
	static const uint8_t zeros[MAC_BYTES];
	if (strlen(text) != MAC_BYTES * 3 - 1) return false;
	for (size_t i = 0; i < MAC_BYTES; i++) {
		int high = hex_value(text[i * 3]), low = hex_value(text[i * 3 + 1]);
		if (high < 0 || low < 0 || (i < MAC_BYTES - 1 && text[i * 3 + 2] != ':')) return false;
		mac[i] = (uint8_t)(high * 16 + low);
	}
	/* The lowest bit of the first byte marks a group. */
	return (mac[0] & 1) == 0 && memcmp(mac, zeros, MAC_BYTES) != 0;
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

static int set_flags(int fd, const char *name, bool up) {
	struct ifreq request = {.ifr_flags = 0};
	strcpy(request.ifr_name, name);
	if (up) return bring_up(fd, &request);
	if (control(fd, SIOCGIFFLAGS, &request) != 0) return errno;
	request.ifr_flags = (short)(request.ifr_flags & ~IFF_UP);
	return control(fd, SIOCSIFFLAGS, &request) == 0 ? 0 : errno;
}

static bool is_prepared(const char *name) {
	return prepared.index != 0 && strcmp(name, prepared.name) == 0;
}

static void ipv6_path(char path[IPV6_PATH_BYTES], const char *name) {
	snprintf(path, IPV6_PATH_BYTES, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
}

static bool set_ipv6(const char *name, bool enabled) {
	char path[IPV6_PATH_BYTES];
	ipv6_path(path, name);
	return file_write_text(path, enabled ? "0" : "1") == 0;
}

static bool has_ipv6(const char *name) {
	char path[IPV6_PATH_BYTES], text[4];
	ipv6_path(path, name);
	return file_read(path, text, sizeof text) > 0 && text[0] == '0';
}

static void begin_ipv6(const char *name) {
	set_ipv6(name, true);
}

static void renew_ipv6(const char *name) {
	if (has_ipv6(name) && set_ipv6(name, false)) set_ipv6(name, true);
}

/* By its index: who has taken PID 1 over may have given it another name. */
static void settle_ipv6(unsigned *index, void (*settle)(const char *name)) {
	char name[IFNAMSIZ];
	if (*index != 0 && if_indextoname(*index, name) != NULL) settle(name);
	*index = 0;
}

static void ipv6_due(struct timer *timer) {
	(void)timer;
	settle_ipv6(&prepared.index, begin_ipv6);
	settle_ipv6(&outdated_index, renew_ipv6);
	if (prepared.fd >= 0) close(prepared.fd);
	prepared.fd = -1;
}

static struct timer ipv6_timer = {.fired = ipv6_due};

void network_prepare_interface(const char *name) {
	bool knows_ipv6 = access("/proc/sys/net/ipv6", F_OK) == 0;
	int fd = prepared.index != 0 || strlen(name) >= IFNAMSIZ ? -1 : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) return;
	strcpy(prepared.name, name);
	if ((!knows_ipv6 || set_ipv6(name, false)) && set_flags(fd, name, true) == 0) prepared.index = if_nametoindex(name);
	if (prepared.index != 0) prepared.fd = fd;
	else close(fd);
}

void network_prepare(void) {
	char name[IFNAMSIZ];
	if (find_interface(name)) network_prepare_interface(name);
}

static int change_mac_while_down(int fd, struct ifreq *request) {
	int error = set_flags(fd, request->ifr_name, false);
	if (error != 0) return error;
	return control(fd, SIOCSIFHWADDR, request) == 0 ? 0 : errno;
}

/*
 * Setting a MAC makes the kernel forget the neighbours of the interface, also when it is the one it has. Taking the interface
 * down for it takes an emulated guest 40 ms, so that is only for drivers that ask for it. Whoever keeps the interface up gets
 * another link-local address of IPv6 later; one that was prepared has none yet.
 */
static int change_mac(int fd, const char *name, const uint8_t mac[MAC_BYTES]) {
	struct ifreq request = {.ifr_flags = 0};
	strcpy(request.ifr_name, name);
	if (control(fd, SIOCGIFHWADDR, &request) != 0) return errno;
	bool is_new = memcmp(request.ifr_hwaddr.sa_data, mac, MAC_BYTES) != 0;
	/* The address family stays the one just read. */
	memcpy(request.ifr_hwaddr.sa_data, mac, MAC_BYTES);
	if (control(fd, SIOCSIFHWADDR, &request) != 0) return errno == EBUSY ? change_mac_while_down(fd, &request) : errno;
	if (is_new && !is_prepared(name)) {
		outdated_index = if_nametoindex(name);
		timer_start(&ipv6_timer, IPV6_AFTER_MS);
	}
	return 0;
}

static int change_address(int fd, const char *name, uint32_t address, uint32_t netmask) {
	struct ifreq request = {.ifr_flags = 0};
	strcpy(request.ifr_name, name);
	set_address(&request.ifr_addr, address);
	if (control(fd, SIOCSIFADDR, &request) != 0) return errno;
	set_address(&request.ifr_netmask, netmask);
	return control(fd, SIOCSIFNETMASK, &request) == 0 ? 0 : errno;
}

struct plan {
	char name[IFNAMSIZ];
	bool has_mac, has_address;
	uint8_t mac[MAC_BYTES];
	uint32_t address, netmask, gateway;
};

static int carry_out(int fd, struct plan *plan) {
	int error = plan->has_mac ? change_mac(fd, plan->name, plan->mac) : 0;
	if (error == 0 && plan->has_address) error = change_address(fd, plan->name, plan->address, plan->netmask);
	if (error == 0) error = set_flags(fd, plan->name, true);
	if (error == 0 && plan->has_address) error = replace_default_route(fd, plan->name, plan->gateway);
	return error;
}

static int carry_out_prepared(struct plan *plan) {
	timer_start(&ipv6_timer, IPV6_AFTER_MS);
	return carry_out(prepared.fd, plan);
}

int network_configure_interface(const char *name, const char *mac, const char *address, const char *gateway) {
	struct plan plan = {.has_mac = *mac != 0, .has_address = *address != 0};
	if (strlen(name) >= sizeof plan.name) return EINVAL;
	strcpy(plan.name, name);
	if (plan.has_mac && !network_parse_mac(mac, plan.mac)) return EINVAL;
	if (plan.has_address && !network_parse_address(address, &plan.address, &plan.netmask)) return EINVAL;
	if (*gateway != 0 && inet_pton(AF_INET, gateway, &plan.gateway) != 1) return EINVAL;
	if (is_prepared(name)) return carry_out_prepared(&plan);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) return errno;
	int error = carry_out(fd, &plan);
	close(fd);
	return error;
}

int network_configure(const char *mac, const char *address, const char *gateway) {
	char name[IFNAMSIZ];
	if (*mac == 0 && *address == 0) return 0;
	if (prepared.index != 0) return network_configure_interface(prepared.name, mac, address, gateway);
	if (!find_interface(name)) return ENODEV;
	return network_configure_interface(name, mac, address, gateway);
}
