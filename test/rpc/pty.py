"""A terminal for a test: runs a program on a pseudo-terminal, driven by JSON lines.

in:  {"write": "text"}  {"resize": [rows, columns]}  {"modes": true}  {"signal": n}
out: {"pid": n}  {"out": "text"}  {"modes": {"canonical": bool, "echo": bool}}  {"exit": wait status as a shell shows it, "modes": ...}
"""
import fcntl, json, os, select, struct, sys, termios


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def modes(fd):
    flags = termios.tcgetattr(fd)[3]
    return {"canonical": bool(flags & termios.ICANON), "echo": bool(flags & termios.ECHO)}


def resize(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def obey(command, master, slave, pid):
    if "write" in command:
        os.write(master, command["write"].encode())
    if "resize" in command:
        resize(master, *command["resize"])
    if "signal" in command:
        os.kill(pid, command["signal"])
    if "modes" in command:
        say({"modes": modes(slave)})


def run(argv):
    master, slave = os.openpty()
    resize(master, 24, 80)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.close(master)
        os.close(slave)
        os.execvp(argv[0], argv)
    say({"pid": pid})
    control = b""
    done = 0
    while done == 0:
        ready, _, _ = select.select([master, 0], [], [], 0.01)
        if master in ready:
            say({"out": os.read(master, 65536).decode("utf-8", "replace")})
        if 0 in ready:
            got = os.read(0, 65536)
            if not got:
                os.kill(pid, 9)
            control += got
            *lines, control = control.split(b"\n")
            for line in lines:
                obey(json.loads(line), master, slave, pid)
        done, status = os.waitpid(pid, os.WNOHANG)
    while select.select([master], [], [], 0)[0]:
        say({"out": os.read(master, 65536).decode("utf-8", "replace")})
    code = os.waitstatus_to_exitcode(status)
    say({"exit": 128 - code if code < 0 else code, "modes": modes(slave)})


run(sys.argv[1:])
