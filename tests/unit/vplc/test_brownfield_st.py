"""Constructs that published libraries and other compilers' programs use, run through the whole compiler."""

import json
import textwrap
from pathlib import Path

import pytest

from vplc.cli import main
from vplc.compiler.front import front
from vplc.compiler.source import CompileError, Diagnostics, Source
from vplc.runtime.testing import run_tests


def run_both(text: str, tests: str, profile: str = "codesys") -> None:
    """Runs the tests of `text` and fails with the first message of a test that did not pass."""
    diagnostics = Diagnostics()
    done = run_tests(
        [Source("plant.st", textwrap.dedent(text))],
        [Source("plant_test.st", textwrap.dedent(tests))],
        profile,
        diagnostics,
        0,
    )
    assert done, [d.message for d in diagnostics.items]
    for outcome in done:
        assert outcome.passed, f"{outcome.name}: {outcome.message}"


def messages(text: str, profile: str = "codesys") -> list[str]:
    """What the front end says about a program that is wrong."""
    diagnostics = Diagnostics()
    with pytest.raises(CompileError):
        front([Source("plant.st", textwrap.dedent(text))], profile, diagnostics)
    return [d.message for d in diagnostics.items]


VALVE = """
    FUNCTION_BLOCK Valve
    VAR_INPUT opening : INT; END_VAR
    VAR id : INT; starts : INT; END_VAR
    METHOD FB_Init : BOOL
    VAR_INPUT bInitRetains, bInCopyCode : BOOL; number : INT := 99; END_VAR
    id := number; starts := starts + 1;
    END_METHOD
    END_FUNCTION_BLOCK
    FUNCTION_BLOCK Skid
    VAR inlet : Valve(number := 12); END_VAR
    END_FUNCTION_BLOCK
    VAR_GLOBAL
      named : Valve(number := 4) := (opening := 50);
      counted : Valve(5);
      plain : Valve;
      both : Valve(number := 6, opening := 7);
      bank : ARRAY [1..3] OF Valve[(number := 1), (2), (number := 3)];
      skid1 : Skid;
    END_VAR
    """


def test_fb_init_takes_the_arguments_of_the_declaration() -> None:
    run_both(
        VALVE,
        """
        TEST 'arguments'
        ASSERT_EQ(named.id, 4); ASSERT_EQ(named.opening, 50);
        ASSERT_EQ(counted.id, 5);
        ASSERT_EQ(plain.id, 99);
        ASSERT_EQ(both.id, 6); ASSERT_EQ(both.opening, 7);
        ASSERT_EQ(bank[1].id, 1); ASSERT_EQ(bank[2].id, 2); ASSERT_EQ(bank[3].id, 3);
        ASSERT_EQ(skid1.inlet.id, 12);
        END_TEST
        TEST 'runs once'
        ASSERT_EQ(named.starts, 1); ASSERT_EQ(plain.starts, 1); ASSERT_EQ(bank[2].starts, 1);
        ASSERT_EQ(skid1.inlet.starts, 1);
        END_TEST
        """,
    )


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("v : Valve(1, 2);", "FB_Init takes 1 arguments, 2 given"),
        ("v : ARRAY [1..2] OF Valve[(1)];", "1 argument lists for the 2 elements"),
        ("v : TON(T#1s);", "has no FB_Init"),
        ("v : ARRAY [1..2] OF INT[(1), (2)];", "has no FB_Init"),
        ("v : Valve(nubmer := 1);", "has no variable nubmer"),
    ],
)
def test_arguments_that_fb_init_does_not_take_are_named(declaration: str, message: str) -> None:
    text = textwrap.dedent(VALVE) + f"PROGRAM Main\nVAR {declaration} END_VAR\nEND_PROGRAM\n"
    assert any(message in m for m in messages(text))


def test_located_variables_need_no_name() -> None:
    run_both(
        """
        PROGRAM Main
        VAR
          AT %MW4 : WORD := 16#0102;
          low : BYTE;
        END_VAR
        low := %MB8;
        END_PROGRAM
        """,
        """
        TEST 'nameless'
        Main(); ASSERT_EQ(Main.low, 2);
        END_TEST
        """,
        "iec",
    )


def test_access_words_may_stand_before_method_and_property() -> None:
    run_both(
        """
        FUNCTION_BLOCK Tank
        VAR content : INT := 3; END_VAR
        PUBLIC PROPERTY Level : INT
        GET Level := content; END_GET
        END_PROPERTY
        PUBLIC METHOD Fill : INT
        VAR_INPUT more : INT; END_VAR
        content := content + more; Fill := content;
        END_METHOD
        END_FUNCTION_BLOCK
        """,
        """
        TEST 'before'
        VAR t : Tank; END_VAR
        ASSERT_EQ(t.Fill(4), 7); ASSERT_EQ(t.Level, 7);
        END_TEST
        """,
        "iec",
    )


