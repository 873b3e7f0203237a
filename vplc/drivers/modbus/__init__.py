"""Modbus TCP master for remote I/O (MODBUS Application Protocol V1.1b3, Messaging on TCP/IP V1.0b)."""
