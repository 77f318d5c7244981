# SPDX-License-Identifier: Apache-2.0
"""Interfaces of many services: `demo.many.Many00`, `demo.many.Many01`, and so on, each of which is `demo.EchoService` by another name.

Written as class files, since frameworks that make code at run time look for them on the class path; no compiler is needed.
"""

import struct

PACKAGE = "demo/many"


def names(count):
    """Names of the services."""
    return [f"{PACKAGE.replace('/', '.')}.Many{number:02}" for number in range(count)]


def classes(folder, count):
    """Writes the interfaces into `folder`, for the class path."""
    where = folder / PACKAGE
    where.mkdir(parents=True, exist_ok=True)
    for name in names(count):
        (where / f"{name.rsplit('.', 1)[1]}.class").write_bytes(_interface(name.replace(".", "/"), "demo/EchoService"))
    return folder


def _interface(name, extended):
    """A class file of Java 8: a public interface that extends another and adds nothing."""
    pool = b""
    for number, text in ((2, name), (4, "java/lang/Object"), (6, extended)):
        # CONSTANT_Class with the index of the CONSTANT_Utf8 that follows.
        pool += struct.pack(">BHBH", 7, number, 1, len(text)) + text.encode()
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, 52, 7)
    # public interface abstract; this, super, one interface; no fields, methods, attributes.
    return head + pool + struct.pack(">HHHHHHHH", 0x0601, 1, 3, 1, 5, 0, 0, 0)
