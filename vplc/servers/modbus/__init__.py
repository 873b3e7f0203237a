"""Modbus TCP as HMIs expect it: the program's %I, %Q and %M as coils, discrete inputs and registers."""
