"""Talks to Limpid's prompt: sends a line, waits for text, always under the boot's time limit.

    with Console(machine, 60) as console:
        console.prompt()
        text = console.command("zones")
        console.off()
"""
import os
import re
import select
import subprocess

from machine import Boot, plain

PROMPT = re.compile(r"limpid> ")


class Lost(Exception):
    """What was waited for did not come; the text says what, and how the boot ended."""


class Console(Boot):
    def __init__(self, machine, seconds):
        machine.serial = "stdio"
        machine.check_host()
        super().__init__(machine, seconds, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
        self.raw = b""
        self.text = ""  # all that came, as plain text
        self.seen = 0   # up to here it has been waited for

    def send(self, line):
        """One line, as if typed."""
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the next expect() says it better

    def read(self, seconds):
        """Takes what comes within `seconds`. False at the end of the output."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            return True
        data = os.read(self.process.stdout.fileno(), 65536)
        self.raw += data
        self.text = plain(self.raw.decode("utf-8", "replace"))
        return bool(data)

    def expect(self, pattern):
        """The match of the next text that has not been waited for yet."""
        pattern = re.compile(pattern) if isinstance(pattern, str) else pattern
        alive = True
        while True:
            m = pattern.search(self.text, self.seen)
            if m:
                self.seen = m.end()
                return m
            if not alive:
                self.wait()
                word, sentence = self.ending()
                raise Lost(f"waited for '{pattern.pattern}', but {word}: {sentence}")
            if self.left() == 0.0:
                self.timed_out = True
                raise Lost(f"waited for '{pattern.pattern}' until the time limit")
            alive = self.read(min(self.left(), 0.5))

    def prompt(self):
        self.expect(PROMPT)

    def command(self, line):
        """Sends it and gives what was printed until the next prompt, its echo included."""
        start = self.seen
        self.send(line)
        self.prompt()
        return self.text[start:self.seen]

    def off(self):
        """Leaves; Lost unless that is with EXIT_PASS."""
        self.send("off")
        while self.left() and self.read(min(self.left(), 0.5)):
            pass
        self.wait()
        word, sentence = self.ending()
        if word != "pass":
            raise Lost(f"after `off`: {word}: {sentence}")
