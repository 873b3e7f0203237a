"""What goes into an image, and when it has to be built again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workloads.images import ImageError, inputs
from workloads.images.build import ROOT
from workloads.images.recipes import BASE, JUDGE, RECIPES, Recipe, named
from workloads.images.wheels import strip, target_options

SMALL = Recipe("modbus", "workloads/modbus", ("manifests", "workloads/__init__.py", "workloads/modbus"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (
        "manifests/model.py",
        "manifests/__pycache__/model.cpython-311.pyc",
        "workloads/__init__.py",
        "workloads/modbus/__main__.py",
        "workloads/modbus/Dockerfile",
        "workloads/modbus/requirements.txt",
        "workloads/opcua/__main__.py",
        "orchestrator/__main__.py",
        "orchestrator/console/package.json",
        "orchestrator/console/src/main.ts",
        "orchestrator/console/node_modules/x/index.js",
        "orchestrator/console/dist/index.html",
        "orchestrator/console/dist/assets/app.js",
        "orchestrator/Dockerfile",
        "orchestrator/requirements.txt",
        *JUDGE,
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_a_workload_gets_the_contract_and_its_own_folder_only(checkout: Path) -> None:
    assert list(inputs.files(checkout, SMALL)) == [
        "manifests/model.py",
        "workloads/__init__.py",
        "workloads/modbus/__main__.py",
    ]


def test_of_the_console_only_what_was_built_goes_in(checkout: Path) -> None:
    names = list(inputs.files(checkout, named("orchestrator")))
    assert [name for name in names if "console" in name] == [
        "orchestrator/console/dist/assets/app.js",
        "orchestrator/console/dist/index.html",
    ]


def test_an_unbuilt_console_is_refused_with_the_remedy(checkout: Path) -> None:
    (checkout / "orchestrator/console/dist/index.html").unlink()
    with pytest.raises(ImageError, match=r"console is not built(.|\n)*\./run setup"):
        inputs.files(checkout, named("orchestrator"))


def test_a_missing_source_is_named(checkout: Path) -> None:
    (checkout / "workloads/__init__.py").unlink()
    with pytest.raises(ImageError, match=r"workloads/__init__\.py"):
        inputs.files(checkout, SMALL)


@pytest.mark.parametrize(
    "changed",
    [
        "manifests/model.py",
        "workloads/modbus/__main__.py",
        "workloads/modbus/Dockerfile",
        "workloads/modbus/requirements.txt",
    ],
)
def test_any_changed_input_asks_for_a_new_image(checkout: Path, changed: str) -> None:
    before = inputs.digest(checkout, SMALL, "sha256:base")
    (checkout / changed).write_text("other")
    assert inputs.digest(checkout, SMALL, "sha256:base") != before


def test_a_moved_file_asks_for_a_new_image(checkout: Path) -> None:
    before = inputs.digest(checkout, SMALL, "sha256:base")
    (checkout / "manifests/model.py").rename(checkout / "manifests/models.py")
    assert inputs.digest(checkout, SMALL, "sha256:base") != before


def test_another_base_asks_for_a_new_image(checkout: Path) -> None:
    assert inputs.digest(checkout, SMALL, "sha256:one") != inputs.digest(checkout, SMALL, "sha256:two")


@pytest.mark.parametrize("unrelated", ["workloads/opcua/__main__.py", "manifests/__pycache__/new.pyc"])
def test_an_unrelated_change_builds_nothing(checkout: Path, unrelated: str) -> None:
    before = inputs.digest(checkout, SMALL, "sha256:base")
    (checkout / unrelated).write_text("other")
    assert inputs.digest(checkout, SMALL, "sha256:base") == before


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.runtime], ids=lambda recipe: recipe.name)
def test_a_control_program_adds_one_layer_to_its_runtime_and_nothing_else(recipe: Recipe) -> None:
    text = (ROOT / recipe.dockerfile).read_text()
    orders = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line.split()[0] for line in orders] == ["ARG", "FROM", "COPY"]
    assert orders[1:] == ["FROM ${RUNTIME}", "COPY program /app/program"]
    assert recipe.runtime is not None
    assert named(recipe.runtime).native


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if not recipe.runtime], ids=lambda recipe: recipe.name)
def test_every_dockerfile_runs_unprivileged_on_the_one_base(recipe: Recipe) -> None:
    text = (ROOT / recipe.dockerfile).read_text()
    bases = {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")}
    assert bases == ({"scratch"} if recipe.rootfs else {BASE})
    final = text[text.rindex("\nFROM ") :]
    assert "\nUSER 10001:10001\n" in final
    assert re.search(r"^ENTRYPOINT \[", final, re.MULTILINE)
    # The trimmed base has no shell: every command must be in exec form.
    assert not re.search(r"^(RUN|CMD|ENTRYPOINT) (?!\[)", text, re.MULTILINE)
    assert f"workloads.images context {recipe.name}`" in text


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.requirements], ids=lambda r: r.name)
def test_every_requirement_is_pinned_by_hash_and_names_no_index(recipe: Recipe) -> None:
    assert recipe.requirements
    text = (ROOT / recipe.requirements).read_text()
    development = (ROOT / "tests/requirements.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", text):
        if entry.startswith("#"):
            continue
        assert re.match(r"[a-z0-9._-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry
        pinned = entry.split()[0]
        assert re.search(rf"^{re.escape(pinned)}( |$)", development, re.MULTILINE), f"{pinned} is not what tests run"


def test_wheels_are_chosen_for_the_engine_not_for_this_machine() -> None:
    options = target_options("arm64")
    assert "manylinux_2_28_aarch64" in options
    assert not any("x86_64" in option for option in options)
    assert not any("manylinux_2_37" in option for option in options), "bookworm has glibc 2.36"


def test_stripping_keeps_code_and_licences(tmp_path: Path) -> None:
    for name in (
        "pkg/__init__.py",
        "pkg/fast.so",
        "pkg/fast.pyi",
        "pkg/tests/test_pkg.py",
        "pkg/big/extra.py",
        "pkg-1.dist-info/METADATA",
        "pkg-1.dist-info/RECORD",
        "pkg-1.dist-info/licenses/LICENSE",
        "bin/pkg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    strip(tmp_path, unused=("pkg/big/*",))
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        "pkg/__init__.py",
        "pkg/fast.so",
        "pkg-1.dist-info/METADATA",
        "pkg-1.dist-info/licenses/LICENSE",
    }
