"""`make run`: boots Limpid for a person, or for a pipe.

With a terminal on standard input, the serial line is that terminal and the prompt is the end of
the story. Without one, the word `exit` makes the kernel leave by itself, there is a time limit,
and the exit status is 0 only if the kernel left with EXIT_PASS.
"""
import os
import subprocess
import sys
import termios
import threading

from machine import KERNEL_SPEAKS, Boot, Machine, flag, main_guard, number, plain, shell_line

LIMIT = 180  # seconds, for a run that nobody watches


class Transcript:
    """Copies the serial text, line by line as it comes. What firmware and GRUB draw before the
    kernel speaks is kept back; it is of interest only if the kernel never does."""

    def __init__(self):
        self.early = []
        self.kernel = False

    def copy(self, stream):
        for line in stream:
            text = plain(line.decode("utf-8", "replace"))
            if not self.kernel:
                self.early.append(text)
                self.kernel = KERNEL_SPEAKS in text
                if self.kernel:
                    text = text[text.index(KERNEL_SPEAKS):]
            if self.kernel:
                print(text, end="", flush=True)
        if not self.kernel:
            print("".join(self.early), end="", flush=True)


def interactive(machine):
    machine.serial = "terminal"
    saved = termios.tcgetattr(0)
    print("limpid: `off` at the prompt leaves; Ctrl-A X ends QEMU at once", flush=True)
    try:
        with Boot(machine, None) as boot:
            boot.wait()
            return boot.ending()
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)


def unattended(machine, seconds):
    machine.words = (machine.words + " console=plain exit").strip()
    with Boot(machine, seconds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as boot:
        reader = threading.Thread(target=Transcript().copy, args=(boot.process.stdout,),
                                  daemon=True)
        reader.start()
        boot.wait()
        reader.join(5)
        return boot.ending()


def main():
    machine = Machine.from_knobs()
    seconds = number("TIMEOUT", os.environ.get("TIMEOUT") or str(LIMIT), 1, 86400)
    dry = flag("DRYRUN", os.environ.get("DRYRUN", ""))
    flag("V", os.environ.get("V", ""))
    if "--check" in sys.argv:  # the knobs, before anything is built for them
        return 0
    if dry:
        if sys.stdin.isatty():
            machine.serial = "terminal"
        print(shell_line(machine.command()))
        return 0
    machine.check_host()
    if machine.gdb:
        print("limpid: the machine waits for `make gdb` in another terminal (port 1234)")
    if sys.stdin.isatty():
        word, sentence = interactive(machine)
    else:
        word, sentence = unattended(machine, seconds)
    if word != "pass":
        print(f"limpid: {word}: {sentence}", file=sys.stderr)
        return 1
    return 0


main_guard(main)
