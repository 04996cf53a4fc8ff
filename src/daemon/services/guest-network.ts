/** Where guests have their addresses. */

/** Three octets: the Go program's default bridge network, so that its users find their addresses again. */
export const GUEST_PREFIX = '172.16.0';
