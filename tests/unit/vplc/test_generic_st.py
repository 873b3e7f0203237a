"""Functions for many types, described arguments, assignment attempts: what calls decide, not declarations."""

import textwrap

import pytest

from vplc.compiler.front import front
from vplc.compiler.source import CompileError, Diagnostics, Source
from vplc.runtime.testing import run_tests


def run_both(text: str, tests: str, profile: str = "codesys") -> None:
    diagnostics = Diagnostics()
    sources = [Source("plant.st", textwrap.dedent(text))]
    done = run_tests(sources, [Source("plant_test.st", textwrap.dedent(tests))], profile, diagnostics, 0)
    assert done, [d.message for d in diagnostics.items]
    for outcome in done:
        assert outcome.passed, f"{outcome.name}: {outcome.message}"


def codes(text: str, profile: str) -> list[str]:
    diagnostics = Diagnostics()
    with pytest.raises(CompileError):
        front([Source("plant.st", textwrap.dedent(text))], profile, diagnostics)
    return [d.code for d in diagnostics.items]


SPREAD = """
    FUNCTION Spread<T : ANY_NUM> : T
    VAR_INPUT a, b, c : T; END_VAR
    VAR top : T; END_VAR
    top := MAX(a, b, c);
    Spread := top - MIN(a, b, c);
    END_FUNCTION
    """


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_a_type_parameter_takes_the_type_of_the_arguments(profile: str) -> None:
    run_both(
        SPREAD,
        """
        TEST 'types'
        VAR i : INT := 3; r : REAL := 2.5; l : LREAL; END_VAR
        ASSERT_EQ(Spread(i, 10, -5), 15);
        ASSERT_EQ(Spread(a := 1.0, b := r, c := 4.0), 3.0);
        l := Spread(1.25, 2.5, 5.0);
        ASSERT_EQ(l, 3.75);
        END_TEST
        """,
        profile,
    )


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_a_parameter_of_a_generic_type_is_compiled_for_each_type_it_gets(profile: str) -> None:
    run_both(
        """
        FUNCTION Latest : ANY
        VAR_INPUT fresh : BOOL; value, fallback : ANY; END_VAR
        IF fresh THEN Latest := value; ELSE Latest := fallback; END_IF;
        END_FUNCTION
        """,
        """
        TEST 'each'
        VAR s : STRING := 'old'; t : TIME := T#1s; END_VAR
        ASSERT_EQ(Latest(TRUE, 'new', s), 'new');
        ASSERT_EQ(Latest(FALSE, 'new', s), 'old');
        ASSERT_EQ(Latest(FALSE, T#5s, t), T#1s);
        END_TEST
        """,
        profile,
    )


def test_a_function_written_for_one_type_is_taken_before_the_general_one() -> None:
    run_both(
        """
        FUNCTION Weight<T : ANY_NUM> : T
        VAR_INPUT x : T; END_VAR
        Weight := x;
        END_FUNCTION
        FUNCTION Weight__REAL : REAL
        VAR_INPUT x : REAL; END_VAR
        Weight__REAL := x * 10.0;
        END_FUNCTION
        """,
        """
        TEST 'special'
        VAR i : INT := 2; r : REAL := 2.0; END_VAR
        ASSERT_EQ(Weight(i), 2); ASSERT_EQ(Weight(r), 20.0);
        END_TEST
        """,
    )


def test_a_generic_function_refuses_types_outside_its_group_and_arguments_that_disagree() -> None:
    wrong = SPREAD + "PROGRAM P VAR s : STRING; END_VAR s := Spread(s, s, s); END_PROGRAM"
    assert codes(wrong, "iec") == ["E040"]
    wrong = SPREAD + "PROGRAM P VAR i : INT; t : TIME; END_VAR i := Spread(i, t, i); END_PROGRAM"
    assert codes(wrong, "iec") == ["E041"]


def test_a_generic_function_that_calls_itself_with_ever_new_types_is_an_error() -> None:
    text = """
        FUNCTION Deeper<T : ANY> : INT
        VAR_INPUT x : REF_TO T; END_VAR
        VAR y : REF_TO REF_TO T; END_VAR
        Deeper := Deeper(y);
        END_FUNCTION
        PROGRAM P VAR r : REF_TO INT; i : INT; END_VAR i := Deeper(r); END_PROGRAM
        """
    assert "E019" in codes(text, "codesys")


