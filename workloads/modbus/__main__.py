"""``python -m workloads.modbus``: started by the agent."""

from workloads.kit.service import main
from workloads.modbus.config import ModbusConfig, check
from workloads.modbus.translator import ModbusTranslator

if __name__ == "__main__":
    main("modbus", ModbusConfig, check, ModbusTranslator)
