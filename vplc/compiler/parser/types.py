"""Type references and variable blocks."""

from __future__ import annotations

from vplc.compiler import tree
from vplc.compiler.parser.cursor import SYNC_DECLARATION, SyntaxProblemError
from vplc.compiler.parser.statements import StatementParser

_QUALIFIERS = frozenset(
    {"CONSTANT", "RETAIN", "NON_RETAIN", "PERSISTENT", "PUBLIC", "PRIVATE", "PROTECTED", "INTERNAL", "R_EDGE", "F_EDGE"}
)
VAR_KINDS = frozenset(
    {
        "VAR",
        "VAR_INPUT",
        "VAR_OUTPUT",
        "VAR_IN_OUT",
        "VAR_TEMP",
        "VAR_GLOBAL",
        "VAR_EXTERNAL",
        "VAR_STAT",
        "VAR_INST",
        "VAR_CONFIG",
        "VAR_ACCESS",
    }
)


class TypeParser(StatementParser):
    def type_ref(self) -> tree.TypeRef:
        depth = self.depth
        self.enter()
        try:
            return self._type_ref()
        finally:
            self.depth = depth

    def _type_ref(self) -> tree.TypeRef:
        token = self.token
        start = token.start
        kind = self.kind
        if kind == "ARRAY":
            return self._array()
        if kind in ("STRUCT", "UNION"):
            return self._struct()
        if kind == "(":
            return self._enum()
        if kind == "...":
            self.advance()
            return tree.VariadicRef(start, token.end, None)
        if kind != "ID":
            raise self.fail("E018", f"expected a type, found {self.shown()}")
        upper = token.upper
        if upper in ("STRING", "WSTRING"):
            self.advance()
            length = None
            if self.kind in ("[", "("):
                closer = "]" if self.advance().kind == "[" else ")"
                length = self.expression()
                self.expect(closer)
            return tree.StringRef(start, self.previous.end, upper == "WSTRING", length)
        if (upper == "POINTER" or upper == "REFERENCE") and self.peek().kind == "TO":
            self.advance()
            self.advance()
            return self._pointer(start, "POINTER" if upper == "POINTER" else "REFERENCE")
        if upper == "REF_TO":
            self.advance()
            return self._pointer(start, "REF_TO")
        name = self.advance().text
        while self.kind == ".":
            self.advance()
            name += "." + self.name("a type name").text
        ref: tree.TypeRef = tree.NamedRef(start, self.previous.end, name)
        if self.kind == "(":
            mark = (self.at, self.token, self.kind, self.previous, self.depth)
            self.advance()
            if (self.kind == "ID" and self.peek().kind == ":=") or self.kind == ")":
                self.at, self.token, self.kind, self.previous, self.depth = mark
                args = self.arguments()
                return tree.NamedRef(start, self.previous.end, name, args)
            low = self.expression()
            if self.accept(".."):
                high = self.expression()
                self.expect(")")
                ref = tree.SubrangeRef(start, self.previous.end, ref, low, high)
            else:
                self.at, self.token, self.kind, self.previous, self.depth = mark
                args = self.arguments()
                return tree.NamedRef(start, self.previous.end, name, args)
        if self.kind == "...":
            self.advance()
            return tree.VariadicRef(start, self.previous.end, ref)
        return ref

    def _pointer(self, start: int, kind: str) -> tree.TypeRef:
        target = self.type_ref()
        return tree.PointerRef(start, self.previous.end, kind, target)

    def _array(self) -> tree.TypeRef:
        start = self.advance().start
        if self.kind == "OF":
            self.advance()
            return tree.ArrayRef(start, self.previous.end, [None], self.type_ref())
        closer = ")" if self.kind == "(" else "]"
        if self.kind == "(":
            self.advance()
        else:
            self.expect("[")
        dims: list[tuple[tree.Expr, tree.Expr] | None] = []
        while True:
            if self.accept("*"):
                dims.append(None)
            else:
                low = self.expression()
                if self.kind == "..":
                    self.advance()
                    dims.append((low, self.expression()))
                else:
                    raise self.fail(
                        "E010",
                        f'expected ".." in the array bounds, found {self.shown()}',
                        "write ARRAY [low..high] OF type",
                    )
            if not self.accept(","):
                break
        self.expect(closer)
        self.expect("OF")
        element = self.type_ref()
        return tree.ArrayRef(start, self.previous.end, dims, element)

    def _enum(self) -> tree.TypeRef:
        start = self.advance().start
        members: list[tuple[str, tree.Expr | None, int]] = []
        while self.kind != ")":
            token = self.name("a value of the enumeration")
            value = self.expression() if self.accept(":=") else None
            members.append((token.text, value, token.start))
            if not self.accept(","):
                break
        self.expect(")")
        base: tree.TypeRef | None = None
        if self.kind == "ID":
            base = tree.NamedRef(self.token.start, self.token.end, self.advance().text)
        return tree.EnumRef(start, self.previous.end, members, base)

    def _struct(self, base: str = "") -> tree.TypeRef:
        token = self.advance()
        union = token.kind == "UNION"
        end = "END_UNION" if union else "END_STRUCT"
        self.accept_word("OVERLAP")
        if self.accept_word("EXTENDS"):
            base = self.name("a structure").text
        fields: list[tree.VarDecl] = []
        while self.kind not in (end, "EOF", "END_TYPE", "END_VAR"):
            here = self.at
            self.declaration(fields)
            if self.at == here:
                break
        if self.kind != end:
            raise self.unclosed(end, token.kind, token.start)
        self.advance()
        return tree.StructRef(token.start, self.previous.end, fields, union, base)

    def declaration(self, out: list[tree.VarDecl]) -> None:
        """`a, b AT %QX0.0 : type := value;`"""
        if self.accept(";"):
            return
        depth = self.depth
        try:
            names: list[tuple[str, int, int, str]] = []
            pragmas = self.take_pragmas()
            while True:
                if not names and self.is_word("AT") and self.peek().kind == "ADDR":
                    self.advance()
                if self.kind == "ADDR" and not names:
                    names.append((self.token.text, self.token.start, self.token.end, self.token.upper))
                    self.advance()
                else:
                    word = self.name("a variable name")
                    name = word.text
                    while self.kind == "." and self.peek().kind == "ID":
                        self.advance()
                        name += "." + self.advance().text
                    names.append((name, word.start, word.end, ""))
                if self.is_word("AT"):
                    self.advance()
                    if self.kind != "ADDR":
                        raise self.fail("E020", f"expected an address like %IX0.0, found {self.shown()}")
                    last = names[-1]
                    names[-1] = (last[0], last[1], last[2], self.advance().upper)
                if not self.accept(","):
                    break
            self.expect(":")
            ref = self.type_ref()
            edge = ""
            if self.is_word("R_EDGE", "F_EDGE"):
                edge = self.advance().upper
            given: list[list[tree.Argument]] = []
            if isinstance(ref, tree.NamedRef) and ref.args is not None:
                given = [ref.args]
            elif isinstance(ref, tree.ArrayRef) and self.kind == "[":
                given = self._constructions()
            init: tree.Expr | None = None
            if self.kind == ":=" or (self.is_word("REF") and self.peek().kind == "="):
                if self.advance().upper == "REF":
                    self.advance()
                init = self.initial_value()
            if given:
                init = tree.Construct(ref.start, self.previous.end, given, init)
            pragmas += self.take_pragmas()
            for name, start, end, address in names:
                out.append(tree.VarDecl(start, end, name, ref, init, address, edge, pragmas))
            if self.kind != ";" and self.previous.kind in ("END_STRUCT", "END_UNION"):
                return
            if self.kind in SYNC_DECLARATION - {";"} or (self.kind == "ID" and self.peek().kind in (":", ",")):
                # Only the semicolon is missing: what follows is understood.
                self.missing(";")
            else:
                self.expect(";")
        except SyntaxProblemError:
            self.depth = depth
            here = self.at
            self.skip_to(SYNC_DECLARATION)
            if self.at == here and self.kind not in SYNC_DECLARATION:
                self.advance()

    def _constructions(self) -> list[list[tree.Argument]]:
        """`[(a := 1), (2)]` after `ARRAY [..] OF FB`: the arguments of each element's FB_Init."""
        self.expect("[")
        found = [self.arguments()]
        while self.accept(","):
            found.append(self.arguments())
        self.expect("]")
        return found

    def var_block(self) -> tree.VarBlock:
        token = self.advance()
        qualifiers = set()
        by_ref = False
        self.take_pragmas()
        while self.kind == "ID" and self.token.upper in _QUALIFIERS and self.peek().kind not in (":", ","):
            qualifiers.add(self.advance().upper)
        if any(p.strip().lower() == "ref" for p in self.pragmas):
            by_ref = True
            self.take_pragmas()
        decls: list[tree.VarDecl] = []
        stops = SYNC_DECLARATION - {";", "METHOD"}
        while self.kind not in stops and self.kind not in ("IF", "FOR", "CASE", "WHILE", "REPEAT"):
            here = self.at
            self.declaration(decls)
            if self.at == here:
                self.advance()
        if self.kind == "END_VAR":
            self.advance()
            self.accept(";")
        else:
            self.unclosed("END_VAR", token.kind, token.start)
        self.take_pragmas()
        return tree.VarBlock(token.kind, frozenset(qualifiers), decls, token.start, by_ref)
