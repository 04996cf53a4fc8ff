/* The machine's lasting id (machine-id(5)). */
#ifndef BANGER_MACHINE_ID_H
#define BANGER_MACHINE_ID_H

/* Terminator included. */
#define MACHINE_ID_CAPACITY 33

struct machine_id_paths {
	const char *systemd, *dbus;
};

/* /etc/machine-id and /var/lib/dbus/machine-id. */
extern const struct machine_id_paths machine_id_paths;

/*
 * Puts the id (32 lower-case hex digits) in place where it is not there already. The file of D-Bus is written only when it
 * is a file of its own: elsewhere it is a link to the other, or not there. Returns 0 or an errno.
 */
int machine_id_set(const struct machine_id_paths *paths, const char *id);

#endif
