"""Structured Text to object code, one module per stage: lexer, parser, check, layout, codegen, link."""
