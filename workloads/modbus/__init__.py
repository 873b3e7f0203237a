"""The Modbus TCP translator: registers, coils and inputs of field devices into tags. It only ever reads."""
