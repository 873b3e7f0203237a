"""Statements. After an error the parser goes on with the next statement it recognises."""

from __future__ import annotations

from vplc.compiler import tree
from vplc.compiler.parser.cursor import SYNC_STATEMENT, SyntaxProblemError
from vplc.compiler.parser.expressions import ExpressionParser
from vplc.compiler.source import Span, nearest

_BLOCK_ENDS = frozenset(
    [
        "END_IF",
        "ELSE",
        "ELSIF",
        "END_CASE",
        "END_FOR",
        "END_WHILE",
        "END_REPEAT",
        "UNTIL",
        "END_FUNCTION",
        "END_FUNCTION_BLOCK",
        "END_FUNCTIONBLOCK",
        "END_PROGRAM",
        "END_METHOD",
        "END_ACTION",
        "END_ACTIONS",
        "END_PROPERTY",
        "END_GET",
        "END_SET",
        "END_CLASS",
        "END_INTERFACE",
        "END_TEST",
        "END_SETUP",
        "END_TEARDOWN",
        "END_NAMESPACE",
        "END_CONFIGURATION",
        "END_RESOURCE",
        "FUNCTION",
        "FUNCTION_BLOCK",
        "FUNCTIONBLOCK",
        "PROGRAM",
        "METHOD",
        "ACTION",
        "PROPERTY",
        "TYPE",
        "VAR_GLOBAL",
        "CLASS",
        "INTERFACE",
        "CONFIGURATION",
        "END_VAR",
        "END_TYPE",
        "VAR",
        "VAR_INPUT",
        "VAR_OUTPUT",
        "VAR_IN_OUT",
        "VAR_TEMP",
        "EOF",
    ]
)
_LABEL_TOKENS = frozenset(
    {
        "INT",
        "ID",
        "PREFIX",
        ".",
        "..",
        ",",
        "-",
        "+",
        "STR",
        "WSTR",
        "TRUE",
        "FALSE",
        "TIME",
        "(",
        ")",
        "*",
        "REAL",
        "DATE",
        "TOD",
        "DT",
        "#",
    }
)
_TRY_WORDS = frozenset({"__TRY", "__CATCH", "__FINALLY", "__ENDTRY"})
_AFTER_NAME = frozenset({":=", "?=", "=", "(", ".", "[", "^", ";", ":"})
_CLOSERS = {"END_IF": "IF", "END_CASE": "CASE", "END_FOR": "FOR", "END_WHILE": "WHILE", "END_REPEAT": "REPEAT"}


