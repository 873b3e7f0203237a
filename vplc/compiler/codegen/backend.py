"""IR text to machine code through LLVM: in memory for `run`, as an object file for `build`.

The only module that imports llvmlite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vplc.compiler.source import UnsupportedError

TRIPLES = {
    "x86-64": ("x86_64-unknown-linux-gnu", "x86-64-v2", ""),
    "aarch64": ("aarch64-unknown-linux-gnu", "generic", ""),
    "armv7": ("armv7-unknown-linux-gnueabihf", "generic", "+vfp3d16"),
    "riscv64": ("riscv64-unknown-linux-gnu", "generic-rv64", "+m,+a,+f,+d,+c"),
}


def _binding() -> Any:  # llvmlite carries no types
    try:
        import llvmlite.binding as binding
    except ImportError as error:
        raise UnsupportedError("code generation needs llvmlite: pip install 'sluice[vplc]'") from error
    return binding


def _machine(triple: str, cpu: str, features: str, level: int, jit: bool) -> Any:
    binding = _binding()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(triple)
    return target.create_target_machine(
        cpu=cpu,
        features=features,
        opt=level,
        reloc="pic",
        jit=jit,
        codemodel="jitdefault" if jit else "default",
        abiname="lp64d" if triple.startswith("riscv64") else "",
    )


def _optimise(module: Any, machine: Any, level: int) -> None:
    if level == 0:
        return
    binding = _binding()
    options = binding.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = level >= 2
    options.slp_vectorization = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def compile_object(ir: str, target: str, level: int) -> bytes:
    """An ELF object for one of TRIPLES."""
    binding = _binding()
    triple, cpu, features = TRIPLES[target]
    machine = _machine(triple, cpu, features, level, jit=False)
    module = binding.parse_assembly(ir)
    module.triple = triple
    module.data_layout = str(machine.target_data)
    module.verify()
    _optimise(module, machine, level)
    result: bytes = machine.emit_object(module)
    return result


@dataclass
class Loaded:
    """Machine code in this process; keep it referenced while functions are in use."""

    engine: Any

    def address(self, name: str) -> int:
        return int(self.engine.get_function_address(name))


def load(ir: str, level: int) -> Loaded:
    """Compiles for this machine and makes the code callable."""
    binding = _binding()
    triple = binding.get_default_triple()
    cpu = "x86-64-v2" if triple.startswith("x86_64") else ""
    machine = _machine(triple, cpu, "", level, jit=True)
    module = binding.parse_assembly(ir)
    module.triple = triple
    module.data_layout = str(machine.target_data)
    module.verify()
    _optimise(module, machine, level)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return Loaded(engine)
