"""`make layers` refuses what it is there to refuse: planted violations in a tree of their own."""
import pathlib
import subprocess
import sys

import pytest

LAYERS = pathlib.Path(__file__).resolve().parents[2] / "tools" / "layers.py"

PLANTED = {
    "another room": ("kernels/a.c", '#include "tracker/ops/store.h"\n', "kernels may not include tracker"),
    "a daemon's header in the client": ("client/cli/a.c", '#include "coordinator/shell/shell.h"\n', "may not include coordinator"),
    "a library outside its file": ("core/a.c", "#include <zmq.h>\n", "<zmq.h> belongs in wire/net.c"),
    "a path that is not from the root": ("worker/a.c", '#include "world.h"\n', "not written from the root"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_planted_violation(what, tmp_path):
    name, text, words = PLANTED[what]
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text)
    done = subprocess.run([sys.executable, LAYERS, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and words in done.stdout and name in done.stdout, done


def test_clean_tree(tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "a.c").write_text('#include "core/status.h"\n#include "kernels/graph/model.h"\n')
    assert subprocess.run([sys.executable, LAYERS, tmp_path]).returncode == 0
