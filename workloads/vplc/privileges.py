"""From root to an ordinary user that may still lock memory and ask for SCHED_FIFO: what a container of class control
starts with, and what it needs.

Called by `start` before anything is read or written. File capabilities would be the usual way, but containers run
under no-new-privileges, which ignores them; ambient capabilities pass. The keeper hands them to the scan host alone.

Source: capabilities(7), prctl(2).
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from manifests.errors import MachineError

USER_VARIABLE = "VPLC_USER"  # set by the image; absent: the user stays who it is
WANTED = {"CAP_IPC_LOCK": 14, "CAP_SYS_NICE": 23}
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2
_VERSION_3 = 0x20080522


class _Head(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Word(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def become(user: int) -> None:
    """Root becomes ``user`` for good, with what is wanted and was granted as ambient capabilities; anybody else stays.

    Raises MachineError when root may not.
    """
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    kept = 0
    try:
        _call(libc.prctl(_PR_SET_KEEPCAPS, *map(ctypes.c_ulong, (1, 0, 0, 0))))
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        head, words = _Head(_VERSION_3, 0), (_Word * 2)()
        _call(libc.capget(ctypes.byref(head), words))
        for number in WANTED.values():
            kept |= words[0].permitted & (1 << number)
        words[0], words[1] = _Word(kept, kept, kept), _Word(0, 0, 0)
        _call(libc.capset(ctypes.byref(head), words))
        for number in WANTED.values():
            if kept & (1 << number):
                _call(libc.prctl(_PR_CAP_AMBIENT, *map(ctypes.c_ulong, (_PR_CAP_AMBIENT_RAISE, number, 0, 0))))
    except OSError as error:
        raise MachineError(f"cannot become user {user}: {error.strerror}", where="privileges") from error


def _call(result: Any) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
