"""Expressions and places: names, members, indices, bits, literals."""

from __future__ import annotations

from vplc.compiler import tree, typed
from vplc.compiler.check.base import elementary, type_name
from vplc.compiler.check.literals import Literals
from vplc.compiler.check.resolve import NamedType
from vplc.compiler.source import nearest
from vplc.compiler.symbols import EnumValue, PouSymbol, Variable
from vplc.compiler.types import (
    BOOL,
    BYTE,
    CHAR,
    DINT,
    DWORD,
    ERROR,
    LINT,
    LWORD,
    NULL,
    USINT,
    WCHAR,
    WORD,
    ArrayType,
    BlockType,
    Elementary,
    EnumType,
    InterfaceType,
    PointerType,
    StringType,
    StructType,
    SubrangeType,
    Type,
)

BIT_WIDTHS = {"X": 1, "B": 8, "W": 16, "D": 32, "L": 64}
WIDTH_TYPES = {1: BOOL, 8: BYTE, 16: WORD, 32: DWORD, 64: LWORD}


class Expressions(Literals):
    def call(self, node: tree.Call, want: Type | None) -> typed.Expr:
        raise NotImplementedError

    def is_intrinsic(self, upper: str) -> bool:
        raise NotImplementedError

    def expr(self, node: tree.Expr, want: Type | None = None) -> typed.Expr:
        """The typed form of an expression; a REFERENCE reads as what it refers to."""
        e = self.raw(node, want)
        if isinstance(e.type, PointerType) and e.type.kind == "REFERENCE":
            return typed.DerefPlace(e.type.target, e.start, e)
        return e

    def raw(self, node: tree.Expr, want: Type | None = None) -> typed.Expr:
        if isinstance(node, tree.Literal):
            return self.literal(node, want)
        if isinstance(node, tree.Name):
            return self.name_expr(node, want)
        if isinstance(node, tree.Binary):
            left = self.expr(node.left, want if node.op not in ("=", "<>", "<", ">", "<=", ">=") else None)
            hint = left.type if isinstance(left.type, EnumType) else None
            right = self.expr(node.right, hint or (want if hint is None else None))
            if isinstance(right.type, EnumType) and isinstance(node.left, tree.Name) and left.type is not right.type:
                left = self.expr(node.left, right.type)
            return self.binary(node.op, left, right, node)
        if isinstance(node, tree.Unary):
            operand = self.expr(node.operand, want)
            return self.complement(operand, node) if node.op == "NOT" else self.negate(operand, node)
        if isinstance(node, tree.Member):
            return self.member(node, want)
        if isinstance(node, tree.Call):
            return self.call(node, want)
        if isinstance(node, tree.Index):
            return self.index(node)
        if isinstance(node, tree.Deref):
            return self.deref(node)
        if isinstance(node, tree.EnumLiteral):
            return self.enum_literal(node)
        if isinstance(node, tree.Address):
            return self.direct(node)
        if isinstance(node, (tree.ListInit, tree.StructInit)):
            return self.aggregate(node, want)
        raise AssertionError(type(node))

    def aggregate(self, node: tree.Expr, want: Type | None) -> typed.Expr:
        raise NotImplementedError

    # -- names ---------------------------------------------------------------------------------------

    def name_expr(self, node: tree.Name, want: Type | None = None) -> typed.Expr:
        upper = node.name.upper()
        found = self.own_member(upper) or self.lookup(upper)
        if isinstance(found, Variable):
            return self.variable(found, node)
        if isinstance(found, EnumValue):
            if isinstance(want, EnumType) and found.type is not want and upper in want.members:
                return typed.Const(want, node.start, want.members[upper])
            if found.clash and not isinstance(want, EnumType):
                self.warn(
                    "W002",
                    f"{node.name} belongs to several enumerations; {found.type.name} is taken",
                    node,
                    f"write {found.type.name}#{node.name}",
                )
            return typed.Const(found.type, node.start, found.value)
        if isinstance(want, EnumType) and upper in want.members:
            return typed.Const(want, node.start, want.members[upper])
        if upper in ("THIS", "SUPER"):
            return self.this(node, upper)
        if upper == "NULL":
            return typed.Const(NULL, node.start, 0)
        prop = self.own_property(upper)
        if prop is not None:
            return prop_place(prop, typed.SelfPlace(ERROR, node.start), node.start, self.owner_block())
        if isinstance(found, PouSymbol) and found.kind == "PROGRAM" and found.result_variable is not None:
            return typed.VariablePlace(self.variable_type(found.result_variable), node.start, found.result_variable)
        if isinstance(found, PouSymbol) and found.kind == "FUNCTION" and not found.params and self.codesys:
            return self.call(tree.Call(node.start, node.end, node, []), want)
        if isinstance(found, PouSymbol):
            hint = f"call it: {node.name}(...)" if found.kind in ("FUNCTION", "METHOD") else "declare an instance of it"
            self.error("E034", f"{node.name} is a {found.kind}, not a value", node, hint)
            return self.bad(node)
        if upper == "EN" and self.pou is not None and self.pou.kind in ("FUNCTION", "METHOD", "FUNCTION_BLOCK"):
            return typed.Const(BOOL, node.start, 1)  # with EN = FALSE the body does not run
        self.error("E030", f'unknown name "{node.name}"', node, nearest(node.name, self.visible_names()))
        return self.bad(node)

    def visible_names(self) -> list[str]:
        names = list(self.scope.all_names())
        owner = self.owner_block()
        if owner is not None:
            for base in owner.bases():
                names.extend(v.name for v in base.variables.values())
        return names

    def owner_block(self) -> PouSymbol | None:
        """The function block (class, program) the current body belongs to."""
        pou = self.pou
        while pou is not None and pou.kind in ("METHOD", "ACTION"):
            pou = pou.owner
        return pou if pou is not None and pou.kind in ("FUNCTION_BLOCK", "CLASS", "PROGRAM", "INTERFACE") else None

    def own_member(self, upper: str) -> Variable | None:
        pou = self.pou
        if pou is None:
            return None
        if pou.kind == "METHOD":
            local = pou.variables.get(upper)
            if local is not None:
                return local
        elif pou.kind in ("FUNCTION", "TEST"):
            return pou.variables.get(upper)
        owner = self.owner_block()
        return owner.find_member(upper) if owner is not None else None

    def own_property(self, upper: str) -> tuple[Type, PouSymbol | None, PouSymbol | None] | None:
        owner = self.owner_block()
        return owner.find_property(upper) if owner is not None else None

    def this(self, node: tree.Expr, word: str) -> typed.Expr:
        owner = self.owner_block()
        if owner is None or owner.type is None:
            self.error("E066", f"{word} exists only inside a function block or class", node)
            return self.bad(node)
        t = owner.type
        if word == "SUPER":
            if not owner.extends:
                self.error("E066", f"{owner.name} extends nothing: SUPER has no meaning", node)
                return self.bad(node)
            base = owner.extends[0].type
            assert base is not None
            t = base
        return typed.AddressOf(PointerType("POINTER", t), node.start, typed.SelfPlace(t, node.start))

    def variable(self, variable: Variable, node: tree.Expr) -> typed.Expr:
        t = self.variable_type(variable)
        if variable.constant and (variable.init_expr is not None or variable.has_default or variable.init_done):
            value = self.constant_value(variable)
            if value is not None and not isinstance(t, StringType):
                return typed.Const(t, node.start, value)
        if variable.owner is not None and variable.owner.kind == "METHOD" and variable.kind == "instance":
            return typed.MemberPlace(t, node.start, typed.SelfPlace(ERROR, node.start), 0, "", variable)
        return typed.VariablePlace(t, node.start, variable)

    # -- members -------------------------------------------------------------------------------------

    def qualified(self, node: tree.Expr) -> str:
        """`a.b.c` as text when `node` is made of names only."""
        if isinstance(node, tree.Name):
            return node.name
        if isinstance(node, tree.Member):
            left = self.qualified(node.base)
            return f"{left}.{node.name}" if left else ""
        return ""

    def member(self, node: tree.Member, want: Type | None = None) -> typed.Expr:
        base_node = node.base
        if isinstance(base_node, (tree.Name, tree.Member)):
            special = self._special_member(node, base_node)
            if special is not None:
                return special
        base = self.raw(base_node)
        return self.member_of(base, node)

    def _special_member(self, node: tree.Member, base_node: tree.Expr) -> typed.Expr | None:
        """Enumerations, namespaces, global lists, programs: what a dotted name may begin with."""
        text = self.qualified(base_node)
        if not text:
            return None
        upper = text.upper()
        first = upper.partition(".")[0]
        if self.own_member(first) is not None:
            return None
        if isinstance(base_node, tree.Name):
            if upper == "THIS" and node.name.upper() != "":
                this = self.this(base_node, upper)
                return None if this.type is ERROR else self.member_of(this, node)
            plain = self._lookup_plain(upper, self.scope)
            if isinstance(plain, Variable):
                return None
        found = self.lookup(text)
        if found is None and self.codesys and "." in text and self.lookup(first) is None:
            found = self.lookup(text.rpartition(".")[2])
            text = text.rpartition(".")[2]
        if isinstance(found, NamedType):
            t = self.define(found)
            if isinstance(t, EnumType):
                return self.enum_literal(tree.EnumLiteral(node.start, node.end, text, node.name))
            return None
        full = self.lookup(f"{text}.{node.name}")
        if isinstance(full, Variable):
            return self.variable(full, node)
        if isinstance(full, EnumValue):
            return typed.Const(full.type, node.start, full.value)
        if found is None and upper in self.global_lists:
            inner = self._lookup_plain(node.name.upper(), self.program.scope)
            if isinstance(inner, Variable):
                return self.variable(inner, node)
            self.error("E032", f"{text} has no variable {node.name}", node)
            return self.bad(node)
        if found is None and self.codesys and isinstance(base_node, tree.Name) and upper not in ("THIS", "SUPER"):
            # The name of a global variable list or a library, which text files do not carry.
            inner = self.program.scope.find(node.name.upper())
            if isinstance(inner, Variable) and self.own_property(upper) is None:
                return self.variable(inner, node)
            if isinstance(inner, EnumValue):
                return typed.Const(inner.type, node.start, inner.value)
            if isinstance(inner, PouSymbol) and inner.kind == "PROGRAM" and inner.result_variable is not None:
                return typed.VariablePlace(self.variable_type(inner.result_variable), node.start, inner.result_variable)
        return None

    @property
    def global_lists(self) -> set[str]:
        lists: set[str] = getattr(self, "_lists", set())
        return lists

    def member_of(self, base: typed.Expr, node: tree.Member) -> typed.Expr:
        t = base.type
        start = node.start
        if t is ERROR:
            return self.bad(node)
        if isinstance(t, PointerType):
            if t.kind == "REFERENCE" or isinstance(base, typed.AddressOf) or isinstance(t.target, BlockType):
                target: typed.Expr = typed.DerefPlace(t.target, start, base)
                if isinstance(base, typed.AddressOf):
                    target = base.place
                if t.kind != "REFERENCE" and not isinstance(base, typed.AddressOf) and not self.codesys:
                    self.error("E032", f"{node.name} is behind a reference", node, f"write ^.{node.name}")
                return self.member_of(target, node)
            self.error("E032", f"{t.name} has no member {node.name}", node, f"dereference it: ^.{node.name}")
            return self.bad(node)
        name = node.name
        upper = name.upper()
        if name[0].isdigit() or name[0] == "%":
            return self.bit(base, node)
        if isinstance(t, StructType):
            f = t.fields.get(upper)
            if f is None:
                hint = nearest(name, (x.name for x in t.fields.values()))
                self.error("E032", f"{t.name} has no field {name}", node, hint)
                return self.bad(node)
            return typed.MemberPlace(f.type, start, base, -1, "" if t.union else f"{id(t)}.{upper}", None, upper)
        if isinstance(t, BlockType):
            return self.block_member(base, t, node)
        if isinstance(t, InterfaceType):
            prop = t.symbol.find_property(upper)
            if prop is not None:
                return prop_place(prop, base, start, t.symbol, virtual=True)
            self.error(
                "E032",
                f"{t.name} has no property {name}",
                node,
                nearest(name, [p for b in t.symbol.bases() for p in b.properties]),
            )
            return self.bad(node)
        if isinstance(t, EnumType) and upper in t.members:
            # `State : State`: the variable hides its type, whose values are meant.
            return typed.Const(t, start, t.members[upper])
        constant = self._constant_bit(base, upper)
        if constant is not None:
            return self.bit(base, tree.Member(node.start, node.end, node.base, str(constant)))
        self.error("E032", f"{type_name(base)} has no members", node)
        return self.bad(node)

    def _constant_bit(self, base: typed.Expr, upper: str) -> int | None:
        """`word.N` with a constant N selects a bit."""
        e = elementary(base.type)
        found = self.own_member(upper) or self.lookup(upper)
        if e is not None and e.is_discrete and isinstance(found, Variable) and found.constant:
            value = self.constant_value(found)
            if isinstance(value, int):
                return value
        return None

    def block_member(self, base: typed.Expr, t: BlockType, node: tree.Member) -> typed.Expr:
        upper = node.name.upper()
        block = t.symbol
        variable = block.find_member(upper)
        if variable is not None:
            vt = self.variable_type(variable)
            if variable.constant:
                value = self.constant_value(variable)
                if value is not None and not isinstance(vt, StringType):
                    return typed.Const(vt, node.start, value)
            if variable.kind == "temp":
                self.error("E032", f"{node.name} is temporary: it exists only inside {block.name}", node)
                return self.bad(node)
            owner = variable.owner or block
            if variable.kind == "external" and variable.external:
                inner = self.lookup(variable.external, self.program.scope)
                if isinstance(inner, Variable):
                    return self.variable(inner, node)
            return typed.MemberPlace(vt, node.start, base, -1, f"{id(owner)}.{upper}", variable)
        prop = block.find_property(upper)
        if prop is not None:
            virtual = not isinstance(base, typed.SelfPlace) or not self._is_super(node.base)
            return prop_place(prop, base, node.start, block, virtual=virtual)
        known = [v.name for b in block.bases() for v in b.variables.values() if not v.name.startswith("__")]
        known += [p for b in block.bases() for p in b.properties]
        if block.find_method(upper) is not None:
            self.error("E034", f"{node.name} is a method of {block.name}", node, f"call it: {node.name}(...)")
            return self.bad(node)
        self.error("E032", f"{block.name} has no variable {node.name}", node, nearest(node.name, known))
        return self.bad(node)

    def _is_super(self, node: tree.Expr) -> bool:
        if isinstance(node, tree.Deref):
            node = node.base
        return isinstance(node, tree.Name) and node.name.upper() == "SUPER"

    def bit(self, base: typed.Expr, node: tree.Member) -> typed.Expr:
        base = self.plain(base)
        t = elementary(base.type)
        name = node.name.upper()
        width = 1
        number = name
        if name[0] == "%":
            width = BIT_WIDTHS.get(name[1], 1)
            number = name[2:]
        if name[0] == "%" and number and not number.isdigit() and t is not None and t.size:
            chosen = self.chosen_part(base, t, width, number, node)
            if chosen is not None:
                return self.part(base, chosen, width)
        if t is None or not t.is_discrete or t.group in ("bool", "any_int", "null") or not number.isdigit():
            self.error("E049", f"{type_name(base)} has no bits to select", node)
            return self.bad(node)
        bit = int(number) * width
        if bit + width > t.bits:
            self.error(
                "E049",
                f"{t.name} has {t.bits // width} {'bits' if width == 1 else 'parts'}, counted from 0: "
                f"{number} does not exist",
                node,
            )
            return self.bad(node)
        if isinstance(base, typed.Const) and isinstance(base.value, int):
            return typed.Const(WIDTH_TYPES[width], node.start, base.value >> bit & ((1 << width) - 1))
        return typed.BitPlace(WIDTH_TYPES[width], node.start, base, bit, width)

    def chosen_part(
        self, base: typed.Expr, t: Elementary, width: int, name: str, node: tree.Member
    ) -> typed.Expr | None:
        """The first bit of `x.%Bi`, where a variable chooses the part: checked, in bits."""
        if not t.is_discrete or t.group in ("bool", "any_int", "null") or t.bits < width:
            return None
        index = self.index_value(tree.Name(node.end - len(name), node.end, name))
        if index.type is ERROR:
            return None
        last = t.bits // width - 1
        known = SubrangeType(f"DINT(0..{last})", DINT, 0, last)
        whole = typed.Convert(LINT, node.start, typed.Convert(known, node.start, index, "check"), "wrap")
        return typed.Binary(LINT, node.start, "*", whole, typed.Const(LINT, node.start, width))

    def as_bits(self, e: typed.Expr) -> typed.Expr:
        """The bit string of the same size."""
        size = e.type.base.size
        return typed.Convert(WIDTH_TYPES[size * 8], e.start, e, "wrap")

    def part(self, base: typed.Expr, first: typed.Expr, width: int) -> typed.Expr:
        bits = self.as_bits(base)
        moved = typed.Intrinsic(bits.type, base.start, "SHR", [bits, first])
        mask = typed.Const(bits.type, base.start, (1 << width) - 1)
        only = typed.Binary(bits.type, base.start, "AND", moved, mask)
        if width == 1:
            return typed.Compare(BOOL, base.start, "<>", only, typed.Const(bits.type, base.start, 0))
        return typed.Convert(WIDTH_TYPES[width], base.start, only, "wrap")

    def with_part(self, base: typed.Expr, first: typed.Expr, width: int, value: typed.Expr) -> typed.Expr:
        """`base` with the chosen part replaced."""
        bits = self.as_bits(base)
        t, start = bits.type, base.start
        mask = typed.Intrinsic(t, start, "SHL", [typed.Const(t, start, (1 << width) - 1), first])
        kept = typed.Binary(t, start, "AND", bits, typed.Unary(t, start, "NOT", mask))
        wide = value if value.type is t else typed.Convert(t, start, value, "wrap")
        fresh = typed.Binary(t, start, "OR", kept, typed.Intrinsic(t, start, "SHL", [wide, first]))
        return fresh if base.type is t else typed.Convert(base.type, start, fresh, "wrap")

    # -- indices and pointers ------------------------------------------------------------------------

    def index(self, node: tree.Index) -> typed.Expr:
        base = self.raw(node.base)
        return self.index_of(base, node)

    def index_of(self, base: typed.Expr, node: tree.Index) -> typed.Expr:
        t = base.type
        start = node.start
        if t is ERROR:
            for one in node.indices:
                self.expr(one)
            return self.bad(node)
        if isinstance(t, PointerType):
            if t.kind == "REFERENCE":
                return self.index_of(typed.DerefPlace(t.target, start, base), node)
            if len(node.indices) == 1 and (t.kind == "POINTER" or self.codesys):
                index = self.index_value(node.indices[0])
                return typed.DerefPlace(t.target, start, base, index)
            self.error("E046", f"{t.name} cannot be indexed", node, "dereference it first: p^[i]")
            return self.bad(node)
        if isinstance(t, StringType):
            if len(node.indices) != 1:
                self.error("E046", "a string has one index", node)
                return self.bad(node)
            index = self.index_value(node.indices[0])
            element = (WORD if t.wide else BYTE) if self.lenient else (WCHAR if t.wide else CHAR)
            return typed.CharPlace(element, start, base, index, 0 if self.lenient else 1)
        if not isinstance(t, ArrayType):
            self.error("E046", f"{type_name(base)} is not an array", node)
            return self.bad(node)
        indices = [self.index_value(one) for one in node.indices]
        ranks = len(t.dims) or t.stars
        if len(indices) < ranks and isinstance(t.element, ArrayType) is False and len(indices) != ranks:
            self.error("E046", f"{t.name} has {ranks} dimensions, {len(indices)} given", node)
            return self.bad(node)
        rest: list[tree.Expr] = []
        if len(indices) > ranks:
            rest = node.indices[ranks:]
            indices = indices[:ranks]
        elif len(indices) < ranks:
            self.error("E046", f"{t.name} has {ranks} dimensions, {len(indices)} given", node)
            return self.bad(node)
        for i, dim in zip(indices, t.dims, strict=False):
            if isinstance(i, typed.Const) and isinstance(i.value, int) and not dim[0] <= i.value <= dim[1]:
                self.error("E047", f"index {i.value} lies outside {dim[0]}..{dim[1]}", node)
                return self.bad(node)
        place = typed.IndexPlace(t.element, start, base, indices)
        if rest:
            return self.index_of(place, tree.Index(node.start, node.end, node.base, rest))
        return place

    def index_value(self, node: tree.Expr) -> typed.Expr:
        index = self.expr(node)
        t = elementary(index.type)
        if index.type is ERROR:
            return typed.Const(LINT, node.start, 0) if not isinstance(index, typed.Const) else index
        whole = ("int", "uint", "any_int") if not self.lenient else ("int", "uint", "any_int", "bits", "bool")
        if t is None or t.group not in whole:
            self.error("E046", f"an index is an integer, not {type_name(index)}", node)
            return typed.Const(ERROR, node.start, 0)
        if isinstance(index, typed.Const):
            return typed.Const(LINT, node.start, index.value)
        return index

    def deref(self, node: tree.Deref) -> typed.Expr:
        base = self.raw(node.base)
        t = base.type
        if t is ERROR:
            return self.bad(node)
        if isinstance(base, typed.AddressOf):
            return base.place
        if isinstance(t, PointerType):
            return typed.DerefPlace(t.target, node.start, base)
        if isinstance(t, InterfaceType):
            return base
        self.error("E048", f"{type_name(base)} is not a reference: ^ has nothing to follow", node)
        return self.bad(node)

    def direct(self, node: tree.Address) -> typed.Expr:
        """%IX0.0 used in a body: a located variable without a name."""
        variable = self.located(node.text, node)
        if variable is None:
            return self.bad(node)
        return typed.VariablePlace(variable.type, node.start, variable)

    def located(self, text: str, node: tree.Expr) -> Variable | None:
        kind = text[2] if len(text) > 2 and text[2].isalpha() else "X"
        t = {"X": BOOL, "B": BYTE, "W": WORD, "D": DWORD, "L": LWORD}[kind]
        if "*" in text or text[1] not in "IQM":
            self.error("E020", f"{text} is not a complete address", node, "for example %IX0.0, %QW4, %MD12")
            return None
        name = f"__{text}"
        there = self.program.scope.names.get(name)
        if isinstance(there, Variable):
            return there
        variable = Variable(name, t, "global", source=self.source, address=text, init_done=True)
        variable.taken = True
        self.program.scope.names[name] = variable
        self.program.globals.append(variable)
        return variable

    # -- places --------------------------------------------------------------------------------------

    def target(self, node: tree.Expr, raw: bool = False) -> typed.Expr:
        """A place that may be written; reports E044 when it may not."""
        e = self.raw(node) if raw else self.expr(node)
        if e.type is ERROR:
            return e
        if isinstance(e, typed.PropertyPlace):
            if e.setter is None:
                self.error("E044", "this property has no SET: it is read-only", node)
            return e
        if not isinstance(e, typed.Place) or isinstance(e, typed.SelfPlace):
            what = "a constant" if isinstance(e, typed.Const) else "an expression"
            self.error("E044", f"{what} cannot be assigned to", node)
            return typed.Const(ERROR, node.start, 0)
        self.check_writable(e, node)
        return e

    def check_writable(self, e: typed.Expr, node: tree.Expr) -> None:
        at: typed.Expr = e
        first = True
        while True:
            if isinstance(at, typed.VariablePlace):
                at.variable.written = True
                if at.variable.constant and at.variable.kind != "input":
                    self.error("E044", f"{at.variable.name} is CONSTANT", node)
                return
            if isinstance(at, typed.MemberPlace):
                v = at.variable
                if v is not None:
                    v.written = True
                    if v.constant and v.kind != "input":
                        self.error("E044", f"{v.name} is CONSTANT", node)
                    outside = not isinstance(at.base, typed.SelfPlace)
                    v.taken = v.taken or outside
                    if (
                        outside
                        and first
                        and v.kind in ("output", "local")
                        and not self.codesys
                        and not (self.pou is not None and self.pou.kind == "TEST")
                    ):
                        word = "an output" if v.kind == "output" else "internal"
                        self.error(
                            "E044",
                            f"{v.name} is {word} of {v.owner.name if v.owner else '?'}: only its own body writes it",
                            node,
                        )
                at = at.base
            elif isinstance(at, (typed.IndexPlace, typed.BitPlace, typed.CharPlace)):
                at = at.base
            else:
                return
            first = False

    # -- constants -----------------------------------------------------------------------------------

    def constant_int(self, expr: tree.Expr) -> int | None:
        e = self.known(self.expr(expr))
        if isinstance(e, typed.Const) and isinstance(e.value, int) and e.type is not ERROR:
            return e.value
        if e.type is not ERROR:
            self.error(
                "E045",
                "this must be a constant whole number",
                expr,
                "a literal, or a variable declared VAR CONSTANT or VAR_GLOBAL CONSTANT",
            )
        return None


def prop_place(
    prop: tuple[Type, PouSymbol | None, PouSymbol | None],
    base: typed.Expr,
    start: int,
    block: PouSymbol | None,
    virtual: bool = True,
) -> typed.Expr:
    assert block is not None
    return typed.PropertyPlace(prop[0], start, base, prop[1], prop[2], virtual, block)


__all__ = ["DINT", "USINT", "Expressions"]
