"""``python -m workloads.opcua``: started by the agent."""

from workloads.kit.service import main
from workloads.opcua.config import OpcuaConfig, check
from workloads.opcua.translator import OpcuaTranslator

if __name__ == "__main__":
    main("opcua", OpcuaConfig, check, OpcuaTranslator)
