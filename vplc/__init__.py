"""IEC 61131-3 Structured Text to a native scan loop; usable without the rest of Sluice."""