def test_properties_may_be_written_as_two_halves() -> None:
    run_both(
        """
        INTERFACE Labelled
        PROPERTY_GET label : DINT END_PROPERTY
        PROPERTY_SET label : DINT END_PROPERTY
        END_INTERFACE
        FUNCTION_BLOCK Lamp IMPLEMENTS Labelled
        VAR kept : DINT := 2; END_VAR
        PROPERTY_GET label : DINT
        label := kept * 10;
        END_PROPERTY
        PROPERTY_SET label : DINT
        kept := label + 1;
        END_PROPERTY
        END_FUNCTION_BLOCK
        """,
        """
        TEST 'halves'
        VAR l : Lamp; i : Labelled; END_VAR
        i := l; ASSERT_EQ(i.label, 20); i.label := 4; ASSERT_EQ(l.label, 50);
        END_TEST
        """,
        "iec",
    )


def test_structures_that_extend_each_other_are_refused() -> None:
    assert "B extends itself" in messages(
        """
        TYPE A EXTENDS B : STRUCT x : INT; END_STRUCT END_TYPE
        TYPE B EXTENDS A : STRUCT y : INT; END_STRUCT END_TYPE
        """
    )


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("x" + " + x" * 2_001, "more than 2000 operators in a row"),
        ("x" + "^" * 500, "more than 200 selections in a row"),
    ],
)
def test_chains_without_end_are_a_diagnostic(expression: str, message: str) -> None:
    assert message in messages(f"PROGRAM Main\nVAR x : DINT; END_VAR\nx := {expression};\nEND_PROGRAM\n")


def test_a_long_sum_compiles() -> None:
    run_both(
        f"PROGRAM Main\nVAR x : DINT; y : DINT := 1; END_VAR\nx := y{' + y' * 1_900};\nEND_PROGRAM\n",
        "TEST 'sum'\nMain(); ASSERT_EQ(Main.x, 1901);\nEND_TEST\n",
    )


def test_case_labels_that_meet_are_found_in_any_order() -> None:
    body = "CASE x OF 10..20: x := 1; 1..3, 5: x := 2; {}: x := 3; END_CASE"
    program = "PROGRAM Main\nVAR x : DINT; END_VAR\n{}\nEND_PROGRAM\n"
    for label in ("20", "8..11", "5", "0..1", "0..99"):
        assert f"the label {label} occurs twice" in messages(program.format(body.format(label)), "iec")
    front([Source("plant.st", program.format(body.format("4, 6..9, 21")))], "iec", Diagnostics())


def test_a_line_may_end_with_a_carriage_return_alone() -> None:
    run_both(
        "PROGRAM Main\rVAR x : DINT; END_VAR\r// x := 1;\rx := 2;\rEND_PROGRAM\r",
        "TEST 'line'\nMain(); ASSERT_EQ(Main.x, 2);\nEND_TEST\n",
    )


BOUNDS = """
    FUNCTION extent : DINT
    VAR_IN_OUT table : ARRAY [*, *] OF BYTE; END_VAR
    VAR_INPUT side : DINT; END_VAR
    extent := UPPER_BOUND(arr := table, dim := side) - LOWER_BOUND(table, side) + 1;
    END_FUNCTION
    """


def test_the_dimension_of_a_bound_may_be_computed() -> None:
    run_both(
        BOUNDS,
        """
        TEST 'computed'
        VAR t : ARRAY [2..4, -1..8] OF BYTE; f : ARRAY [5..9] OF INT; i : INT := 1; END_VAR
        ASSERT_EQ(extent(t, 1), 3); ASSERT_EQ(extent(t, 2), 10);
        ASSERT_EQ(UPPER_BOUND(f, i), 9); ASSERT_EQ(LOWER_BOUND(f, i), 5);
        END_TEST
        """,
        "iec",
    )


def test_a_dimension_that_an_array_does_not_have_faults() -> None:
    with pytest.raises(AssertionError, match="fault"):
        run_both(
            BOUNDS,
            "TEST 'third'\nVAR t : ARRAY [0..1, 0..1] OF BYTE; END_VAR\nASSERT_EQ(extent(t, 3), 0);\nEND_TEST\n",
        )


PLANT = """
    FUNCTION_BLOCK Sensor
    VAR raw AT %I* : INT; alarm AT %Q* : BOOL; level : INT; END_VAR
    level := raw; alarm := raw > 10;
    END_FUNCTION_BLOCK
    PROGRAM Line
    VAR first, second : Sensor; limit : INT; speed AT %Q* : INT; END_VAR
    first(); second(); speed := limit * 2;
    END_PROGRAM
    CONFIGURATION Plant
    RESOURCE Controller ON CPU
      TASK fast (INTERVAL := T#10ms, PRIORITY := 1);
      PROGRAM north WITH fast : Line;
      PROGRAM south WITH fast : Line;
    END_RESOURCE
    VAR_CONFIG
      Controller.north.first.raw AT %IW0 : INT;
      Controller.north.second.raw AT %IW1 : INT;
      north.second.alarm AT %QX0.3 : BOOL;
      north.speed AT %QW4 : INT;
      north.limit : INT := 7;
      south.limit : INT := 8;
      south.second.raw AT %IW2 : INT;
      south.speed AT %QW5 : INT;
    END_VAR
    END_CONFIGURATION
    """


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("north", {"first.level": 3, "second.level": 20, "%QX0.3": True, "%QW4": 14, "%QW5": 0}),
        ("south", {"first.level": 0, "second.level": 40, "%QX0.3": False, "%QW4": 0, "%QW5": 16}),
    ],
)
def test_var_config_gives_every_instance_its_own_address(
    program: str, expected: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = tmp_path / "plant.st"
    plant.write_text(textwrap.dedent(PLANT))
    sets = [f"--set={path}={value}@0" for path, value in (("%IW0", 3), ("%IW1", 20), ("%IW2", 40))]
    code = main([
        "run", str(plant), "--program", program, "--scans", "1", "--period", "10ms", "--json",
        "--watch", ",".join(expected), *sets,
    ])  # fmt: skip
    assert code == 0
    assert json.loads(capsys.readouterr().out)["values"] == expected


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("north.frist.raw AT %IW0 : INT;", "north.frist.raw leads to no variable of a program"),
        ("north.limit : DINT := 7;", "north.limit is INT where it is declared"),
    ],
)
def test_wrong_entries_of_var_config_are_named(entry: str, message: str) -> None:
    assert message in messages(PLANT.replace("north.limit : INT := 7;", entry))