def test_a_method_gets_type_place_and_size_of_an_any_argument() -> None:
    run_both(
        """
        FUNCTION_BLOCK Comparer
        VAR same : BOOL; kind : DINT; END_VAR
        METHOD Compare : BOOL
        VAR_INPUT one, two : ANY; END_VAR
        VAR i : DINT; END_VAR
        kind := one.TypeClass;
        Compare := one.TypeClass = two.TypeClass AND one.diSize = two.diSize;
        FOR i := 0 TO one.diSize - 1 DO
          IF NOT Compare THEN EXIT; END_IF;
          Compare := one.pValue[i] = two.pValue[i];
        END_FOR;
        END_METHOD
        END_FUNCTION_BLOCK
        """,
        """
        TEST 'described'
        VAR c : Comparer; a : LREAL := 1.5; b : LREAL := 1.5; i : INT := 3; END_VAR
        ASSERT_TRUE(c.Compare(a, b));
        ASSERT_EQ(c.kind, TypeClass.TYPE_LREAL);
        b := 2.0;
        ASSERT_FALSE(c.Compare(a, b));
        ASSERT_FALSE(c.Compare(a, i));
        ASSERT_TRUE(c.Compare(i + 1, INT#4) OR c.kind = TypeClass.TYPE_DINT);
        END_TEST
        """,
    )


def test_the_iec_profile_has_generic_parameters_in_functions_only() -> None:
    assert codes("FUNCTION_BLOCK F VAR_INPUT x : ANY_NUM; END_VAR END_FUNCTION_BLOCK", "iec") == ["E014"]


MACHINES = """
    INTERFACE Startable
    METHOD Start : INT
    END_METHOD
    END_INTERFACE
    INTERFACE Coolable
    METHOD Cool : INT
    END_METHOD
    END_INTERFACE
    FUNCTION_BLOCK Pump IMPLEMENTS Startable
    VAR speed : INT := 4; END_VAR
    METHOD Start : INT
    Start := 1;
    END_METHOD
    END_FUNCTION_BLOCK
    FUNCTION_BLOCK BigPump EXTENDS Pump IMPLEMENTS Coolable
    METHOD Cool : INT
    Cool := speed;
    END_METHOD
    END_FUNCTION_BLOCK
    VAR_GLOBAL small : Pump; big : BigPump; END_VAR
    """


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_an_assignment_attempt_asks_the_instance_behind_the_interface(profile: str) -> None:
    run_both(
        MACHINES,
        """
        TEST 'interfaces'
        VAR s : Startable; c : Coolable; END_VAR
        c ?= s; ASSERT_TRUE(c = NULL);
        s := big; c ?= s; ASSERT_TRUE(c <> NULL); ASSERT_EQ(c.Cool(), 4);
        s := small; c ?= s; ASSERT_TRUE(c = NULL);
        c ?= big; ASSERT_TRUE(c <> NULL);
        END_TEST
        TEST 'references'
        VAR p : REF_TO Pump; b : REF_TO BigPump; s : Startable; END_VAR
        p := REF(big); b ?= p; ASSERT_TRUE(b <> NULL); ASSERT_EQ(b^.Cool(), 4);
        p := REF(small); b ?= p; ASSERT_TRUE(b = NULL);
        s := big; b ?= s; ASSERT_TRUE(b <> NULL);
        END_TEST
        """,
        profile,
    )


def test_query_interface_says_whether_the_attempt_succeeded() -> None:
    run_both(
        MACHINES,
        """
        TEST 'query'
        VAR s : Startable; c : Coolable; p : POINTER TO BigPump; n : INT; END_VAR
        s := big;
        IF __QUERYINTERFACE(s, c) THEN n := c.Cool(); END_IF;
        ASSERT_EQ(n, 4);
        ASSERT_TRUE(__QUERYPOINTER(s, p)); ASSERT_EQ(p^.speed, 4);
        s := small;
        ASSERT_FALSE(__QUERYINTERFACE(s, c)); ASSERT_TRUE(c = NULL);
        END_TEST
        """,
    )


def test_an_attempt_between_things_without_instances_is_an_error() -> None:
    text = "PROGRAM P VAR i : INT; r : REF_TO INT; END_VAR r ?= i; END_PROGRAM"
    assert codes(text, "iec") == ["E040"]
