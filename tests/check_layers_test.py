#!/usr/bin/env python3
"""check_layers.py refuses what it is for: an include that goes up, a vendor's header outside its backend, two types of one
name."""
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1])
CASES = [  # file, text, part of the complaint; None: nothing to complain about
    ("src/plan/a.cc", '#include "base/check.h"\n', None),
    ("src/plan/a.cc", '#include "device/ops.h"\n', "plan/ may not include device/ops.h"),
    ("src/model/a.cc", "#include <cuda_runtime.h>\n", "belongs in src/device/cuda/ only"),
    ("src/device/cpu/a.cc", "#include <acl/acl.h>\n", "belongs in src/device/ascend/ only"),
    ("src/engine/a.cc", "#include <mpi.h>\n", "belongs in src/comm/mpi/ only"),
    ("src/engine/a.cc", "#include <immintrin.h>\n", "belongs in src/device/cpu/ only"),
    ("sim/cann/core/a.cc", '#include "core/call.h"\n', None),
    ("sim/cann/core/a.cc", '#include "tensor/dtype.h"\n', "sim/ may not include tensor/dtype.h"),
    ("src/device/ascend/a.cc", '#include "abi/acl.h"\n', "may not include the simulator's abi/acl.h"),
    ("include/longspan/a.h", "#include <fmt/format.h>\n", "standard headers only"),
    ("src/comm/a.h", "namespace longspan {\nstruct Letter {};\n}\n", "src/comm/a.h:2: longspan::Letter is a type in include/longspan/letter.h:2 too"),
    ("src/comm/a.cc", "namespace longspan {\nenum class Letter : int { kA };\n}\n", "longspan::Letter is a type in"),
    ("src/comm/a.cc", "namespace longspan {\nstruct B {};\nclass Letter final : public B {};\n}\n", "longspan::Letter is a type in"),
    ("src/comm/a.cc", "namespace longspan {\nnamespace {\nstruct Letter {};\n}\n}\n", None),
    ("src/comm/a.h", "namespace longspan::cli {\nstruct Letter {};\n}\n", None),
    ("src/comm/a.h", "namespace longspan {\nclass A {\n  struct Letter {};\n};\nvoid f() { struct Letter {}; }\n}\n", None),
    ("src/comm/a.h", "namespace longspan {\nclass Letter;  // struct Letter {\ntemplate <class Letter> struct A {};\n}\n", None),
]

failures = 0
for name, text, complaint in CASES:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True)
        path.write_text(text)
        public = pathlib.Path(folder, "include/longspan/letter.h")
        public.parent.mkdir(parents=True, exist_ok=True)
        public.write_text("namespace longspan {\nstruct Letter {};\n}\n")
        pathlib.Path(folder, "src").mkdir(exist_ok=True)
        run = subprocess.run([sys.executable, ROOT / "scripts/check_layers.py", folder], capture_output=True, text=True)
        good = run.returncode == 0 if complaint is None else run.returncode == 1 and complaint in run.stdout
        if not good:
            failures += 1
            print(f"FAILED: {name} with {text!r}: exit {run.returncode}, {run.stdout!r}, wanted {complaint!r}")
print("check_layers: refuses what it should" if not failures else f"{failures} failed")
sys.exit(failures > 0)