def test_fb_init_of_the_base_runs_before_that_of_the_heir() -> None:
    run_both(
        """
        FUNCTION_BLOCK Drive
        VAR ratio, starts : INT; END_VAR
        METHOD FB_Init : BOOL
        VAR_INPUT gear : INT := 10; END_VAR
        ratio := gear; starts := starts + 1;
        END_METHOD
        END_FUNCTION_BLOCK
        FUNCTION_BLOCK Servo EXTENDS Drive
        VAR twice, kind : INT; END_VAR
        METHOD FB_Init : BOOL
        VAR_INPUT gear : INT := 10; model : INT; END_VAR
        twice := ratio * 2; kind := model;
        END_METHOD
        END_FUNCTION_BLOCK
        FUNCTION_BLOCK Axis EXTENDS Servo
        END_FUNCTION_BLOCK
        VAR_GLOBAL plain : Axis; made : Servo(gear := 4, model := 7); END_VAR
        """,
        """
        TEST 'order'
        ASSERT_EQ(plain.ratio, 10); ASSERT_EQ(plain.twice, 20); ASSERT_EQ(plain.starts, 1);
        ASSERT_EQ(made.ratio, 4); ASSERT_EQ(made.twice, 8); ASSERT_EQ(made.kind, 7); ASSERT_EQ(made.starts, 1);
        END_TEST
        """,
    )


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_time_advances_by_durations_and_by_nanoseconds(profile: str) -> None:
    run_both(
        "FUNCTION Nothing\n;\nEND_FUNCTION\n",
        """
        TEST "nanoseconds"
        VAR t : TON; n : LINT := 40_000_000; END_VAR
        t(IN := TRUE, PT := T#100ms);
        ADVANCE_TIME(50000000); t(); ASSERT_EQ(t.ET, T#50ms);
        ADVANCE_TIME(n); t(); ASSERT_EQ(t.ET, T#90ms);
        ADVANCE_TIME(LTIME#9ms); t(); ASSERT_FALSE(t.Q);
        ADVANCE_TIME(T#1ms); t(); ASSERT_TRUE(t.Q);
        END_TEST
        """,
        profile,
    )


def test_an_action_of_a_block_takes_the_arguments_of_the_block() -> None:
    run_both(
        """
        FUNCTION_BLOCK Feeder
        VAR_IN_OUT jam : BOOL; END_VAR
        VAR_INPUT amount : INT; END_VAR
        VAR_OUTPUT total : INT; END_VAR
        total := -1;
        END_FUNCTION_BLOCK
        ACTIONS
        ACTION feed
        IF NOT jam THEN total := total + amount; END_IF
        jam := total > 5;
        END_ACTION
        END_ACTIONS
        """,
        """
        TEST 'arguments'
        VAR f : Feeder; stuck : BOOL; sum : INT; END_VAR
        f.feed(jam := stuck, amount := 4, total => sum); ASSERT_EQ(sum, 4); ASSERT_FALSE(stuck);
        f.feed(jam := stuck); ASSERT_TRUE(stuck);
        f.feed(jam := stuck, amount := 9); ASSERT_EQ(f.total, 8);
        END_TEST
        """,
    )


def test_a_time_of_day_passes_midnight_the_same_way_when_it_is_constant() -> None:
    run_both(
        "FUNCTION Nothing\n;\nEND_FUNCTION\n",
        """
        TEST 'midnight'
        VAR late : TOD := TOD#23:59:50; early : TOD := TOD#00:00:10; step : TIME := T#20s; END_VAR
        ASSERT_EQ(late + step, TOD#00:00:10); ASSERT_EQ(TOD#23:59:50 + T#20s, TOD#00:00:10);
        ASSERT_EQ(early - step, TOD#23:59:50); ASSERT_EQ(TOD#00:00:10 - T#20s, TOD#23:59:50);
        END_TEST
        """,
        "iec",
    )


