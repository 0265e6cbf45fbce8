"""Answers, for one document after the other, whether libexpat accepts it and what it says.

Request on standard input: mode byte ("D" a whole document, "S" the beginning of one), length (4 bytes, big-endian),
document. Answer on standard output: length (4 bytes, big-endian), then "+" and the events, or "-" and the error.
With mode "N" and an empty document the answer is one byte for each character up to U+FFFF: bit 0 if it may start a
name, bit 1 if it may continue one.
Events: S name (NUL name NUL value)* NUL NUL, T text NUL, E NUL. Names are namespace, newline, local name.
"""
import struct
import sys
from xml.parsers import expat


class Events:
    def __init__(self):
        self.out = []
        self.text = []

    def flush(self):
        if self.text:
            self.out.append("T" + "".join(self.text) + "\0")
            self.text = []

    def start(self, name, attrs):
        self.flush()
        pairs = "".join("\0" + k + "\0" + v for k, v in sorted(attrs.items()))
        self.out.append("S" + name + pairs + "\0\0")

    def end(self, name):
        self.flush()
        self.out.append("E\0")

    def data(self, text):
        self.text.append(text)


def parser():
    # The separator is a character that the server refuses in namespaces.
    p = expat.ParserCreate(namespace_separator="\n")
    p.buffer_text = True
    if hasattr(p, "SetReparseDeferralEnabled"):
        p.SetReparseDeferralEnabled(False)
    return p


def parse(document, final):
    p, events = parser(), Events()
    p.StartElementHandler, p.EndElementHandler = events.start, events.end
    p.CharacterDataHandler = events.data
    try:
        p.Parse(document, final)
    except expat.ExpatError as e:
        return b"-" + str(e).encode()
    return b"+" + "".join(events.out).encode("utf-8")


def accepts(document):
    try:
        parser().Parse(document.encode("utf-8"), True)
    except expat.ExpatError:
        return 0
    return 1


def names():
    out = bytearray(0x10000)
    for c in range(1, 0x10000):
        if not 0xD800 <= c < 0xE000 and chr(c) not in " \t\r\n/>":
            out[c] = accepts("<%c/>" % c) | accepts("<a%c/>" % c) << 1
    return bytes(out)


def main():
    read, write = sys.stdin.buffer.read, sys.stdout.buffer
    while True:
        head = read(5)
        if len(head) < 5:
            return
        document = read(struct.unpack(">I", head[1:])[0])
        answer = names() if head[:1] == b"N" else parse(document, head[:1] == b"D")
        write.write(struct.pack(">I", len(answer)) + answer)
        write.flush()


main()
