"""PLCopen XML projects as Structured Text: TC6 2.00 and 2.01, and IEC 61131-10."""

from vplc.plcopen.importer import Imported, SourceMap, load
from vplc.plcopen.model import NotTaken, Place, Problem

__all__ = ["Imported", "NotTaken", "Place", "Problem", "SourceMap", "load"]