@pytest.mark.parametrize("number", ["1.0E400", "-1.0E309", "9" * 400 + ".0"])
def test_a_real_literal_beyond_all_types_is_refused(number: str) -> None:
    program = f"PROGRAM Main\nVAR x : LREAL; END_VAR\nx := {number};\nEND_PROGRAM\n"
    assert any("does not fit LREAL" in m for m in messages(program, "iec"))


def test_an_unknown_type_is_the_only_complaint_about_its_initial_values() -> None:
    program = "PROGRAM Main\nVAR a : Pmup(1) := (x := 2); b : ARRAY [1..2] OF Pmup[(1), (2)]; END_VAR\nEND_PROGRAM\n"
    assert messages(program) == ['unknown type "Pmup"'] * 2


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_a_body_reports_through_eno(profile: str) -> None:
    run_both(
        """
        FUNCTION Share : INT
        VAR_INPUT whole, parts : INT; END_VAR
        IF parts = 0 THEN ENO := FALSE; RETURN; END_IF;
        Share := whole / parts;
        END_FUNCTION
        FUNCTION_BLOCK Gate
        VAR_INPUT level : INT; END_VAR
        VAR runs : INT; END_VAR
        runs := runs + 1;
        IF level > 5 THEN ENO := FALSE; END_IF;
        END_FUNCTION_BLOCK
        """,
        """
        TEST 'function'
        VAR n : INT := 7; ok : BOOL; END_VAR
        n := Share(whole := 10, parts := 2, ENO => ok); ASSERT_TRUE(ok); ASSERT_EQ(n, 5);
        n := Share(EN := TRUE, whole := 10, parts := 0, ENO => ok); ASSERT_FALSE(ok);
        n := 7; ok := TRUE;
        n := Share(EN := FALSE, whole := 10, parts := 2, ENO => ok); ASSERT_FALSE(ok); ASSERT_EQ(n, 7);
        END_TEST
        TEST 'block'
        VAR g : Gate; ok : BOOL; END_VAR
        g(level := 3, ENO => ok); ASSERT_TRUE(ok);
        g(level := 9, ENO => ok); ASSERT_FALSE(ok);
        g(EN := TRUE, level := 3, ENO => ok); ASSERT_TRUE(ok);
        g(EN := FALSE, ENO => ok); ASSERT_FALSE(ok); ASSERT_EQ(g.runs, 3);
        END_TEST
        """,
        profile,
    )


def test_initial_values_of_an_instance_may_go_through_properties() -> None:
    run_both(
        """
        FUNCTION_BLOCK Tank
        VAR litres : INT; END_VAR
        PROPERTY Hectolitres : INT
        GET
        Hectolitres := litres / 100;
        END_GET
        SET
        litres := Hectolitres * 100;
        END_SET
        END_PROPERTY
        END_FUNCTION_BLOCK
        VAR_GLOBAL t : Tank := (Hectolitres := 3);
          row : ARRAY [1..2] OF Tank := [(Hectolitres := 1), (Hectolitres := 2)];
        END_VAR
        """,
        """
        TEST 'property'
        ASSERT_EQ(t.litres, 300); ASSERT_EQ(row[2].litres, 200);
        END_TEST
        """,
    )


def test_conversions_and_sizes_of_constants_are_constants() -> None:
    run_both(
        """
        TYPE Kind : (Slow := 3, Fast) DINT; END_TYPE
        TYPE Code : (A := ANY_TO_DINT(Kind.Slow), B := DINT_TO_INT(Kind.Fast) * 10) DINT; END_TYPE
        TYPE Frame : STRUCT head : BYTE; body : LREAL; END_STRUCT END_TYPE
        VAR_GLOBAL CONSTANT
          N : INT := MAX(2, REAL_TO_INT(3.5));
          M : UINT := SHL(1, 3);
        END_VAR
        VAR_GLOBAL a : ARRAY [1..N] OF INT; raw : ARRAY [0..SIZEOF(Frame) - 1] OF BYTE; q : ARRAY [1..M] OF INT; END_VAR
        """,
        """
        TEST 'constants'
        ASSERT_EQ(Code.A, Code#A); ASSERT_EQ(DINT_TO_INT(Code.B), 40);
        ASSERT_EQ(SIZEOF(a), 8); ASSERT_EQ(SIZEOF(raw), SIZEOF(Frame)); ASSERT_EQ(SIZEOF(q), 16);
        END_TEST
        """,
    )


def test_words_of_the_test_language_are_names_in_programs() -> None:
    run_both(
        """
        FUNCTION TEST : INT
        VAR_INPUT name : STRING; END_VAR
        TEST := LEN(name);
        END_FUNCTION
        FUNCTION_BLOCK Machine
        VAR SETUP : R_TRIG; n : INT; END_VAR
        TEST('abc');
        SETUP(CLK := TRUE);
        n := TEST('abcd');
        END_FUNCTION_BLOCK
        """,
        """
        TEST 'names'
        VAR m : Machine; END_VAR
        m(); ASSERT_EQ(m.n, 4); ASSERT_TRUE(m.SETUP.Q);
        END_TEST
        """,
    )


