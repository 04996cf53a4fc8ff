/* Pseudo terminals. */
#ifndef BANGER_TTY_H
#define BANGER_TTY_H

#include <stdint.h>
#include <sys/types.h>

/* Opens a pair: a nonblocking master, and a slave that belongs to `owner`. Returns 0 or an errno. */
int tty_open(uint16_t rows, uint16_t columns, uid_t owner, int *master, int *slave);
void tty_resize(int master, uint16_t rows, uint16_t columns);
/* The character that means end of file at this terminal, or -1 when it is in raw mode and none does. */
int tty_eof_character(int master);

#endif
