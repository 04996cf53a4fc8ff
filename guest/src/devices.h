/* Finding the device that leads to the host. */
#ifndef BANGER_DEVICES_H
#define BANGER_DEVICES_H

/* Waits for the virtio-serial port or for vsock and serves on it. Returns 0, ENODEV when neither appears, or another errno. */
int devices_serve(void);

#endif