def test_an_own_action_takes_the_arguments_of_its_block() -> None:
    run_both(
        """
        FUNCTION_BLOCK Mixer
        VAR_INPUT rate : INT; END_VAR
        VAR total : INT; END_VAR
        Add(rate := 5);
        THIS^.Add(rate := 2);
        ACTION Add:
        total := total + rate;
        END_ACTION
        END_FUNCTION_BLOCK
        """,
        """
        TEST 'action'
        VAR m : Mixer; END_VAR
        m(); ASSERT_EQ(m.total, 7);
        END_TEST
        """,
    )


def test_a_function_may_have_the_name_of_a_type() -> None:
    run_both(
        """
        FUNCTION TIME : TIME
        TIME := T#3s;
        END_FUNCTION
        FUNCTION_BLOCK F
        VAR t : TIME; END_VAR
        t := TIME();
        END_FUNCTION_BLOCK
        """,
        "TEST 'time' VAR f : F; END_VAR f(); ASSERT_EQ(f.t, T#3s); END_TEST",
    )


def test_library_and_list_names_before_a_name_are_passed_over() -> None:
    run_both(
        """
        FUNCTION_BLOCK Queue
        VAR n : INT; END_VAR
        METHOD Push
        n := n + 1;
        END_METHOD
        n := n + 10;
        END_FUNCTION_BLOCK
        FUNCTION_BLOCK Long EXTENDS Stock.Queue
        SUPER^();
        END_FUNCTION_BLOCK
        VAR_GLOBAL line : Long; END_VAR
        FUNCTION_BLOCK Feeder
        Lists.line(); Lists.line.Push();
        END_FUNCTION_BLOCK
        """,
        "TEST 'names' VAR f : Feeder; END_VAR f(); ASSERT_EQ(line.n, 11); END_TEST",
    )


def test_the_control_blocks_of_the_annex_are_there() -> None:
    run_both(
        "",
        """
        TEST 'hysteresis'
        VAR h : HYSTERESIS; END_VAR
        h(XIN1 := 3.0, XIN2 := 2.0, EPS := 0.5); ASSERT_TRUE(h.Q);
        h(XIN1 := 1.6); ASSERT_TRUE(h.Q);
        h(XIN1 := 1.4); ASSERT_FALSE(h.Q);
        h(XIN1 := 2.4); ASSERT_FALSE(h.Q);
        END_TEST
        TEST 'integral and derivative count in seconds'
        VAR i : INTEGRAL; d : DERIVATIVE; n : INT; END_VAR
        FOR n := 1 TO 10 DO i(RUN := TRUE, XIN := 2.0, CYCLE := T#100ms); END_FOR;
        ASSERT_NEAR(i.XOUT, 2.0, 0.0001);
        i(R1 := TRUE, X0 := 7.0); ASSERT_EQ(i.XOUT, 7.0); ASSERT_FALSE(i.Q);
        d(RUN := FALSE, XIN := 0.0, CYCLE := T#100ms);
        FOR n := 1 TO 5 DO d(RUN := TRUE, XIN := INT_TO_REAL(n)); END_FOR;
        ASSERT_NEAR(d.XOUT, 10.0, 0.001);
        END_TEST
        TEST 'ramp'
        VAR r : RAMP; n : INT; END_VAR
        r(RUN := FALSE, X0 := 1.0, X1 := 5.0, TR := T#1s, CYCLE := T#250ms);
        FOR n := 1 TO 3 DO r(RUN := TRUE); END_FOR;
        ASSERT_NEAR(r.XOUT, 3.0, 0.0001); ASSERT_TRUE(r.BUSY);
        FOR n := 1 TO 3 DO r(); END_FOR;
        ASSERT_EQ(r.XOUT, 5.0); ASSERT_FALSE(r.BUSY);
        END_TEST
        TEST 'pid'
        VAR c : PID; END_VAR
        c(AUTO := TRUE, PV := 3.0, SP := 1.0, KP := 2.0, TR := 1.0, TD := 0.0, CYCLE := T#100ms);
        ASSERT_NEAR(c.XOUT, 4.4, 0.0001);
        END_TEST
        """,
        "iec",
    )


def test_an_older_ampersand_takes_the_address() -> None:
    run_both(
        "VAR_GLOBAL x : INT := 4; p : REF_TO INT; END_VAR",
        "TEST 'address' p := &x; p^ := 5; ASSERT_EQ(x, 5); ASSERT_TRUE((x = 5) & (p^ = 5)); END_TEST",
    )


def test_a_missing_semicolon_costs_one_message_and_no_declaration() -> None:
    text = """
        PROGRAM P
        VAR a : INT END_VAR
        VAR b : INT
          c : REAL; END_VAR
        a := 1; b := 2; c := 3.0;
        END_PROGRAM
        """
    assert messages(text, "iec") == ['expected ";", found "END_VAR"', 'expected ";", found "c"']


def test_what_needs_memory_or_catches_faults_is_named() -> None:
    text = """
        FUNCTION_BLOCK F
        END_FUNCTION_BLOCK
        PROGRAM P
        VAR p : POINTER TO F; x, e : INT; END_VAR
        p := __NEW(F);
        __TRY
        x := 1;
        __CATCH(e)
        x := 2;
        __FINALLY
        x := 3;
        __ENDTRY
        END_PROGRAM
        """
    said = messages(text)
    assert len(said) == 2
    assert any("__NEW is not supported" in one for one in said)
    assert any("__TRY is not supported" in one for one in said)


