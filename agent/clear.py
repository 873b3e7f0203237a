"""Takes everything off a node that its agent put there: ``sluice agent clear``, before a machine is given away.

Not part of any loop. Refuses while an agent runs on the state folder, because that agent would start it all again.
Identity, buffer, what was trusted and what instances of class control kept stay on disk: what has not been sent is not
thrown away by this.
"""

from __future__ import annotations

from agent.runtimes.base import Runtime


def clear(runtime: Runtime) -> list[str]:
    """Stop and remove every instance and network; the names of the instances. Raises MachineError."""
    names = sorted(runtime.observe(()).instances)
    for name in names:
        runtime.stop(name)
        runtime.remove(name)
    runtime.forget_except((), ())
    return names