class StatementParser(ExpressionParser):
    def statements(self, in_case: bool = False) -> list[tree.Stmt]:
        depth = self.depth
        self.enter()
        out: list[tree.Stmt] = []
        while True:
            kind = self.kind
            if kind == ";":
                self.advance()
                continue
            if kind in _BLOCK_ENDS:
                break
            if in_case and self._at_case_label():
                break
            if kind == "ID" and self._begins_test():
                break
            here = self.at
            try:
                self.statement(out)
            except SyntaxProblemError:
                self.depth = depth + 1
                self.skip_to(SYNC_STATEMENT)
                if self.at == here:
                    self.advance()
        self.depth = depth
        return out

    def _begins_test(self) -> bool:
        """Whether TEST, SETUP or TEARDOWN stands here as a word of test files, not as a name."""
        upper = self.token.upper
        if upper == "TEST":
            return self.peek().kind in ("STR", "WSTR")
        return upper in ("SETUP", "TEARDOWN") and self.peek().kind not in _AFTER_NAME

    def _at_case_label(self) -> bool:
        kind = self.kind
        if kind not in _LABEL_TOKENS or kind in (".", "*", "..", ",", ")"):
            return False
        at = self.at
        tokens = self.tokens
        while True:
            kind = tokens[at].kind
            if kind == ":":
                return True
            if kind not in _LABEL_TOKENS and kind != "PRAGMA":
                return False
            at += 1

    def end_statement(self) -> None:
        if self.kind == ";":
            self.advance()
            return
        self.expect(";")

    def statement(self, out: list[tree.Stmt]) -> None:
        kind = self.kind
        if kind == "ID" or kind == "ADDR" or kind == "(" or kind == ".":
            self.simple(out)
        elif kind == "IF":
            out.append(self.if_statement())
        elif kind == "CASE":
            out.append(self.case_statement())
        elif kind == "FOR":
            out.append(self.for_statement())
        elif kind == "WHILE":
            start = self.advance().start
            condition = self.expression()
            self.block_word("DO")
            body = self.statements()
            self.close("END_WHILE", start)
            out.append(tree.While(start, self.previous.end, condition, body))
        elif kind == "REPEAT":
            start = self.advance().start
            body = self.statements()
            if self.kind != "UNTIL":
                raise self.unclosed("UNTIL", "REPEAT", start)
            self.advance()
            until = self.expression()
            self.accept(";")
            self.close("END_REPEAT", start)
            out.append(tree.Repeat(start, self.previous.end, body, until))
        elif kind in ("EXIT", "CONTINUE", "RETURN"):
            token = self.advance()
            if kind == "RETURN" and self.kind not in (";",) and self.kind not in _BLOCK_ENDS:
                raise self.fail(
                    "E010",
                    f'expected ";" after RETURN, found {self.shown()}',
                    "assign the result to the function's name first",
                )
            self.end_statement()
            out.append(tree.Jump(token.start, token.end, kind))
        else:
            raise self.fail("E013", f"no statement begins with {self.shown()}")

    def simple(self, out: list[tree.Stmt]) -> None:
        token = self.token
        start = token.start
        if token.kind == "ID":
            upper = token.upper
            follow = self.peek()
            if follow.kind == ":":
                self.advance()
                self.advance()
                out.append(tree.Label(start, token.end, token.text))
                return
            if upper == "JMP" and follow.kind == "ID":
                self.advance()
                label = self.advance()
                self.end_statement()
                out.append(tree.Goto(start, label.end, label.text))
                return
            if upper in _TRY_WORDS:
                self.advance()
                if upper == "__TRY":
                    hint = "a fault stops the program in a defined state; test the values first"
                    self.fail("E014", "__TRY is not supported: faults are not caught", hint, token)
                elif upper == "__CATCH" and self.kind == "(":
                    self.arguments()
                return
            if upper in ("MOCK", "MOCK_FUNCTION") and follow.kind == "ID":
                self.advance()
                target = self.postfix(self.primary())
                returns = None
                if self.accept_word("RETURNS"):
                    returns = self.expression()
                self.end_statement()
                out.append(tree.Mock(start, self.previous.end, target, returns, upper == "MOCK_FUNCTION"))
                return
            if upper in ("STEP", "INITIAL_STEP", "TRANSITION") and follow.kind == "ID":
                raise self.fail(
                    "E014",
                    f"{token.text} belongs to SFC text, which is not supported",
                    "write the sequence as a CASE over a state variable",
                )
            if follow.kind == "ID" and follow.upper not in ("S", "R", "REF") and self.peek(2).kind != "=":
                hint = nearest(
                    token.text,
                    [
                        "IF",
                        "CASE",
                        "FOR",
                        "WHILE",
                        "REPEAT",
                        "RETURN",
                        "EXIT",
                        "ELSIF",
                        "END_IF",
                        "END_FOR",
                        "END_CASE",
                        "END_WHILE",
                    ],
                )
                raise self.fail("E013", f'"{token.text}" is not a statement', hint)
        target = self.postfix(self.primary())
        kind = self.kind
        if kind == ":=" or kind == "?=":
            self.assignment(out, target)
        elif kind == "ID" and self.token.upper in ("S", "R", "REF") and self.peek().kind == "=":
            op = self.advance().upper + "="
            self.advance()
            value = self.expression()
            self.end_statement()
            out.append(tree.Assign(start, value.end, target, op, value))
        elif isinstance(target, tree.Call):
            self.end_statement()
            out.append(tree.CallStmt(start, target.end, target))
        elif kind == "=":
            raise self.fail("E015", '"=" compares; it does not assign', 'write ":=" to assign')
        elif kind == "=>":
            raise self.fail("E015", '"=>" belongs inside a call', 'write ":=" to assign')
        elif kind == ";":
            # An expression without effect: CODESYS accepts it, older libraries have it.
            self.advance()
            out.append(tree.CallStmt(start, target.end, target))
        else:
            raise self.fail("E010", f'expected ":=" or a call, found {self.shown()}')

    def assignment(self, out: list[tree.Stmt], target: tree.Expr) -> None:
        targets = [(target, self.advance().kind)]
        value = self.value()
        while self.kind == ":=":
            targets.append((value, self.advance().kind))
            value = self.value()
        self.end_statement()
        for one, op in reversed(targets):
            out.append(tree.Assign(one.start, value.end, one, op, value))
            value = one

    def block_word(self, word: str) -> None:
        if self.kind == word:
            self.advance()
            return
        self.diagnostics.error(
            "E010",
            f'expected "{word}", found {self.shown()}',
            Span(self.source, self.previous.end - 1, self.previous.end),
        )
        if self.kind == ";" or (self.kind == "ID" and nearest(self.token.text, [word])):
            self.advance()

    def unclosed(self, word: str, opener: str, start: int) -> SyntaxProblemError:
        line, _ = self.source.line_col(start)
        hint = f"the {opener} of line {line} is still open here"
        if self.kind in _CLOSERS:
            hint += f"; {self.kind} closes another block"
        return self.fail("E016", f"expected {word}, found {self.shown()}", hint)

    def close(self, word: str, start: int) -> None:
        if self.kind == word:
            self.advance()
            if self.kind == ";":
                self.advance()
            return
        problem = self.unclosed(word, word.removeprefix("END_"), start)
        if self.kind in _CLOSERS:
            # Take a wrong closing word as ours, so that one mistake gives one message.
            self.advance()
            self.accept(";")
            return
        raise problem

    def if_statement(self) -> tree.Stmt:
        start = self.token.start
        branches: list[tuple[tree.Expr, list[tree.Stmt]]] = []
        otherwise: list[tree.Stmt] = []
        self.advance()
        while True:
            condition = self.condition()
            branches.append((condition, self.statements()))
            if self.kind == "ELSIF":
                self.advance()
                continue
            if self.kind == "ELSE":
                follow = self.peek()
                self.advance()
                if follow.kind == "IF" and self.source.text.count("\n", self.previous.end, follow.start) == 0:
                    pass  # an ordinary nested IF
                otherwise = self.statements()
            break
        self.close("END_IF", start)
        return tree.If(start, self.previous.end, branches, otherwise)

    def condition(self) -> tree.Expr:
        try:
            condition = self.expression()
            if self.kind == ":=":
                raise self.fail("E012", "an assignment is not a condition", 'compare with "="')
            self.block_word("THEN")
            return condition
        except SyntaxProblemError:
            while self.kind not in ("THEN", ";", "END_IF", "EOF", "ELSE", "ELSIF"):
                self.advance()
            if self.kind in ("THEN", ";"):
                self.advance()
            return tree.Literal(self.previous.start, self.previous.end, "BOOL", "TRUE")

    def case_statement(self) -> tree.Stmt:
        start = self.advance().start
        selector = self.expression()
        self.block_word("OF")
        branches: list[tuple[list[tuple[tree.Expr, tree.Expr | None]], list[tree.Stmt]]] = []
        otherwise: list[tree.Stmt] | None = None
        while self.kind == ";":
            self.advance()
        while self._at_case_label():
            labels: list[tuple[tree.Expr, tree.Expr | None]] = []
            while True:
                low = self.expression()
                high = self.expression() if self.accept("..") else None
                labels.append((low, high))
                if not self.accept(","):
                    break
            self.expect(":")
            branches.append((labels, self.statements(in_case=True)))
        if self.accept("ELSE"):
            self.accept(":")
            otherwise = self.statements()
        elif self.kind != "END_CASE":
            problem = self.fail(
                "E017",
                f"expected a CASE label or END_CASE, found {self.shown()}",
                'a label is a constant, a list or a range, followed by ":"',
            )
            if not branches:
                self.statements()
                if self.kind == "END_CASE":
                    self.advance()
                    self.accept(";")
            raise problem
        self.close("END_CASE", start)
        return tree.Case(start, self.previous.end, selector, branches, otherwise)

    def for_statement(self) -> tree.Stmt:
        start = self.advance().start
        target = self.postfix(self.primary())
        self.expect(":=")
        first = self.expression()
        self.block_word("TO")
        last = self.expression()
        step = self.expression() if self.accept("BY") else None
        self.block_word("DO")
        body = self.statements()
        self.close("END_FOR", start)
        return tree.For(start, self.previous.end, target, first, last, step, body)
