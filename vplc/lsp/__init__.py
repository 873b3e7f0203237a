"""The language server: what the compiler knows, while the text is being typed."""