def test_a_real_literal_beyond_real_is_an_error() -> None:
    assert "does not fit REAL" in messages("PROGRAM P VAR r : REAL := 1.0E39; END_VAR END_PROGRAM", "iec")[0]
    assert "does not fit REAL" in messages("PROGRAM P VAR r : REAL; END_VAR r := REAL#-1E40; END_PROGRAM", "iec")[0]


def test_an_instance_is_not_constant() -> None:
    text = "PROGRAM P VAR CONSTANT t : TON; END_VAR t(); END_PROGRAM"
    assert "t is CONSTANT" in messages(text, "iec")[0]


def test_long_durations_and_dates_are_written_with_their_full_words() -> None:
    run_both(
        "",
        """
        TEST 'texts'
        ASSERT_EQ(LTIME_TO_STRING(LTIME#90s), 'LTIME#1m30s'); ASSERT_EQ(TIME_TO_STRING(T#90s), 'T#1m30s');
        ASSERT_EQ(LDATE_TO_STRING(LDATE#2024-01-05), 'LDATE#2024-01-05');
        END_TEST
        """,
        "iec",
    )


BREWERY = """
    FUNCTION_BLOCK Limit
    VAR_INPUT top : INT := 1; END_VAR
    VAR n : INT; END_VAR
    END_FUNCTION_BLOCK
    TYPE Recipe : STRUCT litres : INT; name : STRING; END_STRUCT END_TYPE
    VAR_GLOBAL pressure : ARRAY [0..2] OF REAL; END_VAR
    PROGRAM Line
    VAR f : Limit; r : Recipe; ok : BOOL; END_VAR
    f();
    END_PROGRAM
    CONFIGURATION Plant
      RESOURCE Cpu ON PLC
        TASK Slow (INTERVAL := T#10ms, PRIORITY := 1);
        PROGRAM line1 WITH Slow : Line;
        PROGRAM line2 WITH Slow : Line;
      END_RESOURCE
      VAR_CONFIG
        Cpu.line1.f : Limit := (top := 5);
        Cpu.line2.r : Recipe := (litres := 7, name := 'red');
      END_VAR
      VAR_ACCESS
        amount : Cpu.line2.r.litres : INT READ_WRITE;
        third : pressure[2] : REAL READ_ONLY;
        whole : Plant.Cpu.line1.r : Recipe;
        port : Cpu.%QW4 : WORD READ_WRITE;
      END_VAR
    END_CONFIGURATION
    """


def test_var_config_gives_structures_and_instances_their_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = tmp_path / "plant.st"
    plant.write_text(textwrap.dedent(BREWERY))
    assert main(["run", str(plant), "--program", "line1", "--json", "--watch", "f.top,r.litres"]) == 0
    assert json.loads(capsys.readouterr().out)["values"] == {"f.top": 5, "r.litres": 0}
    assert main(["run", str(plant), "--program", "line2", "--json", "--watch", "f.top,r.litres,r.name"]) == 0
    assert json.loads(capsys.readouterr().out)["values"] == {"f.top": 1, "r.litres": 7, "r.name": "red"}


def test_access_paths_go_to_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant = tmp_path / "plant.st"
    plant.write_text(textwrap.dedent(BREWERY))
    assert main(["build", str(plant), "-o", str(tmp_path / "plant.so"), "-O", "0"]) == 0
    capsys.readouterr()
    assert json.loads((tmp_path / "plant.json").read_text())["access"] == [
        {"name": "amount", "path": "line2.r.litres", "type": "INT", "writable": True},
        {"name": "third", "path": "pressure[2]", "type": "REAL", "writable": False},
        {"name": "whole", "path": "line1.r", "type": "Recipe", "writable": False},
        {"name": "port", "path": "%QW4", "type": "WORD", "writable": True},
    ]


def test_an_access_path_that_leads_nowhere_or_to_another_type_is_an_error() -> None:
    wrong = BREWERY.replace("line2.r.litres : INT", "line2.r.litre : INT")
    assert "this path leads to no variable" in messages(wrong, "iec")[0]
    wrong = BREWERY.replace("line2.r.litres : INT", "line2.r.litres : REAL")
    assert "is INT, not REAL" in messages(wrong, "iec")[0]


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_a_program_has_methods_of_its_own(profile: str) -> None:
    run_both(
        """
        PROGRAM Store
        VAR parts : INT := 40; got : INT; END_VAR
        METHOD Take : INT
        VAR_INPUT n : INT; END_VAR
        VAR parts : INT := 2; END_VAR
        Take := parts + n;
        END_METHOD
        PROPERTY Half : INT
        GET
        Half := parts / 2;
        END_GET
        END_PROPERTY
        got := Take(3);
        END_PROGRAM
        """,
        """
        TEST 'program'
        Store(); ASSERT_EQ(Store.got, 5); ASSERT_EQ(Store.Take(n := 8), 10); ASSERT_EQ(Store.Half, 20);
        END_TEST
        """,
        profile,
    )


