"""Hard-paced scans of compiled programs: a small native host, its process image, its status.

`python -m vplc.scan` is the door. Preparing, reading and writing is Python; the scan itself is C (`native/`), and no
Python runs in its process. Needs neither the compiler nor LLVM.
"""
