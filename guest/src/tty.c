#include "tty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "control.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

void tty_resize(int master, uint16_t rows, uint16_t columns) {
	struct winsize size = {.ws_row = rows, .ws_col = columns};
	control(master, TIOCSWINSZ, &size);
}

int tty_eof_character(int master) {
	struct termios settings;
	if (tcgetattr(master, &settings) != 0 || (settings.c_lflag & ICANON) == 0) return -1;
	return settings.c_cc[VEOF];
}

static int open_slave(int master) {
	/* The one ioctl here whose argument is a number: the flags of open(2). */
	return (int)syscall(SYS_ioctl, master, (unsigned long)TIOCGPTPEER, (unsigned long)(O_RDWR | O_NOCTTY | O_CLOEXEC));
}

int tty_open(uint16_t rows, uint16_t columns, uid_t owner, int *master, int *slave) {
	*master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (*master < 0) return errno;
	int unlock = 0;
	*slave = -1;
	/* By ioctl, because the slave's path may mean something else after the image mounted its own /dev/pts. */
	if (control(*master, TIOCSPTLCK, &unlock) == 0) *slave = open_slave(*master);
	if (*slave < 0) {
		int error = errno;
		close(*master);
		return error;
	}
	if (rows != 0 && columns != 0) tty_resize(*master, rows, columns);
	/* Group unchanged: devpts gives it the tty group when mounted so. Without root it is ours already. */
	if (fchown(*slave, owner, (gid_t)-1) == 0) fchmod(*slave, 0620);
	return 0;
}
