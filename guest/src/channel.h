/* Where hosts connect: a virtio-serial port, or a listening socket (vsock; a unix socket in the test harness). */
#ifndef BANGER_CHANNEL_H
#define BANGER_CHANNEL_H

#include <stdbool.h>

#define CHANNEL_PORT_NAME "org.banger.agent.0"
#define CHANNEL_VSOCK_PORT 1024

/* Serves on a port that is open (nonblocking) and stays open. */
void channel_serve_port(int fd);
/* Serves one connection after another from a listening, nonblocking socket. Returns 0 or an errno. */
int channel_serve_listener(int fd);
/* Watches everything again after loop_restart. Returns 0 or an errno. */
int channel_rewatch(void);

#endif
