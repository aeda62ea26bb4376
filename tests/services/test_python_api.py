"""What ``import tomofly`` offers is there, and costs nothing until it is used."""

import subprocess
import sys

import pytest

import tomofly


def test_every_public_name_is_there_and_has_its_documentation() -> None:
    for name in tomofly.__all__:
        assert getattr(tomofly, name)
        if name != "__version__":
            assert getattr(tomofly, name).__doc__
    assert dir(tomofly) == sorted(tomofly.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'sesion'"):
        _ = tomofly.sesion


def test_importing_the_package_loads_nothing_heavy() -> None:
    probe = "import sys, tomofly; print('numpy' in sys.modules or 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
