/* The guest's one network interface. */
#ifndef BANGER_NETWORK_H
#define BANGER_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#define MAC_BYTES 6

/* Parses `a.b.c.d/len` into numbers of network order. */
bool network_parse_address(const char *text, uint32_t *address, uint32_t *netmask);
/* Parses `52:54:00:12:34:56`; false also for a group address and for zeros. */
bool network_parse_mac(const char *text, uint8_t mac[MAC_BYTES]);
/* Brings `lo` up. Returns 0 or an errno. */
int network_loopback_up(void);
/*
 * Gives an interface a MAC, an address (`a.b.c.d/len`) and a default route (empty gateway: none), replacing what it had, and
 * forgets the neighbours it knew. Up or down before, it is up afterwards. With another MAC the addresses of IPv6 are made anew,
 * 1 s later where the interface can stay up. An empty MAC stays as it is; so does, when it
 * is empty, the address with its routes. Returns 0, EINVAL for a wrong form, or another errno.
 */
int network_configure_interface(const char *name, const char *mac, const char *address, const char *gateway);
/* The same for the first interface of a device; ENODEV without one. Nothing happens when all is empty. */
int network_configure(const char *mac, const char *address, const char *gateway);
/*
 * Brings an interface up in a machine that is to be frozen, without any address: not even a link-local one of IPv6, which
 * would be made from a MAC that every clone has. Configuring it then leaves it up, and IPv6 begins 1 s later. Best effort.
 */
void network_prepare_interface(const char *name);
/* The same for the first interface of a device. */
void network_prepare(void);

#endif
