"""The optional compiled parts: every C file of ``martlet/native``.

Without a compiler the pure paths serve, slower and with the same answers.
"""

from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("src/martlet/native")

setup(
    ext_modules=[
        Extension(
            f"martlet.native._{source.stem}",
            [source.as_posix()],
            depends=[each.as_posix() for each in sorted(NATIVE.glob("*.h"))],
            extra_compile_args=["-O3", "-std=c99", "-ffp-contract=off"],
            optional=True,
        )
        for source in sorted(NATIVE.glob("*.c"))
    ]
)
