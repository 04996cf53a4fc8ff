/* The network interface of a machine that becomes another, in a network namespace with a bridge in the place of the card. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/bytes.h"
#include "../src/control.h"
#include "../src/file.h"
#include "../src/loop.h"
#include "../src/network.h"
#include "check.h"
#include "fakes.h"

/* linux/sockios.h, which not every C library shows. */
#define ADD_BRIDGE 0x89a0

#define IPV6_DISABLED "/proc/sys/net/ipv6/conf/br0/disable_ipv6"

static bool has_mac(int fd, const uint8_t mac[MAC_BYTES]) {
	struct ifreq request = {.ifr_name = "br0"};
	return control(fd, SIOCGIFHWADDR, &request) == 0 && memcmp(request.ifr_hwaddr.sa_data, mac, MAC_BYTES) == 0;
}

static bool is_up(int fd) {
	struct ifreq request = {.ifr_name = "br0"};
	return control(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
}

/* A neighbour that only goes when it is flushed. */
static bool meet_neighbour(int fd, const char *address) {
	struct arpreq request = {.arp_flags = ATF_COM | ATF_PERM, .arp_dev = "br0"};
	struct sockaddr_in target = {.sin_family = AF_INET};
	inet_pton(AF_INET, address, &target.sin_addr);
	memcpy(&request.arp_pa, &target, sizeof target);
	request.arp_ha.sa_family = ARPHRD_ETHER;
	memcpy(request.arp_ha.sa_data, "\x02\0\0\0\0\x09", MAC_BYTES);
	return control(fd, SIOCSARP, &request) == 0 && file_has("/proc/net/arp", address);
}

/* Returns the line of what is wrong, or 0. */
static int make_interface_over(int fd) {
	static const uint8_t first[MAC_BYTES] = {0x52, 0x54, 0, 1, 2, 3}, second[MAC_BYTES] = {0x52, 0x54, 0, 1, 2, 0xfe};
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:03", "", "") == 0);
	EXPECT(has_mac(fd, first) && is_up(fd));
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:03", "10.9.1.2/24", "10.9.1.1") == 0);
	EXPECT(file_has("/proc/net/route", "br0\t00000000\t0101090A"));
	EXPECT(meet_neighbour(fd, "10.9.1.1"));
	/* Another MAC, while it is up; then the same one. */
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:FE", "10.9.2.2/24", "10.9.2.1") == 0);
	EXPECT(has_mac(fd, second) && is_up(fd) && !file_has("/proc/net/arp", "10.9.1.1"));
	EXPECT(file_has("/proc/net/route", "br0\t00000000\t0102090A") && !file_has("/proc/net/route", "0101090A"));
	EXPECT(meet_neighbour(fd, "10.9.2.1"));
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:fe", "", "") == 0);
	EXPECT(!file_has("/proc/net/arp", "10.9.2.1") && file_has("/proc/net/route", "br0\t00000000\t0102090A"));
	/* No way out any more. */
	EXPECT(network_configure_interface("br0", "", "10.9.2.2/24", "") == 0);
	EXPECT(has_mac(fd, second) && !file_has("/proc/net/route", "br0\t00000000"));
	/* It stays up with another MAC: routes are not lost. */
	EXPECT(network_configure_interface("br0", "", "10.9.2.2/24", "10.9.2.1") == 0);
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:03", "", "") == 0);
	EXPECT(has_mac(fd, first) && is_up(fd) && file_has("/proc/net/route", "br0\t00000000\t0102090A"));
	EXPECT(network_configure_interface("br0", "53:54:00:01:02:fe", "", "") == EINVAL);
	EXPECT(network_configure_interface("br1", "52:54:00:01:02:fe", "", "") == ENODEV);
	return 0;
}

/* fd00::1/64: linux/ipv6.h, which does not go with netinet/in.h, has this structure. */
static bool add_ipv6_address(void) {
	struct {
		struct in6_addr address;
		uint32_t prefix_length;
		int index;
	} request = {.address.s6_addr = {[0] = 0xfd, [15] = 1}, .prefix_length = 64, .index = (int)if_nametoindex("br0")};
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	bool added = fd >= 0 && control(fd, SIOCSIFADDR, &request) == 0;
	close(fd);
	return added;
}

/* One that was brought up before a freeze; br0 has no address. */
static int make_prepared_interface_over(int fd) {
	static const uint8_t mac[MAC_BYTES] = {0x52, 0x54, 0, 1, 2, 4};
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:03", "", "") == 0);
	struct ifreq request = {.ifr_name = "br0"};
	EXPECT(control(fd, SIOCSIFFLAGS, &request) == 0 && !is_up(fd));
	EXPECT(loop_start() == 0);
	network_prepare_interface("br0");
	EXPECT(is_up(fd) && file_has(IPV6_DISABLED, "1"));
	EXPECT(network_configure_interface("br0", "", "10.9.1.2/24", "10.9.1.1") == 0);
	/* It stays up: nothing of what it has is lost with its MAC. */
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:04", "", "") == 0);
	EXPECT(has_mac(fd, mac) && file_has("/proc/net/route", "br0\t00000000\t0101090A"));
	turn(900);
	EXPECT(file_has(IPV6_DISABLED, "1"));
	turn(200);
	EXPECT(file_has(IPV6_DISABLED, "0") && !timers_armed());
	/* Now it is an interface as any other. */
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:03", "", "") == 0);
	EXPECT(is_up(fd) && timers_armed());
	EXPECT(add_ipv6_address() && file_has("/proc/net/if_inet6", "fd00"));
	turn(900);
	EXPECT(file_has("/proc/net/if_inet6", "fd00"));
	/* What was made for the old MAC goes. */
	turn(200);
	EXPECT(!file_has("/proc/net/if_inet6", "fd00") && file_has(IPV6_DISABLED, "0") && !timers_armed());
	/* Where somebody has turned IPv6 off, it stays off. */
	EXPECT(file_write_text(IPV6_DISABLED, "1") == 0);
	EXPECT(network_configure_interface("br0", "52:54:00:01:02:04", "", "") == 0);
	turn(1100);
	EXPECT(file_has(IPV6_DISABLED, "1") && !timers_armed());
	return 0;
}

#define NO_NAMESPACE 255

static void in_a_namespace_with_a_bridge(int (*work)(int fd)) {
	int report[2], line = -1;
	CHECK(pipe(report) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		bool inside = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
		int fd = socket(AF_INET, SOCK_DGRAM, 0);
		if (!inside || control(fd, ADD_BRIDGE, "br0") != 0) _exit(NO_NAMESPACE);
		line = work(fd);
		_exit(write(report[1], &line, sizeof line) == (ssize_t)sizeof line ? 0 : 1);
	}
	int status = -1;
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	close(report[1]);
	ssize_t length = read(report[0], &line, sizeof line);
	close(report[0]);
	if (WEXITSTATUS(status) == NO_NAMESPACE) {
		printf("  not tested: no network namespace, or no bridge in it\n");
		return;
	}
	CHECK(length == (ssize_t)sizeof line);
	CHECK_NUMBER(line, 0);
}

static void interfaces_are_made_over(void) {
	in_a_namespace_with_a_bridge(make_interface_over);
}

static void a_prepared_interface_stays_up(void) {
	in_a_namespace_with_a_bridge(make_prepared_interface_over);
}

const struct test network_tests[] = {
	TEST(interfaces_are_made_over),
	TEST(a_prepared_interface_stays_up),
	{NULL, NULL},
};
