"""Typed tree to LLVM IR text, and IR to object code. Only `backend` imports llvmlite."""
