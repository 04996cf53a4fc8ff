/* The guest's one network interface. */
#ifndef BANGER_NETWORK_H
#define BANGER_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

/* Parses `a.b.c.d/len` into numbers of network order. */
bool network_parse_address(const char *text, uint32_t *address, uint32_t *netmask);
/* Brings `lo` up. Returns 0 or an errno. */
int network_loopback_up(void);
/*
 * Gives the first interface of a device an address (`a.b.c.d/len`) and a default route (empty gateway: none), replacing
 * what it had. Returns 0, EINVAL for a wrong form, ENODEV without an interface, or another errno.
 */
int network_configure(const char *address, const char *gateway);

#endif