def test_case_selects_by_strings() -> None:
    run_both(
        """
        FUNCTION Points : INT
        VAR_INPUT side : STRING; END_VAR
        CASE CONCAT(side, '!') OF
          'north!', 'south!': Points := 1;
          'east!': Points := 2;
        ELSE Points := 9;
        END_CASE;
        END_FUNCTION
        """,
        """
        TEST 'strings'
        VAR w : WSTRING := "b"; n : INT; END_VAR
        ASSERT_EQ(Points('south'), 1); ASSERT_EQ(Points('east'), 2); ASSERT_EQ(Points('up'), 9);
        CASE w OF "a": n := 1; "b": n := 2; END_CASE;
        ASSERT_EQ(n, 2);
        END_TEST
        """,
        "iec",
    )
    assert messages("PROGRAM P VAR s : STRING; END_VAR CASE s OF 3: s := 'a'; END_CASE; END_PROGRAM", "iec")


def test_a_field_may_begin_as_a_reference_to_a_global() -> None:
    run_both(
        """
        TYPE Source : STRUCT name : REF_TO STRING := REF(plant); third : POINTER TO INT := ADR(row[3]); n : INT := 4;
        END_STRUCT END_TYPE
        VAR_GLOBAL plant : STRING := 'north'; row : ARRAY [1..3] OF INT := [1, 2, 3]; one : Source; END_VAR
        FUNCTION_BLOCK F
        VAR inner : ARRAY [0..1] OF Source; END_VAR
        END_FUNCTION_BLOCK
        """,
        """
        TEST 'references'
        VAR f : F; s : Source; END_VAR
        ASSERT_EQ(one.name^, 'north'); ASSERT_EQ(one.third^, 3); ASSERT_EQ(f.inner[1].third^, 3); ASSERT_EQ(s.n, 4);
        ASSERT_EQ(s.name^, 'north');
        END_TEST
        """,
    )


def test_sizeof_takes_a_type_of_a_namespace() -> None:
    run_both(
        "NAMESPACE Shop TYPE Item : STRUCT a : INT; b : DINT; END_STRUCT END_TYPE END_NAMESPACE",
        "TEST 'size' ASSERT_EQ(SIZEOF(Shop.Item), 8); END_TEST",
    )


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_a_variable_may_choose_the_part_of_a_word(profile: str) -> None:
    run_both(
        "",
        """
        TEST 'parts'
        VAR w : LWORD := 16#1122_3344_5566_7788; b : BYTE := 2#101; i : INT; t : ARRAY [0..1] OF WORD; END_VAR
        i := 7; ASSERT_EQ(w.%Bi, BYTE#16#11);
        i := 3; ASSERT_TRUE(w.%Xi); ASSERT_EQ(w.%Wi, WORD#16#1122);
        i := 2; b.%Xi := FALSE; i := 1; b.%Xi := TRUE; ASSERT_EQ(b, BYTE#2#011);
        t[i].%Bi := BYTE#16#AB; ASSERT_EQ(t[1], WORD#16#AB00);
        w.%D1.%Wi := WORD#16#FFFF; ASSERT_EQ(w, LWORD#16#FFFF_3344_5566_7788);
        END_TEST
        """,
        profile,
    )


def test_a_part_beyond_the_word_is_a_fault() -> None:
    diagnostics = Diagnostics()
    text = "TEST 'far' VAR b : BYTE; i : INT := 8; END_VAR b.%Xi := TRUE; END_TEST"
    done = run_tests([], [Source("far_test.st", text)], "iec", diagnostics, 0)
    assert not done[0].passed
    assert "0..7" in done[0].message


def test_conditional_pragmas_leave_out_what_they_exclude() -> None:
    run_both(
        """
        {define Simulated}
        FUNCTION_BLOCK Valve
        VAR
        {IF defined (Hardware)}
          stroke : REAL;
        {ELSIF defined (Simulated) AND NOT defined (Hardware)}
          stroke : INT := 4;
        {ELSE}
          stroke : TIME;
        {END_IF}
          n : INT;
        END_VAR
        {IF defined (Simulated)} {IF defined (type: Nothing)} n := 1; {ELSE} n := 2; {END_IF} {END_IF}
        {undefine Simulated}
        {IF defined (Simulated) OR (defined (pou: Valve))} n := 3; {END_IF}
        END_FUNCTION_BLOCK
        """,
        "TEST 'taken' VAR v : Valve; END_VAR v(); ASSERT_EQ(v.n, 2); ASSERT_EQ(v.stroke, 4); END_TEST",
    )
    assert messages("{IF defined (A)}\nPROGRAM P END_PROGRAM") == ["{IF} is never closed"]


def test_methods_behind_their_block_may_lack_an_end() -> None:
    run_both(
        """
        FUNCTION_BLOCK Pump
        VAR speed : INT; END_VAR
        END_FUNCTION_BLOCK

        METHOD PUBLIC Faster
        speed := speed + 1;

        METHOD Slower : BOOL
        VAR_INPUT by_much : INT := 1; END_VAR
        speed := speed - by_much;
        Slower := TRUE;

        FUNCTION Two : INT
        Two := 2;
        END_FUNCTION
        """,
        """
        TEST 'methods'
        VAR p : Pump; END_VAR
        p.Faster(); p.Faster(); p.Slower(by_much := Two()); ASSERT_EQ(p.speed, 0);
        END_TEST
        """,
    )


