"""Expressions, calls and initial values."""

from __future__ import annotations

from vplc.compiler import tree
from vplc.compiler.parser.cursor import Cursor

_LEVELS: dict[str, int] = {
    "OR": 1,
    "OR_ELSE": 1,
    "|": 1,
    "XOR": 2,
    "AND": 3,
    "AND_THEN": 3,
    "&": 3,
    "=": 4,
    "<>": 4,
    "<": 5,
    ">": 5,
    "<=": 5,
    ">=": 5,
    "+": 6,
    "-": 6,
    "*": 7,
    "/": 7,
    "MOD": 7,
    "**": 8,
}
_OPERATOR_CALLS = frozenset({"AND", "OR", "XOR", "MOD", "NOT", "AND_THEN", "OR_ELSE"})
_LITERAL_KINDS = frozenset({"INT", "REAL", "STR", "WSTR", "TIME", "DATE", "TOD", "DT"})

# Chains are trees as deep as they are long; beyond these nothing written by hand or by a generator is known.
MAX_TERMS = 2_000
MAX_STEPS = 200


class ExpressionParser(Cursor):
    def expression(self, level: int = 1) -> tree.Expr:
        depth = self.depth
        self.enter()
        left = self.unary()
        terms = 0
        while True:
            op = self.kind
            rank = _LEVELS.get(op)
            if rank is None or rank < level:
                break
            terms += 1
            if terms > MAX_TERMS:
                raise self.fail("E019", f"more than {MAX_TERMS} operators in a row", "compute it in several steps")
            self.advance()
            right = self.expression(rank + 1)
            if op == "&":
                op = "AND"
            elif op == "|":
                op = "OR"
            left = tree.Binary(left.start, right.end, op, left, right)
        self.depth = depth
        return left

    def unary(self) -> tree.Expr:
        kind = self.kind
        if kind == "NOT" or kind == "-" or kind == "+":
            depth = self.depth
            self.enter()
            start = self.advance().start
            operand = self.unary()
            self.depth = depth
            if kind == "+":
                return operand
            number = isinstance(operand, tree.Literal) and operand.kind in ("INT", "REAL") and not operand.prefix
            if kind == "-" and isinstance(operand, tree.Literal) and number and not operand.text.startswith("-"):
                return tree.Literal(start, operand.end, operand.kind, "-" + operand.text)
            return tree.Unary(start, operand.end, kind, operand)
        return self.postfix(self.primary())

    def primary(self) -> tree.Expr:
        token = self.token
        kind = token.kind
        if kind == "ID":
            self.advance()
            return tree.Name(token.start, token.end, token.text)
        if kind in _LITERAL_KINDS:
            self.advance()
            return tree.Literal(token.start, token.end, kind, token.upper)
        if kind == "TRUE" or kind == "FALSE":
            self.advance()
            return tree.Literal(token.start, token.end, "BOOL", kind)
        if kind == "(":
            self.advance()
            inner = self.expression()
            if self.kind == ":=":
                raise self.fail("E012", "an assignment is not an expression", 'compare with "=", assign with ":="')
            self.expect(")")
            inner.end = self.previous.end
            return inner
        if kind == "PREFIX":
            return self.typed_literal()
        if kind == "ADDR":
            self.advance()
            return tree.Address(token.start, token.end, token.upper)
        if kind in _OPERATOR_CALLS and self.peek().kind == "(":
            self.advance()
            return tree.Name(token.start, token.end, token.upper)
        if kind == "&" and self.peek().kind == "ID":
            # An older spelling of REF(x).
            self.advance()
            place = self.postfix(self.primary())
            reference = tree.Name(token.start, token.end, "REF")
            return tree.Call(token.start, place.end, reference, [tree.Argument(place.start, "", place)])
        if kind == ".":
            # CODESYS: a leading dot names the global.
            self.advance()
            name = self.name("the name of a global variable")
            return tree.Name(token.start, name.end, name.text)
        raise self.fail("E012", f"expected an expression, found {self.shown()}")

    def typed_literal(self) -> tree.Expr:
        prefix = self.advance()
        start = prefix.start
        sign = ""
        if self.kind in ("-", "+"):
            sign = "-" if self.kind == "-" else ""
            self.advance()
        token = self.token
        if token.kind in _LITERAL_KINDS:
            self.advance()
            return tree.Literal(start, token.end, token.kind, sign + token.upper, prefix.upper)
        if token.kind in ("TRUE", "FALSE"):
            self.advance()
            return tree.Literal(start, token.end, "BOOL", token.kind, prefix.upper)
        if token.kind == "ID" and not sign:
            self.advance()
            return tree.EnumLiteral(start, token.end, prefix.text, token.text)
        raise self.fail("E012", f'expected a value after "{prefix.text}#", found {self.shown()}')

    def postfix(self, base: tree.Expr) -> tree.Expr:
        steps = 0
        while True:
            kind = self.kind
            steps += 1
            if steps > MAX_STEPS:
                raise self.fail("E019", f"more than {MAX_STEPS} selections in a row", "copy a part to a variable first")
            if kind == ".":
                self.advance()
                token = self.token
                if token.kind in ("INT", "ADDR", "ID") or (token.upper.isidentifier() and token.kind != "PREFIX"):
                    self.advance()
                    text = token.text
                    if token.kind == "ADDR" and text[1:].isalpha() and self.kind == "ID":
                        text += self.advance().text
                    base = tree.Member(base.start, self.previous.end, base, text)
                elif token.kind == "REAL" and "." in token.text and "E" not in token.upper:
                    self.advance()
                    first, second = token.text.split(".")
                    base = tree.Member(base.start, token.end, base, first)
                    base = tree.Member(base.start, token.end, base, second)
                else:
                    raise self.fail("E011", f'expected a member name after ".", found {self.shown()}')
            elif kind == "[":
                self.advance()
                indices = [self.expression()]
                while self.accept(","):
                    indices.append(self.expression())
                self.expect("]")
                base = tree.Index(base.start, self.previous.end, base, indices)
            elif kind == "^":
                self.advance()
                base = tree.Deref(base.start, self.previous.end, base)
            elif kind == "(":
                if isinstance(base, (tree.Literal, tree.EnumLiteral)):
                    return base
                args = self.arguments()
                base = tree.Call(base.start, self.previous.end, base, args)
            else:
                return base

    def arguments(self) -> list[tree.Argument]:
        self.expect("(")
        args: list[tree.Argument] = []
        while self.kind != ")":
            start = self.token.start
            negated = False
            if self.kind == "NOT" and self.peek(2).kind == "=>":
                self.advance()
                negated = True
            follow = self.peek().kind
            if (
                follow in (":=", "=>")
                and (self.kind == "ID" or self.kind.isupper())
                and self.kind not in _LITERAL_KINDS
            ):
                name = self.advance().text
                output = self.advance().kind == "=>"
                value = None if self.kind in (",", ")") else self.value()
                args.append(tree.Argument(start, name, value, output, negated))
            else:
                args.append(tree.Argument(start, "", self.value()))
            if not self.accept(","):
                break
        self.expect(")")
        return args

    # -- initial values --------------------------------------------------------------------------

    def value(self) -> tree.Expr:
        """An expression, or an array or structure value."""
        start = self.token.start
        if self.kind == "[":
            return self.list_value()
        if self.kind == "STRUCT":
            self.advance()
        if self.kind == "(":
            first, second = self.peek(), self.peek(2)
            if second.kind == ":=" and first.upper.isidentifier():
                return self.struct_value()
            if first.kind in ("(", "["):
                mark = (self.at, self.token, self.kind, self.previous, self.depth)
                if self._starts_struct_list():
                    self.at, self.token, self.kind, self.previous, self.depth = mark
                    self.advance()
                    items: list[tuple[tree.Expr | None, tree.Expr | None]] = [(None, self.value())]
                    while self.accept(","):
                        items.append((None, self.value()))
                    self.expect(")")
                    return tree.ListInit(start, self.previous.end, items)
                self.at, self.token, self.kind, self.previous, self.depth = mark
        return self.expression()

    def _starts_struct_list(self) -> bool:
        """`((a := 1), (a := 2))`, a list of structures in round brackets."""
        return self.peek().kind == "(" and self.peek(3).kind == ":="

    def struct_value(self) -> tree.Expr:
        start = self.expect("(").start
        fields: list[tuple[str, tree.Expr]] = []
        while self.kind != ")":
            name = self.advance() if self.kind != "ID" and self.token.upper.isidentifier() else self.name("a field")
            self.expect(":=")
            fields.append((name.text, self.value()))
            if not self.accept(","):
                break
        self.expect(")")
        return tree.StructInit(start, self.previous.end, fields)

    def list_value(self) -> tree.Expr:
        depth = self.depth
        self.enter()
        start = self.expect("[").start
        items: list[tuple[tree.Expr | None, tree.Expr | None]] = []
        while self.kind != "]":
            items.append(self.list_item())
            if not self.accept(","):
                break
        self.expect("]")
        self.depth = depth
        return tree.ListInit(start, self.previous.end, items)

    def list_item(self) -> tuple[tree.Expr | None, tree.Expr | None]:
        value = self.value()
        if self.kind == "(" and isinstance(value, tree.Literal) and value.kind == "INT":
            return self._repeated(value)
        if isinstance(value, tree.Call) and isinstance(value.callee, tree.Name) and len(value.args) <= 1:
            # `N(0)` repeats when N is a constant: the checker tells it from a call.
            return None, value
        return None, value

    def _repeated(self, count: tree.Expr) -> tuple[tree.Expr | None, tree.Expr | None]:
        self.expect("(")
        if self.accept(")"):
            return count, None
        start = self.token.start
        items: list[tuple[tree.Expr | None, tree.Expr | None]] = [self.list_item()]
        if self.kind == ":=" and isinstance(items[0][1], tree.Name):
            # `3(a := 1, b := 2)`: a repeated structure without its own brackets.
            self.advance()
            fields = [(items[0][1].name, self.value())]
            while self.accept(","):
                name = self.name("a field")
                self.expect(":=")
                fields.append((name.text, self.value()))
            self.expect(")")
            return count, tree.StructInit(start, self.previous.end, fields)
        while self.accept(","):
            items.append(self.list_item())
        self.expect(")")
        if len(items) == 1 and items[0][0] is None:
            return count, items[0][1]
        return count, tree.ListInit(start, self.previous.end, items)

    def initial_value(self) -> tree.Expr:
        """The value after `:=` in a declaration; older code lists array values without brackets."""
        start = self.token.start
        count, value = self.list_item()
        if count is None and self.kind != ",":
            assert value is not None
            return value
        items = [(count, value)]
        while self.accept(","):
            items.append(self.list_item())
        return tree.ListInit(start, self.previous.end, items)