def test_integers_from_standard_functions_go_to_any_integer() -> None:
    run_both(
        "",
        """
        TEST 'dates'
        VAR year, month, day : INT; week : SINT; small : USINT; END_VAR
        SPLIT_DATE(IN := D#2024-02-29, YEAR => year, MONTH => month, DAY => day);
        ASSERT_EQ(year, 2024); ASSERT_EQ(month, 2); ASSERT_EQ(day, 29);
        week := DAY_OF_WEEK(D#2024-02-29); ASSERT_EQ(week, 4);
        END_TEST
        """,
        "iec",
    )


def test_an_empty_action_does_nothing() -> None:
    run_both(
        """
        FUNCTION_BLOCK Valve
        VAR n : INT; END_VAR
        Later();
        n := n + 1;
        ACTION Later:
        END_ACTION
        END_FUNCTION_BLOCK
        """,
        "TEST 'empty' VAR v : Valve; END_VAR v(); v.Later(); ASSERT_EQ(v.n, 1); END_TEST",
    )


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_standard_functions_obey_en_and_set_eno(profile: str) -> None:
    run_both(
        "FUNCTION Half : INT VAR_INPUT x : INT; END_VAR Half := x / 2; END_FUNCTION",
        """
        TEST 'numbers'
        VAR n : INT := 7; r : REAL := 2.5; ok : BOOL := TRUE; END_VAR
        n := ADD(EN := FALSE, IN1 := 1, IN2 := n, ENO => ok); ASSERT_EQ(n, 7); ASSERT_FALSE(ok);
        n := ADD(EN := TRUE, IN1 := 1, IN2 := n, ENO => ok); ASSERT_EQ(n, 8); ASSERT_TRUE(ok);
        r := INT_TO_REAL(EN := NOT ok, IN := n); ASSERT_EQ(r, 2.5);
        r := Half(EN := FALSE, x := 9, ENO => ok); ASSERT_EQ(r, 2.5); ASSERT_FALSE(ok);
        n := SEL(EN := TRUE, G := TRUE, IN0 := 1, IN1 := 2, ENO => ok); ASSERT_EQ(n, 2); ASSERT_TRUE(ok);
        n := 10 / ADD(EN := TRUE, IN1 := 2, IN2 := 3); ASSERT_EQ(n, 2);
        END_TEST
        TEST 'texts'
        VAR s : STRING := 'old'; ok : BOOL; END_VAR
        s := CONCAT(EN := ok, IN1 := 'a', IN2 := 'b'); ASSERT_EQ(s, 'old');
        s := CONCAT(EN := TRUE, IN1 := 'a', IN2 := s, ENO => ok); ASSERT_EQ(s, 'aold'); ASSERT_TRUE(ok);
        ASSERT_EQ(CONCAT(EN := FALSE, IN1 := 'a', IN2 := s), '');
        END_TEST
        """,
        profile,
    )


def test_bytes_are_copied_filled_and_compared() -> None:
    run_both(
        """
        INTERFACE Asked EXTENDS __SYSTEM.IQueryInterface
        METHOD Go
        END_METHOD
        END_INTERFACE
        """,
        """
        TEST 'bytes'
        VAR a, b : ARRAY [0..3] OF BYTE := [1, 2, 3, 4]; d : DINT := 16#01020304; END_VAR
        Tc2_System.MEMCPY(destAddr := ADR(a), srcAddr := ADR(d), n := SIZEOF(d));
        ASSERT_EQ(a[0], 4); ASSERT_EQ(a[3], 1);
        ASSERT_EQ(MEMCMP(ADR(a), ADR(b), 4), 1); ASSERT_EQ(MEMCMP(ADR(b), ADR(b), 4), 0);
        MEMMOVE(ADR(b[1]), ADR(b[0]), 3); ASSERT_EQ(b[1], 1); ASSERT_EQ(b[3], 3);
        MEMSET(ADR(a), 255, 2); ASSERT_EQ(a[1], 255); ASSERT_EQ(a[2], 2);
        MEMSET(ADR(a), 7, 0); ASSERT_EQ(a[0], 255);
        END_TEST
        """,
    )


def test_a_variable_may_have_the_name_of_its_enumeration() -> None:
    run_both(
        """
        TYPE State : (Idle, Busy := 4); END_TYPE
        FUNCTION_BLOCK F
        VAR state : State; n : INT; END_VAR
        state := State.Busy;
        IF state = State.Busy THEN n := 1; END_IF;
        END_FUNCTION_BLOCK
        """,
        "TEST 'state' VAR f : F; END_VAR f(); ASSERT_EQ(f.n, 1); END_TEST",
        "iec",
    )


@pytest.mark.parametrize("profile", ["iec", "codesys"])
def test_a_global_array_with_the_value_of_a_structure_is_an_error(profile: str) -> None:
    assert messages("VAR_GLOBAL a : ARRAY [0..2] OF INT := (b := 1); END_VAR PROGRAM P END_PROGRAM", profile)
